#pragma once

#include "conv_scale_min.h"

namespace convmin::sm90 {

// Fills `plan` and returns null, or returns why the Hopper kernel can't take the problem.
const char* plan(const Problem& problem, const Device& device, Plan* plan);

// What this kernel's part of Plan::workspace_bytes is divided into, from 0: the packed weight, its factors, the
// fallback's two counters and its tiles.
struct Workspace {
  std::int64_t factors, counters, tiles;  // byte offsets
  std::int64_t bytes;
};
Workspace workspace(const Problem& problem, const Plan& plan);

}  // namespace convmin::sm90
