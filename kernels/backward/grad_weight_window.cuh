// grad_weight of a 3 x 3 convolution at stride 1: a tile of 32 channels of the input, staged once, serves all nine
// taps. The next tile's values are in flight while this one is summed.
#pragma once

#include "backward/grad_weight.cuh"
#include "common/load.cuh"
#include "ptx/hold.cuh"

namespace convmin::backward {

template <typename Element_, bool kChannelFastest_>
struct Window {
  static constexpr bool kChannelFastest = kChannelFastest_;  // the input's channels are neighbours in memory
  using Element = Element_;
  static constexpr int kParts = 9, kWarps = kWindowWarps, kUnroll = 3, kThreads = kWarps * 32;
  static constexpr int kPixels = kWindowPixels;
  static constexpr int kInputW = kTileW + 2, kInputH = kTileH + 2;
  static constexpr int kLoads = kInputW * kInputH * 32 / kThreads;
  static_assert(kLoads * kThreads == kInputW * kInputH * 32, "every thread loads as much");

  static __device__ __forceinline__ int part_offset(int part) { return (part / 3 * kInputW + part % 3) * kPitch; }
};

// The tile's values on their way through registers.
template <typename T>
struct WindowLoad {
  typename T::Element values[T::kLoads];

  // Load i of a thread: its channel and its place in the tile. All of it but the thread's own part is a constant.
  struct Place {
    int channel, h, w;
  };
  static __device__ __forceinline__ Place place(int warp, int lane, int i) {
    static_assert(T::kLoads == 33 && T::kWarps == 16 && T::kInputH == 8 && T::kInputW == 66, "this map");
    if constexpr (T::kChannelFastest) return {lane, warp / 2, warp % 2 * 33 + i};
    // Rows of 66 pixels: 64 by a warp in two loads, and the last two of all 256 rows by all threads at once.
    if (i < 32) return {warp + i / 2 % 2 * 16, i / 4, lane + i % 2 * 32};
    const int row = (warp * 32 + lane) / 2;
    return {row % 32, row / 32, 64 + lane % 2};
  }

  // Addresses go by additions, and every bound is one predicate of the thread: what a load costs beyond that, 33 loads
  // of each thread pay.
  __device__ __forceinline__ void fetch(const Params& params, const Work& work, int tile, int warp, int lane) {
    using Element = typename T::Element;
    const TileCorner origin = tile_corner(params, tile);
    const int top = origin.oh - params.padding_h, left = origin.ow - params.padding_w;
    const int channels = params.group_channels - work.chunk * 32;
    const auto* corner = static_cast<const Element*>(params.input) + origin.n * params.input_stride_n +
                         work.chunk * 32 * params.input_stride_c + top * params.input_stride_h +
                         left * params.input_stride_w;
    const Element zero = Numeric<Element>::round(0);
    const auto row_inside = [&](int h) { return static_cast<unsigned>(top + h) < static_cast<unsigned>(params.h); };
    const auto column_inside = [&](int w) { return static_cast<unsigned>(left + w) < static_cast<unsigned>(params.w); };
    const auto at = [&](const Place& place) {
      return corner + place.channel * params.input_stride_c + place.h * params.input_stride_h +
             place.w * params.input_stride_w;
    };
    if constexpr (T::kChannelFastest) {
      const Place first = place(warp, lane, 0);
      const bool inside = lane < channels && row_inside(first.h);
      const int begin = max(-left - first.w, 0), end = min(params.w - left - first.w, T::kLoads);
      const std::uint64_t bits = inside && begin < end ? (std::uint64_t{1} << end) - (std::uint64_t{1} << begin) : 0;
      const Element* from = at(first);
#pragma unroll
      for (int i = 0; i < T::kLoads; ++i, from += params.input_stride_w) {
        ptx::hold(from);
        values[i] = zero;
        if (bits >> i & 1) values[i] = load_read_only(from);
      }
    } else {
      const Place first = place(warp, lane, 0);
      const Element* from[4];
      bool inside[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const Place here = place(warp, lane, j);
        from[j] = at(first) + (here.channel - first.channel) * params.input_stride_c +
                  (here.w - first.w) * params.input_stride_w;
        inside[j] = here.channel < channels && column_inside(here.w);
      }
#pragma unroll
      for (int h = 0; h < T::kInputH; ++h) {
        const bool row = row_inside(h);
#pragma unroll
        for (int j = 0; j < 4; ++j, from[j - 1] += params.input_stride_h) {
          ptx::hold(from[j]);
          values[h * 4 + j] = zero;
          if (inside[j] && row) values[h * 4 + j] = load_read_only(from[j]);
        }
      }
      const Place last = place(warp, lane, 32);
      values[32] = zero;
      if (last.channel < channels && row_inside(last.h) && column_inside(last.w)) values[32] = load_read_only(at(last));
    }
  }

  __device__ __forceinline__ void publish(float* staged, int warp, int lane) const {
#pragma unroll
    for (int i = 0; i < T::kLoads; ++i) {
      const Place at = place(warp, lane, i);
      staged[(at.h * T::kInputW + at.w) * kPitch + at.channel] = Numeric<typename T::Element>::widen(values[i]);
    }
  }
};

template <typename Element, bool kChannelFastest>
__global__ void __launch_bounds__(Window<Element, kChannelFastest>::kThreads, 1)
    conv_scale_min_grad_weight_window(const __grid_constant__ Params params) {
  using T = Window<Element, kChannelFastest>;
  extern __shared__ __align__(16) unsigned char memory[];
  const Work work(params, static_cast<int>(blockIdx.x));
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;

  auto* pixels = reinterpret_cast<SortedPixel*>(memory);
  auto* staged = reinterpret_cast<float*>(pixels + T::kPixels);
  float* sums = staged + T::kInputW * T::kInputH * kPitch;
  auto* bias_sums = reinterpret_cast<double*>(sums + params.channel_range * T::kParts * 32);
  auto* handed_over = reinterpret_cast<int*>(bias_sums + params.channel_range);
  auto* bounds = reinterpret_cast<Bounds*>(handed_over + T::kWarps);
  const Segments<T> segments{sums, bias_sums, staged, pixels, handed_over, warp, lane, work.chunk == 0 && lane == 0};
  static_assert(T::kInputW * T::kInputH * kPitch * 4 <= 1 << kOffsetBits, "an offset fits");

  clear_sums(segments, work.outputs);
  const TileRange range = tiles_of(params, work.split);
  WindowLoad<T> window;
  ListLoad list;
  const auto fetch = [&](int tile) {
    window.fetch(params, work, tile, warp, lane);
    if (thread < T::kPixels) list.fetch(params, tile, T::kPixels, thread);
  };
  if (range.begin < range.end) fetch(range.begin);
  for (int tile = range.begin; tile < range.end; ++tile) {
    window.publish(staged, warp, lane);
    if (thread < T::kPixels) {
      list.publish(work, thread, pixels, bounds,
                   [](int place) { return (place / kTileW * T::kInputW + place % kTileW) * kPitch * 4; });
    }
    __syncthreads();
    if (tile + 1 < range.end) fetch(tile + 1);
    segments.sum(*bounds);
  }
  __syncthreads();
  write_sums(params, work, segments);
}

}  // namespace convmin::backward
