// The tiles of the portable kernel: plan.cpp chooses among them, kernel.cuh instantiates them. Host code only.
#pragma once

#include <cstddef>

namespace convmin::simt {

struct Tile {
  int m, n;                // output pixels, output channels of a block
  int thread_m, thread_n;  // of a thread
  double efficiency;       // estimated share of the multiply-add rate when the tile is full, relative to the first
  int shared_memory;       // bytes; sizeof(SharedStorage), asserted where it is known
  const char* reason;
};

// Wider tiles do more multiply-adds per shared-memory load; narrower ones waste fewer on channels that don't exist.
inline constexpr Tile kFloatTiles[] = {
    {128, 128, 8, 8, 1.00, 20992, "many output channels a group: 128 x 128 tile, 8 x 8 per thread"},
    {128, 64, 8, 4, 0.85, 16896, "few output channels a group, or few pixels: 128 x 64 tile, 8 x 4 per thread"},
    {64, 64, 4, 4, 0.60, 10752, "few output pixels: 64 x 64 tile, so that more multiprocessors have work"},
    {256, 32, 8, 4, 0.80, 25088, "few output channels a group: 256 x 32 tile, 8 x 4 per thread"},
    {256, 16, 8, 2, 0.55, 24064, "very few output channels a group: 256 x 16 tile, 8 x 2 per thread"},
};
// For tiles that a tensor-core kernel notes. The next wider one has no registers left for the walk over them.
inline constexpr Tile kFallbackShape = kFloatTiles[1];
inline constexpr Tile kDoubleTiles[] = {
    {64, 64, 4, 4, 1.00, 19456, "float64: 64 x 64 tile, 4 x 4 per thread"},
    {128, 16, 4, 2, 0.60, 22528, "float64, few output channels a group: 128 x 16 tile, 4 x 2 per thread"},
};
inline constexpr int kBlocksPerSm = 2;  // caps registers at 128 a thread
inline constexpr int kThreads = 256;
inline constexpr int kTileK = 8;

}  // namespace convmin::simt
