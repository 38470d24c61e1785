// What the patch kernel wants prepared, in one launch: the weight packed into the tiles that it streams (K-major,
// swizzled, rounded as the tensor cores take it), counters set to zero, and the input copied where it has to be.
#pragma once

#include <climits>

#include "ptx/griddepcontrol.cuh"
#include "ptx/mma.cuh"
#include "sm90/filter.cuh"
#include "sm90/patch/copy.cuh"
#include "sm90/patch/params.h"
#include "sm90/patch/range.cuh"
#include "sm90/patch/traits.h"

namespace convmin::sm90::patch {

// Of a filter: with its packs a thread each, or, where all of them decide on a scale, one.
template <typename T>
__host__ __device__ int blocks_per_filter(const Params& params) {
  return T::kScaled ? 1 : (params.chunks * params.r * params.s * T::kPacks + kPrepareThreads - 1) / kPrepareThreads;
}

// The packs first, first + kPrepareThreads, ... before `end` of an output channel of a padded group.
template <typename T>
__device__ __forceinline__ void pack_filter(const Params& params, int row, int first, int end) {
  struct alignas(16) Operands {
    typename T::Operand values[T::kPack];
  };
  const int block = row / T::kTileN, n = row - block * T::kTileN;  // block counts over groups
  const int group = block / params.blocks_n, in_group = (block - group * params.blocks_n) * T::kTileN + n;
  const bool real = in_group < params.group_outputs;
  const int k = group * params.group_outputs + in_group, taps = params.r * params.s;
  const Filter<typename T::Element, T::kPack, T::kPacks> filter(params.weight, k, real, params.group_channels,
                                                                params.chunks, params.r, params.s);
  auto* image = static_cast<std::uint8_t*>(params.packed_weight) +
                static_cast<std::int64_t>(block) * params.chunks * taps * T::kStageBytes + n * kRowBytes;
  // convert(channel, values, operands) does so with neighbours from `channel` on.
  const auto store = [&](auto&& convert) {
    for (int i = first; i < min(end, filter.packs()); i += kPrepareThreads) {
      const PackAt at = filter.at(i);
      auto pack = filter.load(at);
      Operands operands;
      convert(at.chunk * T::kChunk + at.pack * T::kPack, pack.values, operands.values);
      auto* target =
          image + static_cast<std::int64_t>(at.chunk * taps + at.tap) * T::kStageBytes + (at.pack ^ (n & 7)) * 16;
      *reinterpret_cast<uint4*>(target) = *reinterpret_cast<const uint4*>(&operands);
    }
  };
  using Values = typename T::Element[T::kPack];
  using Converted = typename T::Operand[T::kPack];
  if constexpr (T::kScaled) {
    float up = 1.0f;
    if (real) {
      up = scale_filter(params.channel_factor + k, params.fallback,
                        [&](auto&& visit) { filter.template for_each<kPrepareThreads>(visit); });
    }
    __shared__ typename LargeWeights<kPrepareThreads>::Shared shared;
    const LargeWeights<kPrepareThreads> large(shared, params.group_channels, params.channel_seen);
    store([&](int channel, Values& values, Converted& operands) {
#pragma unroll
      for (float& value : values) value *= up;
      large.note(channel, values);
#pragma unroll
      for (int j = 0; j < T::kPack; ++j) operands[j] = __float2half_rn(values[j]);
    });
    large.publish();
  } else {
    store([](int, const Values& values, Converted& operands) {
#pragma unroll
      for (int j = 0; j < T::kPack; ++j) {
        if constexpr (sizeof(values[j]) == 4) {
          operands[j] = __uint_as_float(ptx::round_to_tf32(values[j]));
        } else {
          operands[j] = values[j];
        }
      }
    });
  }
}

// Blocks that pack filters, and set the counters to zero.
template <typename T>
__host__ __device__ int filter_blocks(const Params& params) {
  if (!params.packs) return 0;
  return params.groups * params.blocks_n * T::kTileN * blocks_per_filter<T>(params);
}

// Blocks of filters first, which take the longest.
template <typename T>
__global__ void __launch_bounds__(kPrepareThreads)
    conv_scale_min_sm90_patch_prepare(const __grid_constant__ Params params) {
  __shared__ typename Copier<T>::Shared shared;
  ptx::launch_dependents();
  const int block = static_cast<int>(blockIdx.x), filters = filter_blocks<T>(params);
  if (block >= filters) {
    Copier<T>(params, block - filters).run(shared);
    return;
  }
  for (int i = block * kPrepareThreads + static_cast<int>(threadIdx.x); i < params.counter_count;
       i += filters * kPrepareThreads) {
    params.counters[i] = 0;
  }
  const int per_row = blocks_per_filter<T>(params);
  const int row = block / per_row, slice = (block - row * per_row) * kPrepareThreads;
  pack_filter<T>(params, row, slice + static_cast<int>(threadIdx.x), T::kScaled ? INT_MAX : slice + kPrepareThreads);
}

}  // namespace convmin::sm90::patch
