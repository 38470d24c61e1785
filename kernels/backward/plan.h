// Sizes that the plan and the kernels agree on. Host code; pure.
#pragma once

#include "conv_scale_min.h"

namespace convmin::backward {

inline constexpr int kVectorBytes = 16;

// grad_input.
inline constexpr int kGeneralThreads = 256;
inline constexpr int kGroupsThreads = 128;      // and pixels of a tile
inline constexpr int kGroupsShared = 48 << 10;  // bytes, for the sums of a chunk's channels
inline constexpr int kWindowThreads = 512;
inline constexpr int kStrip = 8;        // pixels of a row that a thread of kWindow holds
inline constexpr int kStripTileW = 64;  // columns of kWindow's tile; its rows follow from the lanes
inline constexpr int kEntryPitch = kStripTileW + 4;
constexpr int strip_tile_rows(int lanes) { return kWindowThreads / lanes * kStrip / kStripTileW; }
constexpr int window_stage_bytes(int lanes, int element) {
  // Rows of one channel, padded so that eight lanes' vectors fall into different banks.
  return lanes * (kVectorBytes / element) * (strip_tile_rows(lanes) * kStripTileW * element + kVectorBytes);
}
constexpr int window_entry_bytes(int lanes) { return 2 * (strip_tile_rows(lanes) + 2) * kEntryPitch * 8; }
// grad_weight.
inline constexpr int kColumnWarps = 8, kWindowWarps = 16;
inline constexpr int kColumnPixels = 512, kFewColumnPixels = 256;  // fewer for float64 and little shared memory
inline constexpr int kTileW = 64, kTileH = 6, kWindowPixels = kTileW * kTileH;  // kWindow's tile of the output
// Bytes of a block's shared memory, as the kernels lay it out, for sums of `range` output channels.
constexpr std::int64_t columns_shared(std::int64_t range, int pixels, int accum) {
  return range * (32 * accum + 8) + pixels * (33 + 2) * accum + (pixels + 32) * 16 + (kColumnWarps + 2) * 4;
}
constexpr std::int64_t window_shared(std::int64_t range) {
  return range * (9 * 32 * 4 + 8) + (kTileH + 2) * (kTileW + 2) * 33 * 4 + kWindowPixels * 8 + (kWindowWarps + 2) * 4;
}

}  // namespace convmin::backward
