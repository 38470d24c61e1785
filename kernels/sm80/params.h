#pragma once

#include "common/fallback.h"
#include "common/fast_divisor.h"
#include "conv_scale_min.h"
#include "sm80/tiles.h"

namespace convmin::sm80 {

struct Params {
  const void* input;
  const void* bias;
  void* values;
  void* indices;
  float scale;
  IndexType index_type;

  std::int64_t input_stride_n, input_stride_c, input_stride_h, input_stride_w;  // bytes
  int n, h, w, oh, ow;
  int stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;
  int r, s;
  int groups, group_channels, group_outputs;

  // A tile is a run of output rows, of one image or of all one after the other, by a range of columns.
  int rows;        // n * oh
  unsigned tiles;  // that a specialized tile's blocks take one after another
  int tile_rows, tile_columns, tiles_w;
  int tiles_per_image;  // down an image; 0 where they run on over all

  // Its patch: the input pixels under it, every step_h-th row and step_w-th column of them. Neighbouring output pixels
  // lie unit_h rows or unit_w columns of the patch apart, and each needs span_h x span_w of it. In shared memory
  // columns are dealt to unit_w runs of run_columns, so that neighbouring outputs are neighbours there whatever the
  // stride.
  int step_h, step_w, unit_h, unit_w, span_h, span_w;
  int run_columns, patch_columns, patch_pitch;  // patch_columns = unit_w * run_columns; the pitch is between rows
  int patch_pixels;                             // rows * patch_columns
  int row_quads, quads;                         // Gather::kQuads: of a row of the patch and of all
  FastDivisor by_patch_columns, by_patch_pixels, by_s, by_chunks, by_group_blocks;
  FastDivisor by_window;  // r * s

  // The reduction: stages of (outer tap, chunk of channels), each of `taps` steps that share a patch. A patch serves
  // all taps (then there is one outer tap), or one. Gather::kTaps: stages of one step, kChunk elements of the window
  // each.
  int taps, outer_taps, chunks;
  int stages, steps;      // of one block of output channels
  unsigned items;         // of a patch, where it goes through registers
  int windows_per_batch;  // of the producer: how long a batch may stay in registers
  int patch_slots;        // in shared memory
  int patch_bytes;        // of one
  int group_blocks;       // blocks of output channels in a group
  int splits;             // that share the blocks of output channels
  int parts;              // that share the stages of one block of output channels; where several, a split is a block
  int reduction;

  int weight_stages;  // of the weight in shared memory

  // Byte offsets in shared memory, after the weight's stages. `flag` is a specialized tile's mbarriers;
  // warp_states and terms are its own: what its warps keep there, and what becomes of its channels' sums.
  int patches, pixels, offsets, best, flag, warp_states, terms, faint_parts;

  // Lanes of a warp that say, in a specialized tile, that it has read a slot. One is enough, behind __syncwarp. All of
  // them take 4 % of the kernel's time, but racecheck takes no order from __syncwarp (launch.cu).
  int arrivals;
  int split_blocks;  // of output channels, that a specialized block has of each of its tiles: an equal share

  // Workspace.
  const void* weight;
  std::int64_t weight_stride_k, weight_stride_c, weight_stride_r, weight_stride_s;  // elements
  void* packed_weight;  // [groups][group_blocks][steps] images of a step in shared memory
  float* split_values;  // [splits][pixels]
  int* split_channels;
  float4* partials;  // [tiles][splits][parts] accumulators of a block, fragment by fragment
  int* counters;     // of finished parts [tiles][splits], then of finished splits [tiles]; of specialized tiles those
                     // alone [tiles][rows of warps]; zeroed by the packing kernel
  int counter_count;

  // Where float32 multiplies as float16.
  bool dense_filters;      // nothing lies between a filter's weights
  float* channel_factor;   // [k] power of two that undoes the packed weight's scaling
  unsigned* range_counts;  // [tiles][parts][places of the patch, and one]: what of a pixel's range a part has counted
  std::uint8_t* channel_seen;  // [c] whether a filter has a large weight for an input channel
  Fallback fallback;
};

}  // namespace convmin::sm80
