// grad_weight of a 3 x 3 convolution at stride 1: a tile of 32 channels of the input, staged once, serves all nine
// taps. The next tile's values are in flight while this one is summed.
#pragma once

#include "backward/grad_weight_pairs.cuh"
#include "backward/grad_weight_window.cuh"

namespace convmin::backward {

template <typename T>
__global__ void __launch_bounds__(T::kThreads, 1)
    conv_scale_min_grad_weight_window(const __grid_constant__ Params params) {
  extern __shared__ __align__(16) unsigned char memory[];
  const Work work(params, static_cast<int>(blockIdx.x));
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;

  auto* pixels = reinterpret_cast<SortedPixel*>(memory);
  auto* staged = reinterpret_cast<unsigned char*>(pixels + T::kPixels);
  auto* sums = reinterpret_cast<float*>(staged + T::kStagedBytes);
  auto* bias_sums = reinterpret_cast<double*>(sums + params.channel_range * kRow);
  auto* handed_over = reinterpret_cast<int*>(bias_sums + params.channel_range);
  auto* bounds = reinterpret_cast<Bounds*>(handed_over + T::kWarps);
  const Segments<T> segments{sums,        bias_sums, {staged, lane}, pixels,
                             handed_over, warp,      lane,           work.chunk == 0 && lane == 0};
  static_assert(T::kStagedBytes % 8 == 0 && T::kStagedBytes <= 1 << kOffsetBits, "sums are aligned, an offset fits");

  clear_sums(segments, work.outputs);
  const TileRange range = tiles_of(params, work.split);
  constexpr int kLists = (T::kPixels + T::kThreads - 1) / T::kThreads;
  typename T::Load window;
  ListLoad lists[kLists];
  const auto fetch = [&](int tile) {
    window.fetch(params, work, tile, warp, lane);
#pragma unroll
    for (int i = 0; i < kLists; ++i) {
      const int at = thread + i * T::kThreads;
      if (at < T::kPixels) lists[i].fetch(params, tile, T::kPixels, at);
    }
  };
  if (range.begin < range.end) fetch(range.begin);
  for (int tile = range.begin; tile < range.end; ++tile) {
    window.publish(staged, warp, lane);
#pragma unroll
    for (int i = 0; i < kLists; ++i) {
      const int at = thread + i * T::kThreads;
      if (at >= T::kPixels) continue;
      lists[i].publish(work, at, pixels, bounds, [&](int pixel) { return T::place(params, pixel); });
    }
    __syncthreads();
    if (tile + 1 < range.end) fetch(tile + 1);
    segments.sum(*bounds);
  }
  __syncthreads();
  write_sums(params, work, segments);
}

}  // namespace convmin::backward
