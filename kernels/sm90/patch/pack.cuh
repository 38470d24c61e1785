// What the patch kernel wants prepared, in one launch: the weight packed into the tiles that it streams (K-major,
// swizzled, rounded as the tensor cores take it), counters set to zero, and the input copied where it has to be.
#pragma once

#include "ptx/griddepcontrol.cuh"
#include "ptx/mma.cuh"
#include "sm90/patch/copy.cuh"
#include "sm90/patch/params.h"
#include "sm90/patch/range.cuh"
#include "sm90/patch/traits.h"

namespace convmin::sm90::patch {

// A filter's power of two, from its largest weight; and which input channels it has large weights for.
template <typename T, typename Read>
__device__ __forceinline__ float scale_filter(const Params& params, int k, const Read& read) {
  __shared__ unsigned largest_bits;
  const int thread = static_cast<int>(threadIdx.x), taps = params.r * params.s;
  if (thread == 0) largest_bits = 0;
  __syncthreads();
  unsigned mine = 0;
#pragma unroll 8
  for (int i = thread; i < params.group_channels * taps; i += kPrepareThreads) {
    mine = max(mine, __float_as_uint(read(i / taps, i % taps)) & 0x7fffffffu);
  }
  atomicMax(&largest_bits, mine);  // of integers: the same whatever the order
  __syncthreads();
  const unsigned largest = largest_bits;
  const bool out = out_of_scale(largest);
  // The largest weight lands in [2^14, 2^15).
  const float up = largest == 0 || out ? 1.0f : __uint_as_float((127 + 14 + 127 - (largest >> 23)) << 23);
  if (thread == 0) {
    params.channel_factor[k] = 1.0f / up;
    if (out) *params.fallback.everything = 1;
  }
  for (int c = thread; c < params.group_channels; c += kPrepareThreads) {
    bool seen = false;
    for (int tap = 0; tap < taps; ++tap) seen |= !(fabsf(read(c, tap)) * up < kFaintestPeak);
    if (seen) params.channel_seen[c] = 1;
  }
  return up;
}

// An output channel of a padded group, and a chunk of input channels or all of them, of all taps.
template <typename T>
__device__ __forceinline__ void pack_filter(const Params& params, int row, int first_chunk, int end_chunk) {
  using Element = typename T::Element;
  const int block = row / T::kTileN, n = row - block * T::kTileN;  // block counts over groups
  const int group = block / params.blocks_n, k = (block - group * params.blocks_n) * T::kTileN + n;
  const bool real = k < params.group_outputs;
  const int of_all = group * params.group_outputs + (real ? k : 0), taps = params.r * params.s;
  const auto* filter = static_cast<const Element*>(params.weight) + of_all * params.weight_stride_k;
  const auto read = [&](int channel, int tap) {
    return filter[channel * params.weight_stride_c + tap / params.s * params.weight_stride_r +
                  tap % params.s * params.weight_stride_s];
  };
  [[maybe_unused]] float up = 1.0f;
  if constexpr (T::kScaled) {
    if (real) up = scale_filter<T>(params, of_all, read);
  }
  for (int chunk = first_chunk; chunk < end_chunk; ++chunk) {
    auto* image = static_cast<std::uint8_t*>(params.packed_weight) +
                  (static_cast<std::int64_t>(block) * params.chunks + chunk) * taps * T::kStageBytes + n * kRowBytes;
    for (int i = static_cast<int>(threadIdx.x); i < taps * T::kChunk; i += kPrepareThreads) {
      const int tap = i / T::kChunk, c = i % T::kChunk, channel = chunk * T::kChunk + c;
      Element value{};
      if (real && channel < params.group_channels) value = read(channel, tap);
      auto* target = image + static_cast<std::int64_t>(tap) * T::kStageBytes + ((c / T::kPack ^ (n & 7)) * 16) +
                     c % T::kPack * sizeof(typename T::Operand);
      if constexpr (T::kScaled) {
        *reinterpret_cast<__half*>(target) = __float2half_rn(value * up);  // the sign is the factor's
      } else {
        if (params.scale < 0) value = -value;
        if constexpr (sizeof(Element) == 4) {
          *reinterpret_cast<std::uint32_t*>(target) = ptx::round_to_tf32(value);
        } else {
          *reinterpret_cast<Element*>(target) = value;
        }
      }
    }
  }
}

// Blocks of filters first, which take the longest: with all chunks where a filter's scale is found, else with one.
template <typename T>
__global__ void __launch_bounds__(kPrepareThreads)
    conv_scale_min_sm90_patch_prepare(const __grid_constant__ Params params) {
  __shared__ typename Copier<T>::Shared shared;
  ptx::launch_dependents();
  const int block = static_cast<int>(blockIdx.x), per_row = T::kScaled ? 1 : params.chunks;
  const int filters = params.groups * params.blocks_n * T::kTileN * per_row;
  if (block >= filters) {
    Copier<T>(params, block - filters).run(shared);
    return;
  }
  for (int i = block * kPrepareThreads + static_cast<int>(threadIdx.x); i < params.counter_count;
       i += filters * kPrepareThreads) {
    params.counters[i] = 0;
  }
  const int row = block / per_row, chunk = block - row * per_row;
  pack_filter<T>(params, row, chunk, T::kScaled ? params.chunks : chunk + 1);
}

}  // namespace convmin::sm90::patch
