// Packs the weight into the image that the Hopper kernel keeps in shared memory: 16-bit, K-major, swizzled. float32
// filters are scaled by a power of two each, so that float16's range loses nothing that matters to the filter's sums.
#pragma once

#include "common/float16_range.cuh"
#include "ptx/griddepcontrol.cuh"
#include "sm90/filter.cuh"
#include "sm90/params.h"
#include "sm90/traits.h"

namespace convmin::sm90 {

inline constexpr int kPackThreads = 128;

// The power of two of filter k. Notes how large the weights of an input channel get in any filter, and whether filters
// can have a factor in common.
template <typename Filter>
__device__ __forceinline__ float scale_filter(const Params& params, const Filter& filter, int k) {
  const unsigned largest = largest_weight([&](auto&& visit) { filter.template for_each<kPackThreads>(visit); });
  const float up = filter_scale(largest);
  if (threadIdx.x == 0) {
    const float factor = 1.0f / up;
    params.channel_factor[k] = factor;
    if (out_of_scale(largest)) *params.fallback.everything = 1;
    if (largest != 0) {
      atomicMax(&params.factor_range[0], __float_as_uint(factor));
      atomicMax(&params.factor_range[1], ~__float_as_uint(factor));
    }
    if (params.bias != nullptr && !shares_factor(static_cast<const float*>(params.bias)[k])) {
      atomicMax(&params.factor_range[1], ~__float_as_uint(0.0f));
    }
  }
  for (int c = static_cast<int>(threadIdx.x); c < params.c; c += kPackThreads) {
    atomicMax(&params.channel_peak[c], __float_as_uint(__uint_as_float(filter.peak(c)) * up));
  }
  return up;
}

// One block per output channel, padding included.
template <typename T>
__global__ void __launch_bounds__(kPackThreads) conv_scale_min_sm90_pack(const __grid_constant__ Params params) {
  using Mma = typename T::Mma;
  constexpr int kPack = 8, kPacks = kChunk / kPack;
  struct alignas(16) Operands {
    Mma values[kPack];
  };
  ptx::launch_dependents();
  const int k = static_cast<int>(blockIdx.x);
  const bool real = k < params.k;
  const Filter<typename T::Element, kPack, kPacks> filter(params.weight, k, real, params.c, params.chunks, params.r,
                                                          params.s);
  [[maybe_unused]] float up = 1.0f;
  if constexpr (T::kScalesFilters) {
    if (real) up = scale_filter(params, filter, k);
  }
  auto* image = static_cast<std::uint8_t*>(params.packed_weight);
  const int n = k % T::kTileN, block_n = k / T::kTileN;
  for (int i = static_cast<int>(threadIdx.x); i < filter.packs(); i += kPackThreads) {
    const PackAt at = filter.at(i);
    const auto pack = filter.load(at);
    Operands operands;
#pragma unroll
    for (int j = 0; j < kPack; ++j) {
      if constexpr (T::kScalesFilters) {
        operands.values[j] = __float2half_rn(pack.values[j] * up);  // the sign is the factor's
      } else {
        operands.values[j] = params.scale < 0 ? __hneg(pack.values[j]) : pack.values[j];
      }
    }
    const int row = ((at.tap * params.chunks + at.chunk) * params.blocks_n + block_n) * T::kTileN + n;
    auto* target = image + static_cast<std::int64_t>(row) * kRowBytes + (at.pack ^ (n & 7)) * 16;
    *reinterpret_cast<uint4*>(target) = *reinterpret_cast<const uint4*>(&operands);
  }
}

}  // namespace convmin::sm90
