#pragma once

namespace convmin::ptx {

// NaN if either is NaN, unlike fminf.
__device__ __forceinline__ float min_nan(float a, float b) {
  float result;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
}

}  // namespace convmin::ptx
