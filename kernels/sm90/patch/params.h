#pragma once

#include <cuda.h>

#include "common/fallback.h"
#include "common/fast_divisor.h"
#include "conv_scale_min.h"
#include "sm90/patch/plan.h"
#include "sm90/weight.h"

namespace convmin::sm90::patch {

// The caller's input where it is copied first, as runs of kCopyPixels pixels x chunks of channels.
struct Source {
  const void* input;
  std::int64_t stride_n, stride_c, stride_h, stride_w;
  FastDivisor image, row;                  // pixels of an image, of a row
  FastDivisor by_chunks, by_group_chunks;  // of channels, in all groups and in one
  std::int64_t pixels;                     // of all images
  int blocks;                              // runs x chunks; 0: nothing is copied
  bool channels_inside;                    // neighbouring threads read neighbouring channels, not pixels
  bool vectors;                            // by 16-byte loads
  int together;                            // else: neighbouring pixels of a load, 4, 2 or 1
  int group_pitch;                         // of the copy: elements of a group's channels, of a pixel
  std::int64_t pixel_pitch;
};

struct Params {
  CUtensorMap input;    // [n][h][w][groups][channels]: the caller's in channels_last, or the copy
  CUtensorMap filters;  // [1][k][r][s][channels]: the caller's weight, where it is not packed
  const void* bias;
  void* values;
  void* indices;
  float scale;
  IndexType index_type;

  int n, h, w, oh, ow;
  int stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;
  int r, s;
  int groups, group_channels, group_outputs;
  Source source;
  void* copy;
  bool packs;  // the weight; else it is read as it lies

  Patch patch;
  // By the fields of these names. What stands between two tiles has nothing to run under.
  FastDivisor by_subtiles_x, by_subtiles_y, by_tiles_x, by_tiles_y, by_blocks_n, by_splits, by_parts;
  FastDivisor by_blocks;                             // of all groups
  FastDivisor by_grains, by_share, by_longer_share;  // where shares are equal
  FastDivisor by_pitch, by_run_rows;                 // of a patch that runs on
  Tables tables;
  int tiles_x, tiles_y, tiles;
  int chunks, blocks_n;      // of a group: chunks of input channels, tiles of output channels
  int slots, stages;         // of the input and of the weight in shared memory
  bool resident;             // all of a patch stays for all tiles of output channels
  int splits;                // of the tiles of output channels, over all groups; with equal shares at most so many
  int grains;                // of a tile's sums over a tile of output channels: its chunks, or one; else 0
  int share, longer_shares;  // of a block in all tiles' grains, where shares are equal
  int parts;                 // of the chunks; more than 1 only where a split is one tile of output channels
  FastDivisor by_adders;     // of a cluster's parts, those that add up some warps' sums: at most one each
  int landing_minima;        // in a cluster's block, where other blocks' minima go, behind their sums: bytes

  // Workspace, where the weight is packed: [groups][blocks_n][chunks][r * s] tiles of kTileN x 128 bytes, as shared
  // memory holds them.
  Weight weight;
  void* packed_weight;
  // Where units share a tile, and are no cluster: how many splits have finished it [tiles], and parts of each split
  // [tiles][splits], or of what a share's end cuts [blocks]; the minima [splits][n, oh, ow]; the sums, of each part or
  // of the first of two, as threads hold them.
  int* counters;
  int counter_count;
  float* split_values;
  int* split_channels;
  float4* partials;
  // Where float32 multiplies as float16: filters' powers of two, inverted [groups * group_outputs]; whether a filter
  // has large weights for an input channel [group_channels]; which runs of the copy are out of range.
  float* channel_factor;
  std::uint8_t* channel_seen;
  int* run_outside;
  Fallback fallback;
};

}  // namespace convmin::sm90::patch
