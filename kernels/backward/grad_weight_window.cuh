// kWindow's tile of any input: 32 channels of 64 x 6 pixels and their border, widened to float32 in shared memory.
#pragma once

#include "backward/grad_weight.cuh"
#include "common/load.cuh"
#include "ptx/hold.cuh"

namespace convmin::backward {

template <typename T>
struct WindowLoad;

template <typename Element_, bool kChannelFastest_>
struct Window {
  static constexpr bool kChannelFastest = kChannelFastest_;  // the input's channels are neighbours in memory
  using Element = Element_;
  using Load = WindowLoad<Window>;
  static constexpr int kParts = kTaps, kWarps = kWindowWarps, kUnroll = 3, kThreads = kWarps * 32;
  static constexpr int kTileH = window_tile_h(false), kPixels = kTileH * kTileW;
  static constexpr int kInputW = kTileW + 2, kInputH = kTileH + 2;
  static constexpr int kLoads = kInputW * kInputH * 32 / kThreads;
  static_assert(kLoads * kThreads == kInputW * kInputH * 32, "every thread loads as much");
  static constexpr int kPitch = 33;  // of a pixel's 32 columns: columns of pixels meet no bank twice
  static constexpr int kStagedBytes = kInputW * kInputH * kPitch * 4;

  struct Values {
    float parts[kParts];
    __device__ __forceinline__ float part(int j) const { return parts[j]; }
  };

  // A lane is a channel.
  struct Lane {
    const char* from;
    int lane;

    __device__ __forceinline__ Lane(const unsigned char* staged, int lane_)
        : from(reinterpret_cast<const char*>(staged) + lane_ * 4), lane(lane_) {}
    __device__ __forceinline__ Values read(int place) const {
      const auto* at = reinterpret_cast<const float*>(from + place);
      Values values;
#pragma unroll
      for (int j = 0; j < kParts; ++j) values.parts[j] = at[(j / 3 * kInputW + j % 3) * kPitch];
      return values;
    }
    __device__ __forceinline__ void load(const float* row, float (&parts)[kParts]) const {
#pragma unroll
      for (int j = 0; j < kParts; ++j) parts[j] = row[j * 32 + lane];
    }
    __device__ __forceinline__ void store(float* row, const float (&parts)[kParts]) const {
#pragma unroll
      for (int j = 0; j < kParts; ++j) row[j * 32 + lane] = parts[j];
    }
    // Where sum i of a row lies in [kTaps][32].
    static __device__ __forceinline__ int slot(int i) { return i; }
  };

  // Columns that are loaded to the left of the first one needed.
  static __device__ __forceinline__ int shift(const Params&) { return 0; }
  // Where a pixel of the tile begins, in bytes.
  static __device__ __forceinline__ int place(const Params&, int pixel) {
    return (pixel / kTileW * kInputW + pixel % kTileW) * kPitch * 4;
  }
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

  // What a load costs beyond an addition and a predicate, 33 loads of each thread pay.
  __device__ __forceinline__ void fetch(const Params& params, const Work& work, int tile, int warp, int lane) {
    using Element = typename T::Element;
    const TileInput<T> input(params, work, tile);
    const Element zero = Numeric<Element>::round(0);
    const auto at = [&](const Place& place) {
      return input.corner + place.channel * params.input_stride_c + place.h * params.input_stride_h +
             place.w * params.input_stride_w;
    };
    if constexpr (T::kChannelFastest) {
      const Place first = place(warp, lane, 0);
      const bool inside = lane < input.channels && input.row_inside(first.h);
      const int begin = max(-input.left - first.w, 0), end = min(params.w - input.left - first.w, T::kLoads);
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
        inside[j] = here.channel < input.channels && input.column_inside(here.w);
      }
#pragma unroll
      for (int h = 0; h < T::kInputH; ++h) {
        const bool row = input.row_inside(h);
#pragma unroll
        for (int j = 0; j < 4; ++j, from[j - 1] += params.input_stride_h) {
          ptx::hold(from[j]);
          values[h * 4 + j] = zero;
          if (inside[j] && row) values[h * 4 + j] = load_read_only(from[j]);
        }
      }
      const Place last = place(warp, lane, 32);
      values[32] = zero;
      if (last.channel < input.channels && input.row_inside(last.h) && input.column_inside(last.w)) {
        values[32] = load_read_only(at(last));
      }
    }
  }

  __device__ __forceinline__ void publish(unsigned char* staged, int warp, int lane) const {
#pragma unroll
    for (int i = 0; i < T::kLoads; ++i) {
      const Place at = place(warp, lane, i);
      reinterpret_cast<float*>(staged)[(at.h * T::kInputW + at.w) * T::kPitch + at.channel] =
          Numeric<typename T::Element>::widen(values[i]);
    }
  }
};

}  // namespace convmin::backward
