// Types and sizes of one variant of the Hopper kernel.
#pragma once

#include "common/convert.cuh"
#include "conv_scale_min.h"
#include "sm90/tiles.h"

namespace convmin::sm90 {

// float32 multiplies as float16: both keep 11 significant bits where TF32 is allowed, at twice TF32's rate. What
// float16 lacks in range, the producer detects and the portable kernel repairs.
template <typename Element>
struct Operand {
  using Type = Element;
};
template <>
struct Operand<float> {
  using Type = __half;
};

template <typename Element_, Gather kGather_, int kTileN_, bool kWithIndices_>
struct Traits {
  using Element = Element_;
  using Mma = typename Operand<Element>::Type;
  static constexpr Gather kGather = kGather_;
  static constexpr int kTileN = kTileN_;
  static constexpr bool kWithIndices = kWithIndices_;
  static constexpr bool kChecksRange = sizeof(Element) == 4;
  // By a power of two each, undone in the epilogue. The others' weights carry the scale's sign, and no factor is left.
  static constexpr bool kScalesFilters = sizeof(Element) == 4;
  static constexpr int kWeightTileBytes = kTileN * kRowBytes;
  // A block starts with 168 registers a thread; what the producer gives is all that the consumers can take. Checking
  // the range of float32 costs the producer some.
  static constexpr int kStartRegisters = 168;
  static constexpr int kProducerRegisters = kChecksRange ? 152 : 128;
  static constexpr int kConsumerRegisters = kChecksRange ? 176 : 184;
  static_assert(kProducerRegisters + kConsumers * kConsumerRegisters <= (1 + kConsumers) * kStartRegisters,
                "or the consumers wait for ever");
  static_assert(kChunk * sizeof(Mma) == kRowBytes, "a chunk of a pixel is one swizzled row");
};

// The part of shared memory that does not depend on the problem. The rest follows, aligned to kSwizzleBytes.
template <typename T>
struct SharedStorage {
  std::uint64_t full[kMaxRing], empty[kMaxRing];   // mbarriers of the ring
  int outside[kMaxRing];                           // number of the last row with values outside float16's range
  float factor[kMaxOutputs], addend[kMaxOutputs];  // value / |scale| = sum * factor + addend
};

}  // namespace convmin::sm90
