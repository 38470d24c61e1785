#pragma once

#include "conv_scale_min.h"
#include "sm90/patch/plan.h"

namespace convmin::sm90::patch {

struct Params {
  const void* input;
  const void* bias;
  void* values;
  void* indices;
  float scale;
  IndexType index_type;

  std::int64_t input_stride_n, input_stride_c, input_stride_h, input_stride_w;
  int n, h, w, oh, ow;
  int stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;
  int r, s;
  int groups, group_channels, group_outputs;
  bool vectors;  // 16-byte loads of neighbouring channels fit
  int together;  // else: neighbouring pixels that a load of 4, of 2, or of 1 fits

  Patch patch;
  Tables tables;
  int tiles_x, tiles_y, tiles;
  int chunks, blocks_n;  // of a group: chunks of input channels, tiles of output channels
  int slots, stages;     // of the input and of the weight in shared memory
  bool resident;         // all chunks of a patch stay for all tiles of output channels
  int splits;            // of the tiles of output channels, over all groups

  // Workspace: [groups][blocks_n][chunks][r * s] tiles of kTileN x 128 bytes, as shared memory holds them.
  const void* weight;
  std::int64_t weight_stride_k, weight_stride_c, weight_stride_r, weight_stride_s;
  void* packed_weight;
  // Where units share a tile: how many have finished it [tiles], and their minima [splits][n, oh, ow].
  int* counters;
  float* split_values;
  int* split_channels;
};

}  // namespace convmin::sm90::patch
