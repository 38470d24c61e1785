// float32 at float16's speed. TF32 and float16 keep the same 11 significant bits, and float16 multiplies twice as fast;
// what it lacks is range. Filters are scaled by a power of two each, exactly undone in the epilogue. Of an input pixel
// the largest channel decides: above 65504 values round to infinity, and below 2^-11 the subnormals' step of 2^-24 is
// coarser than TF32's. Tiles over such a pixel are noted, and the portable kernel computes them. What a pixel's small
// channels lose is then no more than TF32 loses of its largest product, if the channels' weights are of a size: where
// they are not, the whole problem is the portable kernel's.
#pragma once

#include "sm80/params.h"

namespace convmin::sm80 {

// Scaled filters peak in [2^14, 2^15). An input channel whose weights stay below this in all of them hides from the
// check on its pixels: beside such a channel, the others may be as small as they like.
inline constexpr float kFaintestPeak = 0x1p12f;

// `largest` is a filter's largest magnitude, as the bits of a float. Its power of two, or the inverse, may not be
// normal.
__device__ __forceinline__ bool out_of_scale(unsigned largest) {
  const int exponent = static_cast<int>(largest >> 23) - 127;
  return largest != 0 && (exponent > 100 || exponent < -100);
}
__device__ __forceinline__ float filter_scale(unsigned largest) {
  if (largest == 0 || out_of_scale(largest)) return 1.0f;
  return __uint_as_float((127 + 14 + 127 - (largest >> 23)) << 23);
}

__device__ __forceinline__ bool too_large(float largest) { return largest > 65504.0f; }
__device__ __forceinline__ bool too_faint(float largest) { return largest != 0.0f && largest < 0x1p-11f; }

// Whether the weight is one that float16 can't stand in for TF32 with; the answer is the same in all blocks.
__device__ __forceinline__ bool leaves_everything(const Params& params) {
  bool leaves = *params.fallback.everything != 0;
  for (int c = static_cast<int>(threadIdx.x); c < params.group_channels; c += kThreads) {
    leaves |= __uint_as_float(params.channel_peak[c]) < kFaintestPeak;
  }
  return __syncthreads_or(leaves) != 0;
}

}  // namespace convmin::sm80
