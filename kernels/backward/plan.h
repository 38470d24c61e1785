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

// grad_weight, kWindow.
inline constexpr int kWindowWarps = 16;
inline constexpr int kTileW = 64;  // the tile of the output
// Whether the input's channels are neighbours in memory, else its columns are.
inline bool channel_fastest(const Problem& problem) {
  return problem.input_strides[1] == 1 && problem.input_strides[3] != 1;
}

constexpr int window_tile_h(bool pairs) { return pairs ? 12 : 6; }
// kWindow with pairs of 16-bit elements: 32-bit words from one pixel to the next, and pixels from row to row.
inline constexpr int kPairPitch = 17, kPairRow = 79;
inline constexpr int kMaxCounted = 512;  // output channels
// Bytes of a block's shared memory, as the kernel lays it out, for sums of `range` output channels.
constexpr std::int64_t window_shared(std::int64_t range, bool pairs) {
  const int rows = window_tile_h(pairs) + 2, row = pairs ? kPairRow * kPairPitch * 4 : (kTileW + 2) * 33 * 4;
  return range * (9 * 32 * 4 + 8) + rows * row + window_tile_h(pairs) * kTileW * 8 + (kWindowWarps + 2) * 4;
}

inline constexpr int kSortWarps = 4;

// grad_weight, kRuns.
inline constexpr int kListThreads = 256, kListWarps = kListThreads / 32;
inline constexpr int kMaxDigitBits = 10;                     // of a pass of the sort: a block's counters fit 48 KB
inline constexpr int kRunsThreads = 128, kRunsResident = 4;  // blocks a multiprocessor
inline constexpr int kMinTeam = 4, kMaxTeam = 32;            // lanes that share a segment
inline constexpr int kRoundPixels = 16;  // of a segment, staged at a time by a team of up to as many lanes
constexpr int parts_of(int vector) { return vector > 1 ? 2 : 3; }  // vectors of columns a lane
inline constexpr int kFinishThreads = 256, kMaxFinishWidth = 64;
inline constexpr int kCopyThreads = 256, kCopyPixels = 64, kCopyChannels = 32;

}  // namespace convmin::backward
