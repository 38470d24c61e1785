// Packs the weight into the order of the multiplication's fragments, zero-padded to whole tiles: a thread's share of a
// fragment pair is one 16-byte vector, next to its neighbour's, so shared memory holds it without padding or swizzle.
#pragma once

#include "ptx/mma.cuh"
#include "sm80/params.h"
#include "sm80/traits.h"

namespace convmin::sm80 {

inline constexpr int kPackThreads = 256;

// Bits of a weight as the tensor cores take it.
__device__ __forceinline__ std::uint32_t operand_bits(float value) { return ptx::round_to_tf32(value); }
template <typename Element>
__device__ __forceinline__ std::uint32_t operand_bits(Element value) {
  return *reinterpret_cast<const std::uint16_t*>(&value);
}

// One thread per 16-byte vector: of [group][block of outputs][step][half of the step][16 outputs][lane].
template <typename T>
__global__ void __launch_bounds__(kPackThreads) conv_scale_min_sm80_pack(const __grid_constant__ Params params) {
  using Element = typename T::Element;
  constexpr int kPerWord = 4 / static_cast<int>(sizeof(Element));
  const auto index = static_cast<std::int64_t>(blockIdx.x) * kPackThreads + threadIdx.x;
  if (index < params.counter_count) params.counters[index] = 0;
  const std::int64_t image = index / T::kWeightVectors;
  const int vector = static_cast<int>(index - image * T::kWeightVectors);
  const std::int64_t block = image / params.steps;  // of all groups
  const int step = static_cast<int>(image - block * params.steps);
  const int group = static_cast<int>(block / params.group_blocks);
  if (group >= params.groups) return;
  const int first_output = static_cast<int>(block - static_cast<std::int64_t>(group) * params.group_blocks) * T::kTileN;
  const int stage = step / params.taps;
  const int chunk = stage % params.chunks;
  const int tap = stage / params.chunks + step % params.taps;  // one of the two is always 0

  const int lane = vector % 32, pair = vector / 32 % (T::kTileN / 16), half = vector / 32 / (T::kTileN / 16);
  const auto* weight = static_cast<const Element*>(params.weight);
  std::uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int output = first_output + pair * 16 + i / 2 * 8 + lane / 4;
    words[i] = 0;
#pragma unroll
    for (int j = 0; j < kPerWord; ++j) {
      const int element = chunk * T::kChunk + (half * 8 + lane % 4 + i % 2 * 4) * kPerWord + j;
      int channel = element, at = tap;
      bool real = element < params.group_channels;
      if constexpr (T::kGather == Gather::kTaps) {
        real = element < params.reduction;
        at = element / params.group_channels;
        channel = element - at * params.group_channels;
      }
      if (!real || output >= params.group_outputs) continue;
      const std::int64_t k = static_cast<std::int64_t>(group) * params.group_outputs + output;
      const Element value = weight[k * params.weight_stride_k + channel * params.weight_stride_c +
                                   at / params.s * params.weight_stride_r + at % params.s * params.weight_stride_s];
      words[i] |= operand_bits(value) << 16 * j;
    }
  }
  static_cast<uint4*>(params.packed_weight)[index] = uint4{words[0], words[1], words[2], words[3]};
}

}  // namespace convmin::sm80
