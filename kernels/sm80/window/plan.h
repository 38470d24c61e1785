#pragma once

#include "conv_scale_min.h"

namespace convmin::sm80::window {

// Fills `plan` and returns null, or returns why the kernel can't take the problem.
const char* plan(const Problem& problem, const Device& device, Plan* plan);
// Why another kernel is faster, or null.
const char* drawback(const Problem& problem, const Device& device, const Plan& plan);

// A block's tile and its patch, and where things lie in shared memory.
struct Shape {
  std::int64_t tile_rows, tile_columns;
  std::int64_t tiles_h, tiles_w, tiles;
  std::int64_t patch_rows, patch_columns, patch_elements;
  std::int64_t steps, passes;
  std::int64_t offsets, addends, places, patch, bytes;  // byte offsets, and all of it
};
Shape shape_of(const Problem& problem, std::int64_t width, std::int64_t tile_columns);

// Whether neighbouring channels are neighbours in memory, and then in the patch.
bool channels_inside(const Problem& problem);

}  // namespace convmin::sm80::window
