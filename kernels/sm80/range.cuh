// Which pixels and weights float16 can't stand in for TF32 with; tiles over such pixels are noted, and the portable
// kernel computes them.
#pragma once

#include "common/float16_range.cuh"
#include "sm80/params.h"

namespace convmin::sm80 {

__device__ __forceinline__ bool too_large(float largest) { return largest > kLargestInput; }
__device__ __forceinline__ bool too_faint(float largest) { return largest != 0.0f && largest < kFaintestInput; }

// Whether the weight is one that float16 can't stand in for TF32 with; the answer is the same in all blocks.
__device__ __forceinline__ bool leaves_everything(const Params& params) {
  bool leaves = *params.fallback.everything != 0;
  for (int c = static_cast<int>(threadIdx.x); c < params.group_channels; c += kThreads) {
    leaves |= __uint_as_float(params.channel_peak[c]) < kFaintestPeak;
  }
  return __syncthreads_or(leaves) != 0;
}

}  // namespace convmin::sm80
