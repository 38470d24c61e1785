// Types and sizes of one variant of the depthwise kernel.
#pragma once

#include "common/convert.cuh"
#include "depthwise/tiles.h"

namespace convmin::depthwise {

template <typename Element_, int kWindow_, int kStep_, Unit kUnit_>
struct Traits {
  using Element = Element_;
  static constexpr int kWindow = kWindow_, kStep = kStep_;
  static constexpr Unit kUnit = kUnit_;
  static constexpr bool kVectors = kUnit == Unit::kVector;
  static constexpr int kSize = sizeof(Element);
  static constexpr int kTaps = kWindow * kWindow;
  static constexpr int kPixels = kPatch * kPatch;                 // of a patch
  static constexpr int kExtent = (kPatch - 1) * kStep + kWindow;  // rows, and columns, of the input under it
  static constexpr int kChannelsTogether = kVectorBytes / kSize;  // of a vector
  static constexpr int kWeightPitch = kTaps * kSize;              // an odd number of elements: few lanes meet in a bank
  static constexpr int kColumnPitch = kVectors ? kLanes * kSize : kSize;  // bytes from a pixel to its right neighbour
  static constexpr int kUnitColumns = kUnit == Unit::kPair ? 2 : 1;
  static_assert(has_window(kWindow, kStep), "or plan.cpp does not choose it");
  static_assert(kUnit != Unit::kPair || kSize == 2, "a pair is a word");
};

}  // namespace convmin::depthwise
