// A warp's sums: a patch of output pixels of a channel each lane, whole and in registers.
#pragma once

#include "depthwise/producer.cuh"

namespace convmin::depthwise {

// From the channel's input at the patch's corner, and its weight.
template <typename T>
__device__ __forceinline__ void sum_patch(const char* input, int row_pitch, const char* weight,
                                          float (&sums)[T::kPixels]) {
  using Element = typename T::Element;
  using N = Numeric<Element>;
  float taps[T::kTaps];
#pragma unroll
  for (int tap = 0; tap < T::kTaps; ++tap) {
    taps[tap] = N::widen(*reinterpret_cast<const Element*>(weight + tap * T::kSize));
  }
#pragma unroll
  for (float& sum : sums) sum = 0.0f;
#pragma unroll
  for (int i = 0; i < T::kExtent; ++i, input += row_pitch) {
#pragma unroll
    for (int j = 0; j < T::kExtent; ++j) {
      const float x = N::widen(*reinterpret_cast<const Element*>(input + j * T::kColumnPitch));
#pragma unroll
      for (int pixel = 0; pixel < T::kPixels; ++pixel) {
        const int r = i - pixel / kPatch * T::kStep, s = j - pixel % kPatch * T::kStep;
        if (r < 0 || r >= T::kWindow || s < 0 || s >= T::kWindow) continue;
        sums[pixel] += x * taps[r * T::kWindow + s];
      }
    }
  }
}

}  // namespace convmin::depthwise
