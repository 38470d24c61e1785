// What the direct kernel receives: the problem in the widths that it computes with.
#pragma once

#include "common/fast_divisor.h"
#include "conv_scale_min.h"

namespace convmin::direct {

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
  int h, w, oh, ow, r, s;
  int stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;
  int outputs, group_channels, group_outputs;
  FastDivisor by_group_outputs;

  // A run is some rows of one output column. A tile is `tile_runs` runs, each shared by `slots` threads, neighbouring
  // ones with `slots_inside`; a slot takes every slots-th of the `items`, which are vectors of channels.
  int runs, tiles, tile_runs, slots, items;
  bool slots_inside;
  bool prefetched;  // what lies under a block's first tile
  FastDivisor by_ow, by_run_rows;

  // The weight in shared memory: rows of channels, output channels where there are groups, else input channels.
  // Groups: the bias is the row after the last.
  int weight_count, weight_pitch;                 // elements; bytes
  bool weight_channels_inside;                    // whether its input channels are neighbours in global memory
  FastDivisor by_weight_inner, by_weight_middle;  // the extents of its last two dimensions there: channels and taps
  FastDivisor by_s;
};

}  // namespace convmin::direct
