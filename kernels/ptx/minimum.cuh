#pragma once

namespace convmin::ptx {

// NaN if either is NaN, unlike fminf.
__device__ __forceinline__ float min_nan(float a, float b) {
  float result;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
}

// Where the bits of `now` and `before` differ, keeps the first three of four values and their number. Moves are
// additions of -0: selections run at half the rate, and in the pipe that minima and comparisons need.
__device__ __forceinline__ void keep_if_different(float now, float before, const float (&v)[4], int i, float& first,
                                                  float& second, float& third, int& at) {
  asm("{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %4, %5;\n"
      "@p add.rn.f32 %0, %6, 0f80000000;\n"
      "@p add.rn.f32 %1, %7, 0f80000000;\n"
      "@p add.rn.f32 %2, %8, 0f80000000;\n"
      "@p mov.b32 %3, %9;\n"
      "}\n"
      : "+f"(first), "+f"(second), "+f"(third), "+r"(at)
      : "f"(now), "f"(before), "f"(v[0]), "f"(v[1]), "f"(v[2]), "r"(i));
}

}  // namespace convmin::ptx
