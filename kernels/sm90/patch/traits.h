// Types and sizes of one variant of the patch kernel.
#pragma once

#include "common/convert.cuh"
#include "sm90/patch/tiles.h"

namespace convmin::sm90::patch {

// float32 multiplies as TF32, rounded to nearest on its way to shared memory.
template <typename Element_, int kTileN_, int kPerConsumer_, bool kWithIndices_>
struct Traits {
  using Element = Element_;
  static constexpr int kTileN = kTileN_;
  static constexpr int kPerConsumer = kPerConsumer_;  // subtiles of a consumer warpgroup
  static constexpr bool kWithIndices = kWithIndices_;
  static constexpr bool kScalesFilters = false;
  static constexpr int kChunk = kRowBytes / static_cast<int>(sizeof(Element));  // input channels
  static constexpr int kPack = 16 / static_cast<int>(sizeof(Element));          // channels of a 16-byte store
  static constexpr int kPacks = kChunk / kPack;
  static constexpr int kSteps = kRowBytes / 32;  // of the tensor cores, in a chunk
  static constexpr int kStageBytes = kTileN * kRowBytes;
  static constexpr int kStartRegisters = 168;
  static constexpr int kConsumerRegisters = kPerConsumer == 1 ? 184 : 200;
  static constexpr int kProducerRegisters = kPerConsumer == 1 ? 136 : 104;
  static_assert(kProducerRegisters + kConsumers * kConsumerRegisters <= (1 + kConsumers) * kStartRegisters,
                "or the consumers wait for ever");
};

}  // namespace convmin::sm90::patch
