// Tile shapes of the portable kernel and what follows from them.
#pragma once

#include "common/convert.cuh"
#include "conv_scale_min.h"
#include "simt/tiles.h"

namespace convmin::simt {

// One block computes kTileM output pixels x kTileN output channels, kTileK reduction elements at a time. Each of its
// 256 threads owns kThreadM x kThreadN of them in registers, in vectors that a single shared-memory load brings.
template <typename Element_, Gather kGather_, int kTileM_, int kTileN_, int kThreadM_, int kThreadN_>
struct Traits {
  using Element = Element_;
  using Accum = typename Numeric<Element>::Accum;

  static constexpr Gather kGather = kGather_;
  static constexpr int kTileM = kTileM_, kTileN = kTileN_, kTileK = simt::kTileK;
  static constexpr int kThreadM = kThreadM_, kThreadN = kThreadN_;
  static constexpr int kThreads = simt::kThreads, kWarps = kThreads / 32;

  // A warp's lanes form 4 rows of pixels x 8 columns of channels: a 16-byte fragment of the input is then read at 4
  // addresses and one of the weight at 8, each one shared-memory wavefront.
  static constexpr int kLanesM = 4, kLanesN = 8;
  static constexpr int kWarpTileM = kLanesM * kThreadM, kWarpTileN = kLanesN * kThreadN;
  static constexpr int kWarpsM = kTileM / kWarpTileM, kWarpsN = kTileN / kWarpTileN;
  static_assert(kWarpsM * kWarpTileM == kTileM && kWarpsN * kWarpTileN == kTileN, "warps tile the block's tile");
  static_assert(kWarpsM * kWarpsN == kWarps, "every warp has a part");

  // Where registers allow, a sum is one of partial sums of so many steps: each addition rounds at the size of what it
  // adds to, and cuDNN adds up few pixels in many parts. Zero: one chain of additions.
  static constexpr int kPartSteps = sizeof(Accum) == 4 && kThreadM * kThreadN <= 16 ? 8 : 0;

  static constexpr int kMaxVector = 16 / static_cast<int>(sizeof(Accum));
  static constexpr int kVectorM = kThreadM < kMaxVector ? kThreadM : kMaxVector;
  static constexpr int kVectorN = kThreadN < kMaxVector ? kThreadN : kMaxVector;
  static_assert(kThreadM % kVectorM == 0 && kThreadN % kVectorN == 0, "whole vectors");

  // The input's rows are written by lanes that hold eight consecutive reduction elements; one vector of padding puts
  // those rows into different banks. The weight's are written as they are read, a vector at a time.
  static constexpr int kRowM = kTileM + kMaxVector, kRowN = kTileN;

  static constexpr int kInputLoads = kTileM * kTileK / kThreads;
  static constexpr int kWeightVectors = kTileN * kTileK / kMaxVector;  // one for each of the first threads
  static_assert(kInputLoads * kThreads == kTileM * kTileK, "every thread loads as much of the input");
  static_assert(kWeightVectors <= kThreads, "one weight vector a thread");
  static_assert(kThreads % kTileM == 0 || kGather == Gather::kChannels, "a thread's loads share a pixel");
  static_assert(kTileM <= kThreads, "one thread writes one pixel");
};

// Where an output pixel's window starts: its corner, which padding may put outside the image.
struct alignas(16) Pixel {
  std::int64_t offset;  // bytes from the input's first element
  int ih, iw;
};

// One element of the reduction, relative to the window's corner.
struct alignas(16) Tap {
  std::int64_t offset;  // bytes
  int dh, dw;
};

// A Pixel or Tap past the end fails every bounds check: extents are below 2^30 (plan() sees to it), so neither
// sentinel, nor their sum, nor either one's sum with a real coordinate lands in [0, 2^30) when taken as unsigned.
inline constexpr int kOutsidePixel = -0x7fffffff - 1;
inline constexpr int kOutsideTap = -0x40000000;

template <typename Accum, int kCount>
struct alignas(sizeof(Accum) * kCount) Vector {
  Accum values[kCount];
};

template <typename T>
struct SharedStorage {
  alignas(16) typename T::Accum input[2][T::kTileK][T::kRowM];
  alignas(16) typename T::Accum weight[2][T::kTileK][T::kRowN];
  Pixel pixels[T::kTileM];
  Tap taps[2][T::kTileK];
  typename T::Accum best_value[T::kWarpsN][T::kTileM];
  int best_channel[T::kWarpsN][T::kTileM];
};

}  // namespace convmin::simt
