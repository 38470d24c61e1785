#pragma once

#include "conv_scale_min.h"

namespace convmin::sm90 {

// Fills `plan` and returns null, or returns why the Hopper kernel can't take the problem.
const char* plan(const Problem& problem, const Device& device, Plan* plan);

// What Plan::workspace_bytes is divided into, from 0: the packed weight, its factors, the fallback's two counters and
// tiles, and, for float32, what the portable kernel wants.
struct Workspace {
  std::int64_t factors, counters, tiles, portable;  // byte offsets
  std::int64_t bytes;
};
Workspace workspace(const Problem& problem, const Plan& plan);

// The portable kernel's plan for the tiles that the Hopper kernel leaves to it.
Plan fallback_plan(const Problem& problem, const Plan& plan);

}  // namespace convmin::sm90
