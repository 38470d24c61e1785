// Types and sizes of one variant of the patch kernel.
#pragma once

#include <type_traits>

#include "common/convert.cuh"
#include "sm90/patch/tiles.h"

namespace convmin::sm90::patch {

// float32 multiplies as TF32, or as float16 with filters scaled into its range.
template <typename Element_, typename Operand_, int kTileN_, int kPerConsumer_, bool kWithIndices_, bool kClustered_>
struct Traits {
  using Element = Element_;  // of the caller's tensors
  using Operand = Operand_;  // of the tensor cores'
  static constexpr int kTileN = kTileN_;
  static constexpr int kPerConsumer = kPerConsumer_;  // subtiles of a consumer warpgroup
  static constexpr bool kWithIndices = kWithIndices_;
  static constexpr bool kClustered = kClustered_;  // units that share a tile are the blocks of a cluster
  static constexpr bool kScaled = sizeof(Operand) < sizeof(Element);
  static constexpr int kChunk = kRowBytes / static_cast<int>(sizeof(Operand));  // input channels
  static constexpr int kPack = 16 / static_cast<int>(sizeof(Operand));          // channels of a 16-byte store
  static constexpr int kPacks = kChunk / kPack;
  static constexpr int kSteps = kRowBytes / 32;  // of the tensor cores, in a chunk
  static constexpr int kStageBytes = kTileN * kRowBytes;
  static constexpr int kSumVectors = kPerConsumer * kTileN / 8;  // of 16 bytes, a thread's
  static constexpr int kStartRegisters = 168;
  static constexpr int kConsumerRegisters = 216;
  static constexpr int kProducerRegisters = 72;
  static_assert(kScaled || std::is_same_v<Element, Operand>, "operands are the elements, or narrower");
  static_assert(kProducerRegisters + kConsumers * kConsumerRegisters <= (1 + kConsumers) * kStartRegisters,
                "or the consumers wait for ever");
};

}  // namespace convmin::sm90::patch
