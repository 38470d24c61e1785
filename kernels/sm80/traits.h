// Types and sizes of one variant of the mma.sync kernel.
#pragma once

#include "common/convert.cuh"
#include "conv_scale_min.h"
#include "sm80/tiles.h"

namespace convmin::sm80 {

template <typename Element_, Gather kGather_, int kTile_>
struct Traits {
  using Element = Element_;
  static constexpr Gather kGather = kGather_;
  static constexpr Tile kTile = kTiles[kTile_];
  static constexpr int kTileM = kTile.m, kTileN = kTile.n;
  static constexpr int kWarpsM = kTile.warps_m, kWarpsN = kTile.warps_n;
  static_assert(kWarpsM * kWarpsN * 32 == kThreads, "every warp has a part");
  static constexpr int kWarpM = kTileM / kWarpsM, kWarpN = kTileN / kWarpsN;
  static constexpr int kFragmentsM = kWarpM / 16, kFragmentsN = kWarpN / 8;
  static_assert(kWarpM % 16 == 0 && kWarpN % 16 == 0, "whole fragments, and the weight's in pairs");

  static constexpr int kPack = 16 / static_cast<int>(sizeof(Element));           // elements of a 16-byte vector
  static constexpr int kChunk = kStepBytes / static_cast<int>(sizeof(Element));  // of the reduction, in a step
  static constexpr int kPacks = kStepBytes / 16;                                 // of a pixel's step
  static constexpr int kHalves = 2;                                              // mma steps of a step
  static constexpr int kWeightBytes = kTileN * kStepBytes;                       // of a step
  static constexpr int kWeightVectors = kWeightBytes / 16;

  // float32 that cp.async brings is rounded to TF32 on its way from shared memory, all other by the producer.
  static constexpr bool kRoundsFragments = sizeof(Element) == 4 && kGather == Gather::kChannels;

  // Vectors that a thread loads in half a step: enough for a patch of kTileM pixels a tap, and plan() asks for no more.
  static constexpr int kItems = kTileM * kPacks / kThreads / kHalves;
  static_assert(kItems * kThreads * kHalves == kTileM * kPacks, "all threads load as much");
};

}  // namespace convmin::sm80
