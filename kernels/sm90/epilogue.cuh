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
  float value;

  __device__ __forceinline__ Minimum() : value(HUGE_VALF) {}
  __device__ __forceinline__ void offer(float other, int /*channel*/) { value = ptx::min_nan(value, other); }
  __device__ __forceinline__ void reduce_quad() {
    value = ptx::min_nan(value, __shfl_xor_sync(0xffffffffu, value, 1));
    value = ptx::min_nan(value, __shfl_xor_sync(0xffffffffu, value, 2));
  }
};

template <>
struct Minimum<true> : Candidate<float> {
  __device__ __forceinline__ Minimum() : Candidate<float>{HUGE_VALF, kNoChannel} {}

  __device__ __forceinline__ void offer(float other, int other_channel) {
    // The first +inf of a pixel has to leave its index.
    if (channel == kNoChannel) channel = other_channel;
    offer_ascending(other, other_channel);
  }
  __device__ __forceinline__ void reduce_quad() { warp_min<4>(*this); }
};

template <typename T>
struct Epilogue {
  using Min = Minimum<T::kWithIndices>;

  static __device__ __forceinline__ void reduce(const Params& params, const SharedStorage<T>& shared, int block_n,
                                                const typename Mainloop<T>::Accumulators& accumulators,
                                                Min (&best)[2]) {
    const int first = block_n * T::kTileN + static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int j = 0; j < T::kTileN / 8; ++j) {
      const int channel = first + 8 * j;
      // (factor, addend) of two neighbouring channels.
      const float4 affine = *reinterpret_cast<const float4*>(&shared.channel[channel]);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float v0 = fmaf(accumulators[4 * j + 2 * half], affine.x, affine.y);
        const float v1 = fmaf(accumulators[4 * j + 2 * half + 1], affine.z, affine.w);
        // A padding channel may not even be offered: its weights are zeros, and zero times an infinite input is NaN.
        if (channel < params.k) best[half].offer(v0, channel);
        if (channel + 1 < params.k) best[half].offer(v1, channel + 1);
      }
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
};

}  // namespace convmin::sm90
