// What the kernel for few input channels receives: the problem in the widths that it computes with.
#pragma once

#include "common/fast_divisor.h"
#include "conv_scale_min.h"

namespace convmin::sm80::window {

struct Params {
  const void* input;
  const void* weight;
  const void* bias;
  void* values;
  void* indices;
  float scale;
  IndexType index_type;

  std::int64_t input_stride_n, input_stride_c, input_stride_h, input_stride_w;
  std::int64_t weight_stride_k, weight_stride_c, weight_stride_r, weight_stride_s;
  int h, w, oh, ow;
  int stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;
  int outputs, passes;   // output channels; of so many at a time
  int reduction, steps;  // c * r * s; multiplications of it
  // Whether neighbouring channels are neighbours in memory. Patch and reduction run over [row][column][channel] then,
  // else over [channel][row][column].
  bool channels_inside;
  bool weight_in_order;                                     // whether each filter lies in memory in that order, too
  FastDivisor by_steps, by_window_inner, by_window_middle;  // the extents of the window's last two dimensions

  // A tile is some rows by some columns of an image, a power of two each. Its patch: the input under it.
  int tile_rows, tile_columns, log_columns, tiles;
  FastDivisor by_tiles_w, by_tiles_h;
  int patch_elements;
  int patch_stride_c, patch_stride_h, patch_stride_w;  // bytes
  FastDivisor by_inner, by_middle;                     // the extents of its last two dimensions

  // Byte offsets into shared memory, which begins with the weight.
  int offsets, addends, places, patch;
};

}  // namespace convmin::sm80::window
