// What a thread of the direct kernel holds.
#pragma once

#include "common/convert.cuh"
#include "direct/tiles.h"

namespace convmin::direct {

// A thread has a run of kRows output pixels, one below the other, and loads kVector channels at a time.
//   kOutputs > 0: one group with so few output channels. The thread sums some of the input channels for all of them.
//   kOutputs = 0: many groups. The thread sums whole output channels, kVector at a time where a group is one channel.
//   kWindow > 0:  kernels of so many rows, not dilated down the image and kStep rows apart: each input row is loaded
//                 once for all of the run's pixels.
template <typename Element_, int kVector_, int kRows_, int kOutputs_, int kWindow_, int kStep_>
struct Traits {
  using Element = Element_;
  static constexpr int kVector = kVector_, kRows = kRows_, kOutputs = kOutputs_, kWindow = kWindow_, kStep = kStep_;
  static constexpr bool kGrouped = kOutputs == 0;
  static constexpr int kInputRows = (kRows - 1) * kStep + kWindow;
  static constexpr int kColumnsTogether = columns_together(kVector, kWindow), kTapsTogether = taps_together(kRows);
  static_assert(kVector == 1 || kVector * sizeof(Element) == kVectorBytes, "scalars or whole vectors");
  static_assert(kOutputs <= kMaxWindowOutputs || kWindow == 0, "so many sums for each row");
};

template <typename T>
struct alignas(sizeof(typename T::Element) * T::kVector) Vector {
  typename T::Element values[T::kVector];
};

}  // namespace convmin::direct
