// What the depthwise kernel receives: the problem in the widths that it computes with.
#pragma once

#include "common/fast_divisor.h"
#include "conv_scale_min.h"

namespace convmin::depthwise {

struct Params {
  const void* input;
  const void* weight;
  const void* bias;
  void* values;
  void* indices;
  float scale;
  IndexType index_type;

  std::int64_t input_stride_n, input_stride_c, input_stride_h, input_stride_w;  // bytes
  std::int64_t weight_stride_k, weight_stride_c, weight_stride_r, weight_stride_s;
  int h, w, oh, ow;
  int padding_h, padding_w, dilation_h, dilation_w;
  int channels;
  bool weight_vectors;  // filter after filter, aligned

  // A block's tile is a grid of patches. `slots` warps share a patch: a stage is so many times 32 channels. The blocks
  // of a cluster share a tile's stages.
  int patch_rows, patch_columns, slots, stages, splits;
  FastDivisor by_slots, by_patch_columns, by_splits, by_tiles_w, by_tiles_h;

  // Shared memory: what warps exchange, where in an image each unit of a stage's input comes from, and one stage or
  // two.
  int row_columns, units;  // of the input under a tile; `shift` columns before it make whole units
  int shift;
  FastDivisor by_row_units;
  // By pixels: so many threads share a stage's units, each with so many of its channels.
  int copiers, copied_channels;
  FastDivisor by_copiers;
  int input_pitch;  // bytes of a channel, or of 32 of them where channels are neighbours
  int first_stage, input_bytes, stage_bytes;
};

}  // namespace convmin::depthwise
