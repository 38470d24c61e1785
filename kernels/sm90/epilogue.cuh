// Bias, scale and the minimum over a tile of output channels, all in registers: a thread holds 2 pixels x kTileN / 4
// channels, a quad of lanes the rest of the pixel. Rounding is monotone, so the minimum of the products is the product
// of the minimum (of the maximum, by the sign in the factors, where scale is negative): one multiplication per pixel.
#pragma once

#include <cmath>

#include "common/candidate.cuh"
#include "ptx/minimum.cuh"
#include "sm90/mainloop.cuh"

namespace convmin::sm90 {

// The running minimum of one pixel over blocks of output channels.
template <bool kWithIndices>
struct Minimum;

template <>
struct Minimum<false> {
  float value = HUGE_VALF;

  __device__ __forceinline__ void merge(const Minimum& other) { value = ptx::min_nan(value, other.value); }
  __device__ __forceinline__ void reduce_quad() {
    value = ptx::min_nan(value, __shfl_xor_sync(0xffffffffu, value, 1));
    value = ptx::min_nan(value, __shfl_xor_sync(0xffffffffu, value, 2));
  }
};

template <>
struct Minimum<true> : Candidate<float> {
  __device__ __forceinline__ Minimum() : Candidate<float>{HUGE_VALF, kNoChannel} {}
  __device__ __forceinline__ void reduce_quad() { warp_min<4>(*this); }
};

template <typename T>
struct Epilogue {
  using Min = Minimum<T::kWithIndices>;
  using Accumulators = typename Mainloop<T>::Accumulators;
  static constexpr int kValues = T::kTileN / 4;  // of a pixel in a thread

  // A thread's channels of a block, in order: 0, 1, 8, 9, 16, ...
  static __device__ __forceinline__ constexpr int channel_of(int i) { return i / 2 * 8 + i % 2; }

  static __device__ __forceinline__ void reduce(const Params& params, const SharedStorage<T>& shared, int block_n,
                                                Accumulators& accumulators, Min (&best)[2]) {
    const int first = block_n * T::kTileN + static_cast<int>(threadIdx.x) % 4 * 2;
    // A padding channel may not even be offered: its weights are zeros, and zero times an infinite input is NaN.
    if ((block_n + 1) * T::kTileN <= params.k) {
      reduce_block<false>(shared, first, params.k, accumulators, best);
    } else {
      reduce_block<true>(shared, first, params.k, accumulators, best);
    }
  }

  static __device__ __forceinline__ void write(const Params& params, std::int64_t row, int column, Min (&best)[2]) {
    using Element = typename T::Element;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      best[half].reduce_quad();
      const int ow = column + 8 * half;
      if (threadIdx.x % 4 != 0 || ow >= params.ow) continue;
      const std::int64_t at = row * params.ow + ow;
      static_cast<Element*>(params.values)[at] = Numeric<Element>::round(best[half].value * fabsf(params.scale));
      if constexpr (T::kWithIndices) write_index(params.indices, params.index_type, at, best[half].channel);
    }
  }

 private:
  template <bool kPadded>
  static __device__ __forceinline__ void reduce_block(const SharedStorage<T>& shared, int first, int k,
                                                      Accumulators& accumulators, Min (&best)[2]) {
    // Calls visit(i, values of channel_of(i) of the two pixels).
    const auto for_each_channel = [&](auto&& visit) {
#pragma unroll
      for (int i = 0; i < kValues; i += 2) {
        // (factor, addend) of two neighbouring channels.
        const float4 affine = *reinterpret_cast<const float4*>(&shared.channel[first + channel_of(i)]);
        const float* sums = &accumulators[2 * i];
        if (!kPadded || first + channel_of(i) < k)
          visit(i, fmaf(sums[0], affine.x, affine.y), fmaf(sums[2], affine.x, affine.y));
        if (!kPadded || first + channel_of(i + 1) < k)
          visit(i + 1, fmaf(sums[1], affine.z, affine.w), fmaf(sums[3], affine.z, affine.w));
      }
    };
    Min block[2];
    if constexpr (T::kWithIndices) {
      // Comparisons with NaN are false, so a NaN sets the value and stays, and leaves the channel to the second pass.
      int at[2] = {0, 0};
      for_each_channel([&](int i, float value0, float value1) {
        at[0] = value0 < block[0].value ? i : at[0];
        at[1] = value1 < block[1].value ? i : at[1];
        block[0].value = ptx::min_nan(block[0].value, value0);
        block[1].value = ptx::min_nan(block[1].value, value1);
      });
      if (isnan(block[0].value) || isnan(block[1].value)) {
        ptx::wgmma_hold(accumulators);  // or the compiler would keep the first pass's values for the second
        first_nan(for_each_channel, block, at);
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        // A thread without a real channel in a padded block offers nothing.
        block[half].channel = !kPadded || first < k ? first + channel_of(at[half]) : kNoChannel;
      }
    } else {
      for_each_channel([&](int /*i*/, float value0, float value1) {
        block[0].value = ptx::min_nan(block[0].value, value0);
        block[1].value = ptx::min_nan(block[1].value, value1);
      });
    }
    best[0].merge(block[0]);
    best[1].merge(block[1]);
  }

  template <typename ForEachChannel>
  static __device__ __forceinline__ void first_nan(const ForEachChannel& for_each_channel, const Min (&block)[2],
                                                   int (&at)[2]) {
    int nan[2] = {kValues, kValues};
    for_each_channel([&](int i, float value0, float value1) {
      if (isnan(value0)) nan[0] = min(nan[0], i);
      if (isnan(value1)) nan[1] = min(nan[1], i);
    });
    if (isnan(block[0].value)) at[0] = nan[0];
    if (isnan(block[1].value)) at[1] = nan[1];
  }
};

}  // namespace convmin::sm90
