// What the gradient kernels receive: the problem in the widths that they compute with.
#pragma once

#include "backward/plan.h"
#include "common/fast_divisor.h"
#include "conv_scale_min.h"

namespace convmin::backward {

struct Params {
  const void* grad_output;
  const void* indices;
  const void* input;
  const void* weight;
  void* grad_input;
  void* grad_weight;
  void* grad_bias;
  double scale;
  IndexType index_type;

  std::int64_t grad_output_stride_n, grad_output_stride_h, grad_output_stride_w;
  std::int64_t indices_stride_n, indices_stride_h, indices_stride_w;
  std::int64_t input_stride_n, input_stride_c, input_stride_h, input_stride_w;
  std::int64_t weight_stride_k, weight_stride_c, weight_stride_r, weight_stride_s;
  std::int64_t grad_weight_stride_k, grad_weight_stride_c, grad_weight_stride_r, grad_weight_stride_s;
  int n, c, h, w, k, r, s, oh, ow;
  int stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;
  int groups, group_channels, group_outputs;
  bool channels_last;  // grad_input's layout

  FastDivisor by_stride_h, by_stride_w;

  // grad_input.
  void* packed_weight;  // [group][chunk][group_outputs + 1][taps][lane][vector]; the last row is zeros
  int channel_chunks;   // of a group; kGroups: of all groups
  int chunk_groups;     // kGroups: of a chunk
  std::int64_t input_pixels;

  // grad_weight: pixels of a tile sorted by channel, `tile_pixels` a tile; what is left over is kNoKey.
  std::uint32_t* sorted_keys;
  void* sorted_values;  // gradient times scale, in the type that sums are kept in
  void* partial_sums;
  std::int64_t tiles, output_pixels;
  int tiles_h, tiles_w;  // kWindow: of an image
  int columns;           // of a group: channels x taps; 0 where grad_bias alone is wanted
  int column_chunks, channel_range, ranges, splits;
  bool channel_fastest;  // order of the columns: (r, s, channel) rather than (channel, r, s)
};

// An output pixel of a tile: its channel, and its place in the tile in the low bits.
inline constexpr int kPlaceBits = 10;
inline constexpr std::uint32_t kNoKey = 0xffffffffu;
inline constexpr int kMaxOutputs = (1 << (32 - kPlaceBits)) - 1;  // the largest key is not kNoKey

}  // namespace convmin::backward
