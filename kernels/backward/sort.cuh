// kWindow: the pixels of each tile sorted by channel, and by place where the channel is the same: the order of the
// sums, found once for all blocks that share a tile. By counting, in a time that does not depend on how the channels
// are spread.
#pragma once

#include "backward/read.cuh"
#include "common/warp_scan.cuh"

namespace convmin::backward {

struct TileCorner {
  int n, oh, ow;
};
template <int kTileH>
__device__ __forceinline__ TileCorner tile_corner(const Params& params, int tile) {
  const QuotientRemainder image = params.by_image_tiles.divide(static_cast<std::uint32_t>(tile));
  const QuotientRemainder row = params.by_tiles_w.divide(image.remainder);
  return {static_cast<int>(image.quotient), static_cast<int>(row.quotient) * kTileH,
          static_cast<int>(row.remainder) * kTileW};
}

// Bins that a lane of the sort adds up, channels and one for what is none; odd, so that the lanes meet no bank twice.
__host__ __device__ constexpr int sort_lane_bins(int channels) { return (channels + 32) / 32 | 1; }
__host__ __device__ constexpr int sort_shared(int channels, int tile_h) {  // bytes, of a warp
  return tile_h * kTileW * 8 + sort_lane_bins(channels) * 32 * 4;
}

// One warp a tile, which takes its pixels in rounds of 32: no warp waits for another one. A pixel's position is the
// number of pixels of lower channels, plus those of its own channel in earlier rounds, plus those in its own round's
// earlier lanes.
template <typename Element, int kTileH>
__global__ void __launch_bounds__(kSortWarps * 32)
    conv_scale_min_backward_count(const __grid_constant__ Params params) {
  constexpr int kPixels = kTileH * kTileW, kRounds = kPixels / 32, kRowRounds = kTileW / 32;
  static_assert(kTileW % 32 == 0 && kPixels <= 1 << kPlaceBits, "a round is a part of a row");
  extern __shared__ __align__(16) unsigned char memory[];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int tile = static_cast<int>(blockIdx.x) * kSortWarps + warp;
  if (tile >= params.tiles) return;
  const int lane_bins = sort_lane_bins(params.k);
  auto* sorted = reinterpret_cast<KeyedGradient*>(memory + warp * sort_shared(params.k, kTileH));
  auto* counts = reinterpret_cast<int*>(sorted + kPixels);  // [lane_bins * 32], then each bin's first position

  // As they lie in memory: all of them are under way before one is waited for.
  Element gradients[kRounds];
  int channels[kRounds];
  const TileCorner corner = tile_corner<kTileH>(params, tile);
#pragma unroll
  for (int part = 0; part < kRowRounds; ++part) {
    const int ow = corner.ow + part * 32 + lane;
    OutputPixel from = locate(params, corner.n, corner.oh, ow);
#pragma unroll
    for (int h = 0; h < kTileH; ++h) {
      const int r = h * kRowRounds + part;
      gradients[r] = Numeric<Element>::round(0);
      channels[r] = -1;
      if (corner.oh + h < params.oh && ow < params.ow) {
        gradients[r] = static_cast<const Element*>(params.grad_output)[from.grad];
        channels[r] = read_channel(params, from.index);
      }
      from.grad += params.grad_output_stride_h, from.index += params.indices_stride_h;
    }
  }
  for (int i = 0; i < lane_bins; ++i) counts[i * 32 + lane] = 0;
  __syncwarp();

  const auto bin_of = [&](int channel) {  // the last is for what is no pixel
    return static_cast<int>(min(static_cast<unsigned>(channel), static_cast<unsigned>(params.k)));
  };
  unsigned same[kRounds];
#pragma unroll
  for (int r = 0; r < kRounds; ++r) same[r] = __match_any_sync(0xffffffffu, bin_of(channels[r]));
  int ranks[kRounds];
#pragma unroll
  for (int r = 0; r < kRounds; ++r) {
    int* count = counts + bin_of(channels[r]);
    const int earlier = __popc(same[r] & ((1u << lane) - 1));
    ranks[r] = *count + earlier;
    __syncwarp();
    if (earlier == 0) *count = ranks[r] + __popc(same[r]);
    __syncwarp();
  }

  // Exclusive sums over the bins, a run of them a lane.
  int* own = counts + lane * lane_bins;
  int total = 0;
  for (int i = 0; i < lane_bins; ++i) total += own[i];
  int position = inclusive_sum(total, lane) - total;
  for (int i = 0; i < lane_bins; ++i) {
    const int count = own[i];
    own[i] = position;
    position += count;
  }
  __syncwarp();

  const auto scale = static_cast<float>(params.scale);
#pragma unroll
  for (int r = 0; r < kRounds; ++r) {
    const int bin = bin_of(channels[r]);
    KeyedGradient pixel;
    pixel.key = static_cast<std::uint32_t>(bin << kPlaceBits | (r * 32 + lane));
    pixel.gradient = Numeric<Element>::widen(gradients[r]) * scale;
    sorted[counts[bin] + ranks[r]] = pixel;
  }
  __syncwarp();
  const auto* from = reinterpret_cast<const uint4*>(sorted);
  auto* to = reinterpret_cast<uint4*>(params.sorted_pixels + static_cast<std::int64_t>(tile) * kPixels);
#pragma unroll
  for (int i = lane; i < kPixels / 2; i += 32) to[i] = from[i];
}

}  // namespace convmin::backward
