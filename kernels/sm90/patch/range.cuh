// float32 at float16's speed (common/float16_range.cuh): inputs are checked while they are copied, by the largest of 64
// channels of a pixel. Outputs over pixels out of range are noted in runs of kFallbackTile, which the portable kernel
// computes; where an input channel's weights hide from the check, all of them are.
#pragma once

#include "common/scaled_filter.cuh"
#include "sm90/patch/params.h"

namespace convmin::sm90::patch {

// The input pixels, in order of memory, from the first to the last under a run of output pixels.
struct Span {
  std::int64_t first, last;
};
__host__ __device__ inline Span span_under(const Params& params, int first, int last) {
  const auto pixel = [&](int output, int tap_h, int tap_w) {
    const int row = output / params.ow, x = output - row * params.ow, n = row / params.oh, y = row - n * params.oh;
    const std::int64_t ih = static_cast<std::int64_t>(y) * params.stride_h - params.padding_h + tap_h;
    std::int64_t iw = static_cast<std::int64_t>(x) * params.stride_w - params.padding_w + tap_w;
    // From a row in the padding, all of the nearest row counts: neighbouring outputs may use it too.
    if (ih < 0 || iw < 0) iw = 0;
    if (ih >= params.h || iw >= params.w) iw = params.w - 1;
    return (std::int64_t{n} * params.h + (ih < 0 ? 0 : ih < params.h ? ih : params.h - 1)) * params.w + iw;
  };
  return {pixel(first, 0, 0), pixel(last, (params.r - 1) * params.dilation_h, (params.s - 1) * params.dilation_w)};
}

// Leaves runs of outputs to the portable kernel where an input pixel under them is out of range, and all of them where
// the weight is one that float16 can't stand in for TF32 with: those are then computed twice. By `threads` of each
// block.
__device__ __forceinline__ void note_fallback(const Params& params, int thread, int threads) {
  for (int word = thread; blockIdx.x == 0 && word * 4 < params.group_channels; word += threads) {
    if (hides_a_channel(params.channel_seen, params.group_channels, word)) *params.fallback.everything = 1;
  }
  // There are less than 2^30; a division of 64 bits would be a call, which the tensor cores' instructions wait for.
  const int pixels = params.n * params.oh * params.ow, step = static_cast<int>(gridDim.x) * threads * kFallbackTile;
  for (int first = (static_cast<int>(blockIdx.x) * threads + thread) * kFallbackTile; first < pixels; first += step) {
    const Span span = span_under(params, first, min(first + kFallbackTile, pixels) - 1);
    bool outside = false;
    for (std::int64_t run = span.first / kCopyPixels; run <= span.last / kCopyPixels; ++run) {
      outside |= params.run_outside[run] != 0;
    }
    if (outside) params.fallback.tiles[atomicAdd(params.fallback.count, 1)] = first;
  }
}

}  // namespace convmin::sm90::patch
