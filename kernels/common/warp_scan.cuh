// Sums over the lanes of a warp.
#pragma once

namespace convmin {

// Of this lane's value and those of the lanes before it. The whole warp must call it.
template <typename T>
__device__ __forceinline__ T inclusive_sum(T value, int lane) {
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const T lower = __shfl_up_sync(0xffffffffu, value, step);
    if (lane >= step) value += lower;
  }
  return value;
}

}  // namespace convmin
