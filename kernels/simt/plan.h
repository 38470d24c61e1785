#pragma once

#include "conv_scale_min.h"

namespace convmin::simt {

// Fills `plan` and returns null, or returns why the portable kernel can't take the problem.
const char* plan(const Problem& problem, const Device& device, Plan* plan);

// The plan for tiles of kFallbackTile pixels that a tensor-core kernel left over, for that many blocks. float32 only.
Plan plan_for_tiles(const Problem& problem, Gather gather, int blocks);

// What Plan::workspace_bytes is divided into: the packed weight at 0, then each split's minima.
struct Workspace {
  std::int64_t packed_reduction, packed_outputs;  // elements of a packed group, padded to whole tiles
  std::int64_t split_values, split_channels;      // byte offsets
  std::int64_t bytes;
};
Workspace workspace(const Problem& problem, const Plan& plan);

}  // namespace convmin::simt
