// kWindow: the pixels of each tile sorted by channel, and by place where the channel is the same: the order of the
// sums, found once for all blocks that share a tile. By counting, in a time that does not depend on how the channels
// are spread.
#pragma once

#include "backward/read.cuh"

namespace convmin::backward {

struct TileCorner {
  std::int64_t n;
  int oh, ow;
};
__device__ __forceinline__ TileCorner tile_corner(const Params& params, std::int64_t tile) {
  const std::int64_t per_image = static_cast<std::int64_t>(params.tiles_h) * params.tiles_w, n = tile / per_image;
  const auto rest = static_cast<int>(tile - n * per_image);
  return {n, rest / params.tiles_w * kTileH, rest % params.tiles_w * kTileW};
}

// Pixel `place` of a tile: its key, or kNoKey, and its gradient.
template <typename Element>
__device__ __forceinline__ std::uint32_t read_pixel(const Params& params, std::int64_t tile, int place,
                                                    float* gradient) {
  const TileCorner corner = tile_corner(params, tile);
  const int oh = corner.oh + place / kTileW, ow = corner.ow + place % kTileW;
  *gradient = 0;
  if (oh >= params.oh || ow >= params.ow) return kNoKey;
  const OutputPixel from = locate(params, corner.n, oh, ow);
  *gradient = read_gradient<Element>(params, from.grad);
  const auto channel = static_cast<std::uint32_t>(read_channel(params, from.index));
  if (channel >= static_cast<std::uint32_t>(params.k)) return kNoKey;
  return channel << kPlaceBits | static_cast<std::uint32_t>(place);
}

// One block a tile, one thread a pixel. A pixel's position is the number of pixels of lower channels, plus those of its
// own channel in earlier warps, plus those in its own warp's earlier lanes.
template <typename Element>
__global__ void __launch_bounds__(kWindowPixels) conv_scale_min_backward_count(const __grid_constant__ Params params) {
  constexpr int kPixels = kWindowPixels, kWarps = kPixels / 32;
  static_assert(kWarps * 32 == kPixels && kPixels <= 1 << kPlaceBits, "one thread a pixel");
  __shared__ std::uint32_t sorted_keys[kPixels];
  __shared__ float sorted_values[kPixels];
  __shared__ int warp_totals[kWarps];
  extern __shared__ __align__(16) unsigned char memory[];
  const int bins = params.k + 1;                            // the last is for what is no pixel
  auto* counts = reinterpret_cast<std::uint16_t*>(memory);  // [kWarps][bins], then each warp's first position
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;

  for (std::int64_t tile = blockIdx.x; tile < params.tiles; tile += gridDim.x) {
    float gradient;
    const std::uint32_t key = read_pixel<Element>(params, tile, thread, &gradient);
    const int bin = key == kNoKey ? params.k : static_cast<int>(key >> kPlaceBits);
    for (int i = thread; i < kWarps * bins; i += kPixels) counts[i] = 0;
    __syncthreads();
    const unsigned same = __match_any_sync(0xffffffffu, bin);
    const int rank = __popc(same & ((1u << lane) - 1));
    if (rank == 0) counts[warp * bins + bin] = static_cast<std::uint16_t>(__popc(same));
    __syncthreads();
    // Exclusive sums over (bin, warp), a run of bins a thread at a time.
    int before = 0;
    for (int first = 0; first < bins; first += kPixels) {
      const int mine = first + thread;
      int total = 0;
      if (mine < bins) {
        for (int w = 0; w < kWarps; ++w) total += counts[w * bins + mine];
      }
      int inclusive = total;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int lower = __shfl_up_sync(0xffffffffu, inclusive, step);
        if (lane >= step) inclusive += lower;
      }
      if (lane == 31) warp_totals[warp] = inclusive;
      __syncthreads();
      int position = before + inclusive - total;
      for (int w = 0; w < kWarps; ++w) {
        if (w < warp) position += warp_totals[w];
        before += warp_totals[w];
      }
      if (mine < bins) {
        for (int w = 0; w < kWarps; ++w) {
          const int count = counts[w * bins + mine];
          counts[w * bins + mine] = static_cast<std::uint16_t>(position);
          position += count;
        }
      }
      __syncthreads();
    }
    const int position = counts[warp * bins + bin] + rank;
    sorted_keys[position] = key;
    sorted_values[position] = gradient;
    __syncthreads();
    params.sorted_keys[tile * kPixels + thread] = sorted_keys[thread];
    params.sorted_values[tile * kPixels + thread] = sorted_values[thread];
    __syncthreads();  // before the next tile's
  }
}

}  // namespace convmin::backward
