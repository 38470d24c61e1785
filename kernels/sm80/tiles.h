// The tiles of the mma.sync kernel: plan.cpp chooses among them, kernel.cuh instantiates them. Host code only.
#pragma once

#include <cstdint>

#include "conv_scale_min.h"

namespace convmin::sm80 {

struct Tile {
  int m, n;              // output pixels, output channels of a block
  int warps_m, warps_n;  // that multiply
  bool specialized;      // other warps load: see specialized.cuh
  bool shares_sums;      // blocks may share the sums of a tile
  bool scaled;           // float32 may multiply as float16
  int blocks_per_sm;     // that its registers allow
  double efficiency;     // estimated share of the tensor cores' rate, relative to the first
  const char* reason;
};

// A warp's 64 x 64 outputs read 8 KB of fragments for 64 multiplications, its 32 x 32 read 4 KB for 16.
inline constexpr Tile kTiles[] = {
    {128, 128, 2, 2, false, true, true, 2, 1.00, "tensor cores (mma.sync), 128 x 128 tile: many output channels"},
    {256, 64, 4, 1, false, false, true, 2, 1.00,
     "tensor cores (mma.sync), 256 x 64 tile: up to 64 output channels a block"},
    {256, 32, 4, 1, false, false, false, 2, 0.70,
     "tensor cores (mma.sync), 256 x 32 tile: up to 32 output channels a block"},
    {64, 64, 2, 2, false, true, false, 4, 0.65, "tensor cores (mma.sync), 64 x 64 tile: few pixels"},
    {256, 128, 4, 2, true, false, true, 1, 1.04,
     "tensor cores (mma.sync), 256 x 128 tile, warps of their own for the loads: many pixels and output channels"},
};
inline constexpr int kThreads = 128;           // of a block whose warps all load and multiply
inline constexpr int kSpecializedLoads = 128;  // threads that load, in one whose warps don't
constexpr int threads_of(const Tile& tile) {
  return tile.specialized ? tile.warps_m * tile.warps_n * 32 + kSpecializedLoads : kThreads;
}
inline constexpr int kStepBytes = 64;   // of the reduction, that a step multiplies: two mma deep
inline constexpr int kQuad = 4;         // pixels that Gather::kQuads loads at once
inline constexpr int kPixelBytes = 80;  // a pixel's step in shared memory: an odd number of 16-byte banks apart
inline constexpr int kWeightStages =
    4;  // steps of the weight in shared memory; a step is there two after it was asked for
// Neighbouring quads of a row, in neighbouring lanes.
constexpr int quads_together(std::int64_t element_bytes) { return element_bytes == 2 ? 8 : 2; }
// What goes to shared memory through registers does so in batches, one or two a step, of 16-byte vectors: enough for a
// patch of m pixels a tap, or half as many where the registers don't reach for that; or of a quad for each thread,
// which becomes four such vectors, two where float32 becomes float16.
constexpr int batch_items(Gather gather, int m, bool scaled) {
  return (gather == Gather::kQuads ? 1 : scaled || m <= 64 ? 2 : 4) * kThreads;
}
constexpr int batches_per_step(int m, bool scaled) { return m > 128 || scaled ? 2 : 1; }
// Threads that only load have registers for more: 18 x 18 pixels are one to three batches.
constexpr int specialized_items(Gather gather) { return gather == Gather::kQuads ? 3 : 6; }
// The rings of a specialized tile: patches, and steps of the weight.
inline constexpr int kMaxPatchSlots = 4, kMaxWeightStages = 8;
inline constexpr int kWarpStateBytes = 8 * (2 * 64 + 8 * 32), kTermBytes = 8;  // of all warps; of an output channel
// Full and empty; and of each row of warps.
inline constexpr int kBarrierBytes = 8 * 2 * (kMaxPatchSlots + kMaxWeightStages + 4);
inline constexpr int kPixelEntry = 16, kTapEntry = 16, kOffsetEntry = 4;  // bytes of the tables' entries

}  // namespace convmin::sm80
