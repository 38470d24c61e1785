#pragma once

#include "conv_scale_min.h"

namespace convmin::sm90 {

// Fills `plan` and returns null, or returns why the Hopper kernel can't take the problem.
const char* plan(const Problem& problem, const Device& device, Plan* plan);

// Why another kernel would be faster than an accepted plan; null: none would.
const char* drawback(const Problem& problem, const Device& device, const Plan& plan);

// What a problem comes to in the kernel's units, for a tile of that many output channels.
struct Shape {
  std::int64_t strips;                    // of kTileM columns
  std::int64_t chunks, blocks_n;          // of kChunk input channels, of tile_n output channels
  std::int64_t window, row_pixels;        // input rows under an output row, pixels of one in shared memory
  std::int64_t weight_bytes, slot_bytes;  // shared memory of the weight, of an input row
};
Shape shape_of(const Problem& problem, int tile_n);
// Whether NCHW rows are read four pixels at a time: aligned vectors, none of them across the image's edge.
bool quads_fit(const Problem& problem);

// What this kernel's part of Plan::workspace_bytes is divided into, from 0: the packed weight, its factors, what is
// to be zero at first (the fallback's two counters, the factors' range, the channels' peaks), the fallback's tiles.
struct Workspace {
  std::int64_t factors, counters, factor_range, peaks, tiles;  // byte offsets
  std::int64_t bytes;
};
Workspace workspace(const Problem& problem, const Plan& plan);

}  // namespace convmin::sm90
