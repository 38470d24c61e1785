#pragma once

#include "common/fallback.h"
#include "conv_scale_min.h"
#include "sm90/tiles.h"
#include "sm90/weight.h"

namespace convmin::sm90 {

struct Params {
  const void* input;
  const void* bias;
  void* values;
  void* indices;
  float scale;
  IndexType index_type;

  std::int64_t input_stride_n, input_stride_c, input_stride_h, input_stride_w;
  int c, h, w, k, r, s, oh, ow;
  int padding_h, padding_w, dilation_h, dilation_w;

  // A unit is one row of one strip of one image: [n][strips][oh], rows fastest. Blocks take contiguous runs of units.
  int strips, units;

  // Shared memory: the packed weight [r * s][chunks][blocks_n] tiles of kTileN x 128 bytes, then a ring of input rows
  // [ring][chunks][row_pixels] x 128 bytes.
  int chunks, blocks_n;
  int ring, row_pixels;
  int window;  // input rows under an output row
  bool quads;  // NCHW rows whose pixels four at a time are aligned vectors

  // Workspace.
  Weight weight;
  void* packed_weight;     // the shared-memory image of the weight
  float* channel_factor;   // [k] power of two that undoes the packed weight's scaling
  unsigned* factor_range;  // largest factor of a filter that is not zero, and the complement of the smallest, as bits
  unsigned* channel_peak;  // [c] largest scaled weight of an input channel, as the bits of a float; float32 only
  Fallback fallback;
};

}  // namespace convmin::sm90
