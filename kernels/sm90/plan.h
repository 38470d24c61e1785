#pragma once

#include "conv_scale_min.h"

namespace convmin::sm90 {

// Fills `plan` and returns null, or returns why the Hopper kernel can't take the problem.
const char* plan(const Problem& problem, const Device& device, Plan* plan);

// What this kernel's part of Plan::workspace_bytes is divided into, from 0: the packed weight, its factors, what is
// to be zero at first (the fallback's two counters, the channels' peaks), the fallback's tiles.
struct Workspace {
  std::int64_t factors, counters, peaks, tiles;  // byte offsets
  std::int64_t bytes;
};
Workspace workspace(const Problem& problem, const Plan& plan);

}  // namespace convmin::sm90
