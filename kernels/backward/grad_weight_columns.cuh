// grad_weight for any convolution: a block stages the 32 columns of the unfolded input that it sums, for every pixel of
// a tile; a column is a channel under a tap.
#pragma once

#include "backward/grad_weight.cuh"

namespace convmin::backward {

template <typename Element_, int kPixels_>
struct Columns {
  using Element = Element_;
  using Accum = typename Numeric<Element>::Accum;
  static constexpr int kParts = 1, kWarps = kColumnWarps, kUnroll = 8, kThreads = kWarps * 32;
  static constexpr int kPixels = kPixels_;

  static __device__ __forceinline__ int offset(int place, int rank, bool by_rank) {
    return (by_rank ? rank : place) * (kPitch * static_cast<int>(sizeof(Accum)));
  }
  static __device__ __forceinline__ int part_offset(int) { return 0; }
};

// Where a pixel's window starts, and a column relative to it.
struct alignas(16) Corner {
  std::int64_t offset;  // elements
  int h, w;
};
// A Corner or column past the end fails every bounds check: extents are below 2^30, so neither sentinel, nor their sum,
// nor either one's sum with a real coordinate lies in [0, 2^30) when taken as unsigned.
inline constexpr unsigned kOutsidePixel = 0x80000000u, kOutsideColumn = 0xc0000000u;

template <typename Element, int kPixels>
__global__ void __launch_bounds__(Columns<Element, kPixels>::kThreads, 2)
    conv_scale_min_grad_weight_columns(const __grid_constant__ Params params) {
  using T = Columns<Element, kPixels>;
  using Accum = typename T::Accum;
  extern __shared__ __align__(16) unsigned char memory[];
  const Work work(params, static_cast<int>(blockIdx.x));
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;

  auto* corners = reinterpret_cast<Corner*>(memory);  // [kPixels]
  Corner* columns = corners + T::kPixels;             // [32]
  auto* pixels = reinterpret_cast<SortedPixel<Accum>*>(columns + 32);
  auto* staged = reinterpret_cast<Accum*>(pixels + T::kPixels);  // [kPixels][kPitch]
  Accum* sums = staged + T::kPixels * kPitch;
  auto* bias_sums = reinterpret_cast<double*>(sums + params.channel_range * 32);
  auto* handed_over = reinterpret_cast<int*>(bias_sums + params.channel_range);
  auto* bounds = reinterpret_cast<Bounds*>(handed_over + T::kWarps);
  const Segments<T> segments{sums, bias_sums, staged, pixels, handed_over, warp, lane, work.chunk == 0 && lane == 0};
  static_assert(T::kWarps * 33 <= T::kPixels * kPitch, "the runs handed over fit");
  static_assert(T::kPixels <= 1 << kOffsetBits, "a place fits");

  clear_sums(segments, work.outputs);
  if (thread < 32) {
    const int index = work.chunk * 32 + lane;
    columns[lane] = {0, static_cast<int>(kOutsideColumn), static_cast<int>(kOutsideColumn)};
    if (index < params.columns) {
      const Column column = column_at(params, index);
      const int dh = column.r * params.dilation_h, dw = column.s * params.dilation_w;
      columns[lane] = {column.channel * params.input_stride_c + dh * params.input_stride_h + dw * params.input_stride_w,
                       dh, dw};
    }
  }
  const auto* input = static_cast<const Element*>(params.input) +
                      static_cast<std::int64_t>(work.group) * params.group_channels * params.input_stride_c;
  const auto read = [&](const Corner& corner, const Corner& column) {
    const unsigned h = static_cast<unsigned>(corner.h) + static_cast<unsigned>(column.h);
    const unsigned w = static_cast<unsigned>(corner.w) + static_cast<unsigned>(column.w);
    const bool inside = h < static_cast<unsigned>(params.h) && w < static_cast<unsigned>(params.w);
    return inside ? Numeric<Element>::widen(input[corner.offset + column.offset]) : Accum{0};
  };

  const TileRange range = tiles_of(params, work.split);
  for (std::int64_t tile = range.begin; tile < range.end; ++tile) {
#pragma unroll
    for (int at = thread; at < T::kPixels; at += T::kThreads) {
      ListLoad<Accum> load;
      load.fetch(params, tile, T::kPixels, at);
      load.publish(work, at, pixels, bounds, [](int place) { return place; });
      std::int64_t n;
      int oh, ow;
      Corner corner{0, static_cast<int>(kOutsidePixel), static_cast<int>(kOutsidePixel)};
      if (place_pixel<false>(params, tile, T::kPixels, at, &n, &oh, &ow)) {
        corner.h = oh * params.stride_h - params.padding_h;
        corner.w = ow * params.stride_w - params.padding_w;
        corner.offset = n * params.input_stride_n + corner.h * params.input_stride_h + corner.w * params.input_stride_w;
      }
      corners[at] = corner;
    }
    __syncthreads();
    const Bounds mine = *bounds;
    const int count = mine.end - mine.begin;
    // Few of a tile's pixels are of this block's channels: only those are staged, in the order of the list.
    const bool by_rank = 4 * count < T::kPixels;
    const int rows = by_rank ? count : T::kPixels;
    if (count > 0) {
      if (params.channel_fastest) {
        const Corner column = columns[lane];
#pragma unroll 8
        for (int row = warp; row < rows; row += T::kWarps) {
          const int at = by_rank ? pixels[mine.begin + row].place() : row;
          staged[row * kPitch + lane] = read(corners[at], column);
        }
      } else {
        for (int row = lane; row < rows; row += 32) {
          const Corner corner = corners[by_rank ? pixels[mine.begin + row].place() : row];
#pragma unroll
          for (int column = warp; column < 32; column += T::kWarps) {
            staged[row * kPitch + column] = read(corner, columns[column]);
          }
        }
      }
    }
    __syncthreads();
    if (count > 0) segments.sum(mine, by_rank);
  }
  __syncthreads();
  write_sums(params, work, segments);
}

}  // namespace convmin::backward
