// Types and sizes of one variant of the mma.sync kernel.
#pragma once

#include <type_traits>

#include "common/convert.cuh"
#include "conv_scale_min.h"
#include "sm80/tiles.h"

namespace convmin::sm80 {

// `Operand` is what the tensor cores multiply: the element, or __half for float (see range.cuh); float is TF32.
template <typename Element_, typename Operand_, Gather kGather_, int kTile_, bool kSharesChannels_ = false>
struct Traits {
  using Element = Element_;
  using Operand = Operand_;
  static constexpr Gather kGather = kGather_;
  static constexpr Tile kTile = kTiles[kTile_];
  static constexpr int kTileM = kTile.m, kTileN = kTile.n;
  static constexpr int kWarpsM = kTile.warps_m, kWarpsN = kTile.warps_n;
  // Warps that load are the last of a specialized block, and all of any other.
  static constexpr bool kSpecialized = kTile.specialized;
  static constexpr int kThreads = threads_of(kTile), kMultiplying = kWarpsM * kWarpsN * 32;
  static constexpr int kLoading = kSpecialized ? kSpecializedLoads : kThreads, kFirstLoading = kThreads - kLoading;
  static_assert(kMultiplying == (kSpecialized ? kFirstLoading : kThreads), "every warp has a part");
  static_assert(!kSpecialized || (sizeof(Operand) == 2 && kGather != Gather::kTaps), "of what large problems are");
  // Whether blocks share the output channels of a specialized tile: a variant of its own, since the compiler orders the
  // other instructions worse where they may or may not. Blocks of any other tile look at Params::splits.
  static constexpr bool kSharesChannels = kSharesChannels_;
  static_assert(kSpecialized || !kSharesChannels, "Share knows what a block of any other tile has");
  static constexpr int kWarpM = kTileM / kWarpsM, kWarpN = kTileN / kWarpsN;
  static constexpr int kFragmentsM = kWarpM / 16, kFragmentsN = kWarpN / 8;
  static_assert(kWarpM % 16 == 0 && kWarpN % 16 == 0, "whole fragments, and the weight's in pairs");

  static constexpr int kPack = 16 / static_cast<int>(sizeof(Operand));           // elements of a 16-byte vector
  static constexpr int kChunk = kStepBytes / static_cast<int>(sizeof(Operand));  // of the reduction, in a step
  static constexpr int kPacks = kStepBytes / 16;                                 // of a pixel's step
  static constexpr int kHalves = 2;                                              // mma steps of a step
  static constexpr int kWeightBytes = kTileN * kStepBytes;                       // of a step
  static constexpr int kWeightVectors = kWeightBytes / 16;

  static constexpr bool kScaled = !std::is_same_v<Element, Operand>;  // float32 as float16
  // By cp.async, without registers. What has to be rounded to TF32 then is, on its way from shared memory; all other
  // input is rounded by the producer. Warps that only load have registers enough, and gain nothing by it.
  static constexpr bool kCopies = kGather == Gather::kChannels && !kScaled && !kSpecialized;
  static constexpr bool kRoundsFragments = kCopies && sizeof(Element) == 4;
  // A patch always serves all taps.
  static constexpr bool kWholeWindow = kGather == Gather::kQuads || kScaled || kSpecialized;
  // Pairs of the weight's fragments that are loaded half a step ahead: all where the producer leaves registers for it,
  // else one, whose multiplications the others' loads run under.
  static constexpr bool kLeavesRegisters =
      !kSpecialized && (kCopies || (kGather == Gather::kQuads && !kScaled && kTileM > 64));
  static constexpr int kPairsAhead = kLeavesRegisters ? kFragmentsN / 2 : 1;

  // Where blocks share sums: behind the loop, or in it where a second copy of the epilogue would take registers that
  // there aren't. What fits is the compiler's to say, and the binary test's.
  static constexpr bool kAddsPartsLast = kTile.shares_sums && !kScaled;

  // Vectors, or quads of pixels, that a thread has in registers at a time, so often a step.
  static constexpr int kItems =
      kSpecialized ? specialized_items(kGather) : batch_items(kGather, kTileM, kScaled) / kThreads;
  static constexpr int kWindows = batches_per_step(kTileM, kScaled);
  static_assert(kSpecialized || kItems * kThreads == batch_items(kGather, kTileM, kScaled), "all threads load as much");
};

}  // namespace convmin::sm80
