// What the portable kernel receives: the problem in the widths that it computes with.
#pragma once

#include "common/fast_divisor.h"
#include "conv_scale_min.h"

namespace convmin::simt {

struct Params {
  const void* input;
  const void* weight;
  const void* bias;
  void* values;
  void* indices;
  double scale;
  IndexType index_type;

  std::int64_t pixels;  // n * oh * ow
  std::int64_t input_stride_n, input_stride_c, input_stride_h, input_stride_w;
  std::int64_t weight_stride_k, weight_stride_c, weight_stride_r, weight_stride_s;
  int h, w, oh, ow;
  int stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;
  int groups, group_channels, group_outputs;
  int reduction;  // group_channels * r * s

  // The reduction index runs over (channel, r, s) or, with `channel_fastest`, over (r, s, channel).
  bool channel_fastest;
  FastDivisor by_s, by_taps, by_group_channels;

  // Output channels are walked in blocks of a tile's width, group after group; a split takes a run of blocks.
  int splits;
  int group_blocks;  // blocks in a group

  // Workspace: the packed weight [groups][reduction, padded][group_outputs, padded] in the type that sums are kept in,
  // padded with zeros to whole tiles; with splits > 1 each split's minima [splits][pixels].
  void* packed_weight;
  int packed_reduction, packed_outputs;
  void* split_values;
  int* split_channels;
};

// A reduction index taken apart.
struct ReductionIndex {
  int channel, r, s;
};

CONVMIN_HOST_DEVICE ReductionIndex decompose(const Params& params, int index) {
  std::uint32_t channel, tap;
  if (params.channel_fastest) {
    const QuotientRemainder parts = params.by_group_channels.divide(index);
    tap = parts.quotient, channel = parts.remainder;
  } else {
    const QuotientRemainder parts = params.by_taps.divide(index);
    channel = parts.quotient, tap = parts.remainder;
  }
  const QuotientRemainder rs = params.by_s.divide(tap);
  return {static_cast<int>(channel), static_cast<int>(rs.quotient), static_cast<int>(rs.remainder)};
}

}  // namespace convmin::simt
