// kWindow's tile of a 16-bit input: 32 channels of 64 x 12 pixels and their border, pairs of channels as they are.
// Twice the pixels make the runs of one channel twice as long.
//
// A lane is a pair of channels under half of the taps. The lower half of a warp reads at one tap what the upper half
// reads at another one, 80 pixels further on, where the banks are the other 16:
//
//   lower   (0,0) (0,1) (1,0) (0,2)    -
//   upper   (1,1) (1,2) (2,1) (2,0)  (2,2)
#pragma once

#include <type_traits>

#include "backward/grad_weight.cuh"
#include "common/load.cuh"
#include "ptx/hold.cuh"

namespace convmin::backward {

// Element `at` of a pair in a word.
template <typename Element>
__device__ __forceinline__ float widen_of(std::uint32_t word, int at) {
  if constexpr (std::is_same_v<Element, __nv_bfloat16>) {  // one instruction each, where an element by itself takes two
    return __uint_as_float(at == 0 ? word << 16 : word & 0xffff0000u);
  } else {
    const __half2 pair = *reinterpret_cast<const __half2*>(&word);
    return at == 0 ? __low2float(pair) : __high2float(pair);
  }
}

template <typename T>
struct PairLoad;

template <typename Element_, bool kChannelFastest_>
struct PairWindow {
  static constexpr bool kChannelFastest = kChannelFastest_;
  using Element = Element_;
  using Load = PairLoad<PairWindow>;
  static constexpr int kParts = 10, kWarps = kWindowWarps, kUnroll = 4, kThreads = kWarps * 32;
  static constexpr int kTileH = window_tile_h(true), kPixels = kTileH * kTileW;
  static constexpr int kInputH = kTileH + 2, kInputW = kTileW + 2;
  // In words, a pair each. An odd pitch of pixels: those of a row meet no bank twice.
  static constexpr int kPitch = kPairPitch, kRowPitch = kPairRow * kPitch;
  static constexpr int kStagedBytes = kInputH * kRowPitch * 4;
  static constexpr int kApart = kRowPitch + kPitch, kFarApart = 2 * kRowPitch - 2 * kPitch;
  static_assert(kApart % 32 == 16, "the halves of a warp meet no bank twice");

  struct Values {
    std::uint32_t words[kParts / 2];
    __device__ __forceinline__ float part(int j) const { return widen_of<Element>(words[j / 2], j % 2); }
  };

  struct Lane {
    const unsigned char *near, *far;
    int lane;

    __device__ __forceinline__ Lane(const unsigned char* staged, int lane_) : lane(lane_) {
      near = staged + (lane % 16 + lane / 16 * kApart) * 4;
      far = staged + (lane % 16 + lane / 16 * kFarApart) * 4;
    }
    __device__ __forceinline__ Values read(int place) const {
      const auto* at = reinterpret_cast<const std::uint32_t*>(near + place);
      const auto* far_at = reinterpret_cast<const std::uint32_t*>(far + place);
      // The lower half's last is (1,1) once more, and goes nowhere.
      return {{at[0], at[kPitch], at[kRowPitch], far_at[2 * kPitch], at[kRowPitch + kPitch]}};
    }
    __device__ __forceinline__ void load(const float* row, float (&parts)[kParts]) const {
      const auto* from = reinterpret_cast<const float2*>(row) + lane;
#pragma unroll
      for (int j = 0; j < kParts / 2; ++j) {
        const float2 pair = j < 4 || lane >= 16 ? from[j < 4 ? j * 32 : 4 * 32 - 16] : float2{};
        parts[2 * j] = pair.x, parts[2 * j + 1] = pair.y;
      }
    }
    __device__ __forceinline__ void store(float* row, const float (&parts)[kParts]) const {
      auto* to = reinterpret_cast<float2*>(row) + lane;
#pragma unroll
      for (int j = 0; j < kParts / 2; ++j) {
        if (j < 4 || lane >= 16) to[j < 4 ? j * 32 : 4 * 32 - 16] = {parts[2 * j], parts[2 * j + 1]};
      }
    }
    static __device__ __forceinline__ int slot(int i) {
      const int pair = i / 2, upper = pair < 4 * 32 ? pair / 16 % 2 : 1;
      constexpr unsigned kLower = 0x2310, kUpper = 0x86754;  // a tap in four bits
      const int tap = static_cast<int>((upper != 0 ? kUpper : kLower) >> pair / 32 * 4 & 15);
      return tap * 32 + pair % 16 * 2 + i % 2;
    }
  };

