// Which pixels and weights float16 can't stand in for TF32 with; tiles over such pixels are noted, and the portable
// kernel computes them.
#pragma once

#include <cuda_fp16.h>

#include <cmath>

#include "common/scaled_filter.cuh"
#include "sm80/params.h"

namespace convmin::sm80 {

// Watches pixels on their way, converted. Threads have parts of them, a few channels each. One channel that rounds to
// infinity is enough to tell; a pixel is too faint where all its parts are, and not all are zeros. Faint parts alone
// are counted, in shared memory, two each, and the lowest bit is set by one that is not zero: inputs as they mostly are
// cost a few instructions a part. NaN is neither, since it stays NaN.
class Range {
 public:
  // Parts of kPixels neighbouring pixels, the first at a place of the patch in bytes; of several those that the bits of
  // `kept` name are counted. `nonzero(j)` tells of pixel j before it was converted.
  template <int kPixels, int kWords, typename Nonzero>
  __device__ __forceinline__ void add(const std::uint32_t (&words)[kPixels][kWords], int place, int kept,
                                      unsigned* counts, Nonzero&& nonzero) {
    const __half2 least = __float2half2_rn(kFaintestInput);
    __half2 largest[kPixels];  // of even and of odd channels
    __half2 faintest;
#pragma unroll
    for (int j = 0; j < kPixels; ++j) {
      largest[j] = magnitude(words[j][0]);
#pragma unroll
      for (int i = 1; i < kWords; ++i) largest[j] = __hmax2(largest[j], magnitude(words[j][i]));
      largest_ = __hmax2(largest_, largest[j]);
      faintest = j == 0 ? largest[j] : __hmin2(faintest, largest[j]);
    }
    if (kPixels > 1 && __hbge2(faintest, least)) return;  // none is: one check for all
#pragma unroll
    for (int j = 0; j < kPixels; ++j) {
      if ((kPixels > 1 && (kept >> j & 1) == 0) || !__hblt2(largest[j], least)) continue;
      unsigned* count = &counts[(place + j * kPixelBytes) / kPixelBytes];
      atomicAdd(count, 2);
      if (nonzero(j)) atomicOr(count, 1);
    }
  }

  // What another thread has seen.
  __device__ __forceinline__ void add_too_large() { largest_ = __float2half2_rn(HUGE_VALF); }

  // Of what this thread has seen.
  __device__ __forceinline__ bool too_large() const {
    return fmaxf(__low2float(largest_), __high2float(largest_)) > kLargestInput;
  }
  // Of a pixel's count, where it has so many parts in all.
  static __device__ __forceinline__ bool too_faint(unsigned count, int parts) {
    return count == 2 * static_cast<unsigned>(parts) + 1;
  }

 private:
  static __device__ __forceinline__ __half2 magnitude(const std::uint32_t& word) {
    return __habs2(*reinterpret_cast<const __half2*>(&word));
  }

  __half2 largest_ = {};
};

// Whether the weight is one that float16 can't stand in for TF32 with; the answer is the same in all blocks, and the
// first of them notes it. Every thread of the block must call it.
template <typename T>
__device__ __forceinline__ bool leaves_everything(const Params& params) {
  bool leaves = *params.fallback.everything != 0;
  for (int word = static_cast<int>(threadIdx.x); word * 4 < params.group_channels; word += T::kThreads) {
    leaves |= hides_a_channel(params.channel_seen, params.group_channels, word);
  }
  if (__syncthreads_or(leaves) == 0) return false;
  if (blockIdx.x == 0 && threadIdx.x == 0) *params.fallback.everything = 1;
  return true;
}

}  // namespace convmin::sm80
