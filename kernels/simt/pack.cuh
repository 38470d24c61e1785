// Packs the weight for the portable kernel: any strides and element type in, whole zero-padded tiles out, channels next
// to each other, so that the mainloop reads vectors with neither bounds checks nor address arithmetic.
#pragma once

#include <algorithm>

#include "common/convert.cuh"
#include "common/fallback.h"
#include "ptx/griddepcontrol.cuh"
#include "simt/params.h"

namespace convmin::simt {

inline constexpr int kPackThreads = 128;
inline constexpr unsigned kFallbackPackBlocks = 1024;  // at most: where they find nothing to do, more take longer
inline unsigned pack_blocks(const Params& params, const Fallback& tiles) {
  const auto rows = static_cast<unsigned>(params.groups * params.packed_reduction);
  return tiles.count != nullptr ? std::min(kFallbackPackBlocks, rows) : rows;
}

// A block takes one row of the packed weight after another: a group and a reduction index. Where it is for noted tiles
// and there are none, it does nothing.
template <typename Element>
__global__ void conv_scale_min_simt_pack(const __grid_constant__ Params params,
                                         const __grid_constant__ Fallback tiles) {
  ptx::launch_dependents();
  ptx::wait_for_prerequisites();  // for tiles to be noted
  if (tiles.count != nullptr && *tiles.count == 0 && *tiles.everything == 0) return;
  using Accum = typename Numeric<Element>::Accum;
  const auto rows = static_cast<unsigned>(params.groups * params.packed_reduction);
  for (unsigned i = blockIdx.x; i < rows; i += gridDim.x) {
    const int group = static_cast<int>(i / params.packed_reduction);
    const int index = static_cast<int>(i % params.packed_reduction);
    const bool padding = index >= params.reduction;
    const ReductionIndex at = decompose(params, padding ? 0 : index);
    const auto* source = static_cast<const Element*>(params.weight) +
                         static_cast<std::int64_t>(group) * params.group_outputs * params.weight_stride_k +
                         at.channel * params.weight_stride_c + at.r * params.weight_stride_r +
                         at.s * params.weight_stride_s;
    auto* row = static_cast<Accum*>(params.packed_weight) + static_cast<std::int64_t>(i) * params.packed_outputs;
    for (int output = static_cast<int>(threadIdx.x); output < params.packed_outputs; output += blockDim.x) {
      const bool real = !padding && output < params.group_outputs;
      row[output] = real ? Numeric<Element>::widen(source[output * params.weight_stride_k]) : Accum{0};
    }
  }
}

}  // namespace convmin::simt