  // Pairs of pixels begin at even columns of the image.
  static __device__ __forceinline__ int shift(const Params& params) {
    return kChannelFastest ? 0 : params.padding_w & 1;
  }
  static __device__ __forceinline__ int place(const Params& params, int pixel) {
    return (pixel / kTileW * kRowPitch + (pixel % kTileW + shift(params)) * kPitch) * 4;
  }
};

// Neighbouring elements in memory, two a load: pairs of channels, or pairs of pixels of two channels.
template <typename T>
struct PairLoad {
  using Element = typename T::Element;
  static constexpr int kColumns = T::kInputW / 2;  // of half a row
  static constexpr int kLoads = T::kChannelFastest ? kColumns : 2 * T::kInputH + 2;
  static_assert(kColumns == 33 && T::kInputH == 14 && T::kWarps == 16, "this map");
  std::uint32_t values[kLoads];

  __device__ __forceinline__ void fetch(const Params& params, const Work& work, int tile, int warp, int lane) {
    const TileInput<T> input(params, work, tile);
    const auto load = [](const Element* from) { return load_read_only(reinterpret_cast<const std::uint32_t*>(from)); };
    if constexpr (T::kChannelFastest) {
      // A row a warp, half of it for each half of the lanes.
      const int first = lane / 16 * kColumns;
      const bool inside = warp < T::kInputH && lane % 16 * 2 < input.channels && input.row_inside(warp);
      const int begin = max(-input.left - first, 0), end = min(params.w - input.left - first, kColumns);
      const std::uint64_t bits = inside && begin < end ? (std::uint64_t{1} << end) - (std::uint64_t{1} << begin) : 0;
      const Element* from = input.corner + lane % 16 * 2 + warp * params.input_stride_h + first * params.input_stride_w;
#pragma unroll
      for (int i = 0; i < kLoads; ++i, from += params.input_stride_w) {
        ptx::hold(from);
        values[i] = 0;
        if (bits >> i & 1) values[i] = load(from);
      }
    } else {
      // Two channels a warp: 32 pairs of each row, and the last two of a row by the lanes of another warp.
      const Element* from[2];
      bool inside[2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        from[j] = input.corner + (warp * 2 + j) * params.input_stride_c + lane * 2;
        inside[j] = warp * 2 + j < input.channels && input.column_inside(lane * 2);
      }
#pragma unroll
      for (int h = 0; h < T::kInputH; ++h) {
        const bool row = input.row_inside(h);
#pragma unroll
        for (int j = 0; j < 2; ++j, from[j - 1] += params.input_stride_h) {
          ptx::hold(from[j]);
          values[h * 2 + j] = 0;
          if (inside[j] && row) values[h * 2 + j] = load(from[j]);
        }
      }
      const int channel = lane / 2 * 2, column = 64 + lane % 2 * 2;
      const bool last = warp < T::kInputH && input.row_inside(warp) && input.column_inside(column);
      const Element* at = input.corner + channel * params.input_stride_c + warp * params.input_stride_h + column;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        values[2 * T::kInputH + j] = 0;
        if (last && channel + j < input.channels) values[2 * T::kInputH + j] = load(at + j * params.input_stride_c);
      }
    }
  }

  __device__ __forceinline__ void publish(unsigned char* staged, int warp, int lane) const {
    auto* words = reinterpret_cast<std::uint32_t*>(staged);
    if constexpr (T::kChannelFastest) {
      if (warp >= T::kInputH) return;
      std::uint32_t* to = words + warp * T::kRowPitch + lane / 16 * kColumns * T::kPitch + lane % 16;
#pragma unroll
      for (int i = 0; i < kLoads; ++i) to[i * T::kPitch] = values[i];
    } else {
      // One half of the lanes stores its odd pixel first: the even ones alone would meet every second bank twice.
      const int odd = lane / 16;
      const auto store = [&](std::uint32_t* to, std::uint32_t lower, std::uint32_t upper) {
        to[odd * T::kPitch] = __byte_perm(lower, upper, odd != 0 ? 0x7632 : 0x5410);
        to[(1 - odd) * T::kPitch] = __byte_perm(lower, upper, odd != 0 ? 0x5410 : 0x7632);
      };
#pragma unroll
      for (int h = 0; h < T::kInputH; ++h) {
        store(words + h * T::kRowPitch + lane * 2 * T::kPitch + warp, values[h * 2], values[h * 2 + 1]);
      }
      if (warp >= T::kInputH) return;
      store(words + warp * T::kRowPitch + (64 + lane % 2 * 2) * T::kPitch + lane / 2, values[2 * T::kInputH],
            values[2 * T::kInputH + 1]);
    }
  }
};

}  // namespace convmin::backward
