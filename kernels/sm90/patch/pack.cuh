// Packs the weight into the tiles that the patch kernel streams: K-major, swizzled, float32 rounded to TF32. And sets
// the tiles' counters to zero.
#pragma once

#include "ptx/mma.cuh"
#include "sm90/patch/params.h"
#include "sm90/patch/traits.h"

namespace convmin::sm90::patch {

inline constexpr int kPackThreads = 128;

// A block an output channel of a padded group, a chunk of input channels and all taps.
template <typename T>
__global__ void __launch_bounds__(kPackThreads) conv_scale_min_sm90_patch_pack(const __grid_constant__ Params params) {
  using Element = typename T::Element;
  const int row = static_cast<int>(blockIdx.x), chunk = static_cast<int>(blockIdx.y);
  const int block = row / T::kTileN, n = row - block * T::kTileN;  // block counts over groups
  const int group = block / params.blocks_n, k = (block - group * params.blocks_n) * T::kTileN + n;
  const bool real = k < params.group_outputs;
  const auto* filter =
      static_cast<const Element*>(params.weight) +
      (real ? static_cast<std::int64_t>(group) * params.group_outputs + k : 0) * params.weight_stride_k;
  if (params.splits > 1 && chunk == 0) {
    for (int i = row * kPackThreads + static_cast<int>(threadIdx.x); i < params.tiles;
         i += static_cast<int>(gridDim.x) * kPackThreads) {
      params.counters[i] = 0;
    }
  }
  const int taps = params.r * params.s;
  auto* image = static_cast<std::uint8_t*>(params.packed_weight) +
                (static_cast<std::int64_t>(block) * params.chunks + chunk) * taps * T::kStageBytes + n * kRowBytes;
  for (int i = static_cast<int>(threadIdx.x); i < taps * T::kChunk; i += kPackThreads) {
    const int tap = i / T::kChunk, c = i % T::kChunk, channel = chunk * T::kChunk + c;
    Element value{};
    if (real && channel < params.group_channels) {
      value = filter[channel * params.weight_stride_c + tap / params.s * params.weight_stride_r +
                     tap % params.s * params.weight_stride_s];
    }
    if (params.scale < 0) value = -value;
    auto* target = image + static_cast<std::int64_t>(tap) * T::kStageBytes + ((c / T::kPack ^ (n & 7)) * 16) +
                   c % T::kPack * sizeof(Element);
    if constexpr (sizeof(Element) == 4) {
      *reinterpret_cast<std::uint32_t*>(target) = ptx::round_to_tf32(value);
    } else {
      *reinterpret_cast<Element*>(target) = value;
    }
  }
}

}  // namespace convmin::sm90::patch
