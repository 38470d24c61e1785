#pragma once

#include "conv_scale_min.h"
#include "sm80/tiles.h"

namespace convmin::sm80 {

// Why no kernel of mma.sync takes the problem, whatever its shape; null: some may.
const char* refuse(const Problem& problem, const Device& device);
// Fills `plan` and returns null, or returns why the mma.sync kernel can't take the problem.
const char* plan(const Problem& problem, const Device& device, Plan* plan);

// The same problem with rows joined where the kernel can't tell: a 1 x 1 window over an image without gaps.
Problem join_rows(Problem problem);

// How a tile of pixels and its input lie.
struct Layout {
  Gather gather;
  std::int64_t chunk;    // elements of the reduction in a step
  std::int64_t columns;  // of the tile
  bool whole_window;     // a patch serves all taps
  bool within_image;     // a tile's rows are of one image, rather than a run over all
  bool padded;           // the patch's rows lie apart, in other banks
  // Of a specialized tile: its rings, as long as shared memory allows.
  std::int64_t patch_slots, weight_stages;
};

// What a problem, with its rows joined, comes to in the kernel's units. `sm80/params.h` says what the fields are.
struct Shape {
  std::int64_t tile_rows, tile_columns, tiles_h, tiles_w, tiles_per_image;
  std::int64_t step_h, step_w, unit_h, unit_w, span_h, span_w;
  std::int64_t run_columns, patch_columns, patch_pitch, patch_rows, patch_pixels, row_quads;
  std::int64_t taps, outer_taps, chunks, stages, steps;
  std::int64_t items, batches;  // in which a patch goes through registers
  std::int64_t patch_slots, weight_stages, patch_bytes, group_blocks;
  std::int64_t patches, pixels, offsets, best, flag, warp_states, terms, faint_parts,
      shared_memory;  // byte offsets, sum
};
Shape shape_of(const Problem& problem, const Tile& tile, const Layout& layout);
const Tile& tile_of(const Plan& plan);
Layout layout_of(const Plan& plan);

// What Plan::workspace_bytes is divided into: the packed weight at 0, then each split's minima, the parts' sums, and
// counters of what is finished; for float32 as float16 the filters' factors, what parts say of their pixels' range,
// what is to be zero at first (the fallback's two counters, the channels seen), and the fallback's tiles.
struct Workspace {
  std::int64_t split_values, split_channels, partials, counters;  // byte offsets
  std::int64_t counter_count;
  std::int64_t factors, ranges, fallback, seen, tiles;
  std::int64_t bytes;
};
Workspace workspace(const Problem& problem, const Plan& plan);

}  // namespace convmin::sm80
