// Types and sizes of one variant of the kernel for few input channels.
#pragma once

#include "common/convert.cuh"
#include "conv_scale_min.h"
#include "sm80/window/tiles.h"

namespace convmin::sm80::window {

// float32 multiplies as TF32.
template <typename Element_, int kWidth_>
struct Traits {
  using Element = Element_;
  static constexpr int kWidth = kWidth_;
  static constexpr int kSize = static_cast<int>(sizeof(Element));
  static constexpr int kWord = 4 / kSize;           // elements of a word
  static constexpr int kStep = kStepBytes / kSize;  // of the reduction
  static constexpr int kPairs = kWidth / 16;        // of fragments of 8 output channels
  static constexpr int kPixels = 4;                 // outputs of a thread's sums, 8 apart
  static_assert(kThreads / 32 * 8 * kPixels == kTileM, "every warp has a part");
};

}  // namespace convmin::sm80::window
