// The pixels of each tile sorted by channel, and by place where the channel is the same: the order of grad_weight's
// sums, found once for all blocks that share a tile. A bitonic network: its time depends on no distribution.
#pragma once

#include "backward/read.cuh"

namespace convmin::backward {

inline constexpr int kSortThreads = 256;

// Pixels [0, kPixels) of a tile: rows of a window tile, or a run of the flattened output.
template <bool kWindow>
__device__ __forceinline__ bool place_pixel(const Params& params, std::int64_t tile, int pixels, int place,
                                            std::int64_t* n, int* oh, int* ow) {
  if constexpr (kWindow) {
    const std::int64_t per_image = static_cast<std::int64_t>(params.tiles_h) * params.tiles_w;
    *n = tile / per_image;
    const auto rest = static_cast<int>(tile - *n * per_image);
    *oh = rest / params.tiles_w * kTileH + place / kTileW;
    *ow = rest % params.tiles_w * kTileW + place % kTileW;
    return place < kWindowPixels && *oh < params.oh && *ow < params.ow;
  } else {
    const std::int64_t at = tile * pixels + place, plane = static_cast<std::int64_t>(params.oh) * params.ow;
    if (at >= params.output_pixels) return false;
    *n = at / plane;
    *oh = static_cast<int>((at - *n * plane) / params.ow);
    *ow = static_cast<int>((at - *n * plane) % params.ow);
    return true;
  }
}

// One block a tile. kSlots: a power of two that holds the tile's pixels.
template <typename Element, bool kWindow, int kPixels, int kSlots>
__global__ void __launch_bounds__(kSortThreads) conv_scale_min_backward_sort(const __grid_constant__ Params params) {
  using Accum = typename Numeric<Element>::Accum;
  static_assert(kPixels <= kSlots && kSlots <= 1 << kPlaceBits && kSlots % kSortThreads == 0, "places fit");
  __shared__ std::uint32_t keys[kSlots];
  __shared__ Accum gradients[kSlots];
  const int thread = static_cast<int>(threadIdx.x);
  for (std::int64_t tile = blockIdx.x; tile < params.tiles; tile += gridDim.x) {
    __syncthreads();  // the previous tile has been written
#pragma unroll
    for (int place = thread; place < kSlots; place += kSortThreads) {
      std::int64_t n;
      int oh, ow;
      keys[place] = kNoKey;
      if (!place_pixel<kWindow>(params, tile, kPixels, place, &n, &oh, &ow)) continue;
      const OutputPixel from = locate(params, n, oh, ow);
      const auto channel = static_cast<std::uint32_t>(read_channel(params, from.index));
      if (channel >= static_cast<std::uint32_t>(params.k)) continue;
      gradients[place] = read_gradient<Element>(params, from.grad);
      keys[place] = channel << kPlaceBits | static_cast<std::uint32_t>(place);
    }
    for (int run = 2; run <= kSlots; run *= 2) {
      for (int distance = run / 2; distance > 0; distance /= 2) {
        __syncthreads();
#pragma unroll
        for (int i = thread; i < kSlots / 2; i += kSortThreads) {
          const int low = 2 * i - (i & (distance - 1)), high = low + distance;
          const std::uint32_t a = keys[low], b = keys[high];
          if ((a > b) == ((low & run) == 0)) keys[low] = b, keys[high] = a;
        }
      }
    }
    __syncthreads();
    auto* values = static_cast<Accum*>(params.sorted_values) + tile * kPixels;
    for (int i = thread; i < kPixels; i += kSortThreads) {
      const std::uint32_t key = keys[i];
      params.sorted_keys[tile * kPixels + i] = key;
      values[i] = key == kNoKey ? Accum{0} : gradients[key & ((1u << kPlaceBits) - 1)];
    }
  }
}

}  // namespace convmin::backward
