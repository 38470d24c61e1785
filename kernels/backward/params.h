// What the gradient kernels receive: the problem in the widths that they compute with.
#pragma once

#include "backward/plan.h"
#include "common/fast_divisor.h"
#include "conv_scale_min.h"

namespace convmin::backward {

// Output pixels in some order.
struct PixelList {
  std::uint32_t* channels;  // k where the index is no channel
  std::uint32_t* numbers;   // counted from the slice's first pixel
};

// kWindow, an output pixel of a tile: its channel, its place in the tile in the low bits, and its gradient times the
// scale.
struct alignas(8) KeyedGradient {
  std::uint32_t key;
  float gradient;
};
inline constexpr int kPlaceBits = 10;
inline constexpr std::uint32_t kNoKey = 0xffffffffu;              // above all others
inline constexpr int kMaxOutputs = (1 << (32 - kPlaceBits)) - 1;  // the largest key is not kNoKey

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

  bool channel_fastest;  // the input's channels are neighbours in memory; order of a list's columns, too

  // grad_weight, kWindow: pixels of a tile sorted by channel; what is no pixel has channel k.
  KeyedGradient* sorted_pixels;
  void* partial_sums;
  int tiles;
  FastDivisor by_image_tiles, by_tiles_w;
  int column_chunks, channel_range, ranges, splits;

  // grad_weight, kRuns: a slice of the output pixels as a list, ordered by channel and then by number.
  PixelList list, other_list;   // the other one is for the sort's passes
  std::uint32_t* digit_counts;  // [sort_parts][digits]
  std::uint8_t* present;        // [k]: whether the list has the channel
  std::int64_t first_pixel;     // of the slice
  int list_pixels, sort_parts;
  // What the runs are multiplied with: the input, or a copy of the slice's images with neighbouring channels.
  const void* source;
  std::int64_t source_stride_n, source_stride_c, source_stride_h, source_stride_w;
  int first_image;  // of the source
  int tap_width;    // channels of a group under a tap, as the source has them; channel_fastest orders (tap, channel)
  // A column is a channel under a tap; a thread has vectors of them. 0 where grad_bias alone is wanted.
  int column_vectors, columns;
  int segment_pixels, segments, team, team_chunks;
  // Runs that a segment's beginning or end cuts: [segments][first, last][columns], and of the bias.
  void* pieces;
  double* bias_pieces;
  // Sums of the slices so far, [k][columns]; null where one slice is all.
  void* totals;
  double* bias_totals;
  bool first_slice, last_slice;
  bool weight_vectors;  // grad_weight takes vectors of channels
  int finish_width;     // threads that have a row's columns; a block's others have other pieces
  int finish_chunks, empty_threads;
};

}  // namespace convmin::backward
