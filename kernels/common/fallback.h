// Tiles of output pixels that a tensor-core kernel leaves to the portable kernel, noted on the device.
#pragma once

#include <cstdint>

#include "common/fast_divisor.h"

namespace convmin {

struct Fallback {
  int* everything;      // not 0: all pixels
  int* count;           // of `tiles`
  std::int64_t* tiles;  // first pixels of runs of kFallbackTile
};

inline constexpr int kFallbackTile = 128;

// Which input channels some filter has a large weight for: bytes [kSeenCopies][channels], in words of four, the last
// padded. Each filter's block writes one copy, since writes of all to the same place wait for each other, 12 ns each.
inline constexpr int kSeenCopies = 8;
CONVMIN_HOST_DEVICE int seen_words(int channels) { return (channels + 3) / 4; }
inline std::int64_t seen_bytes(std::int64_t channels) {
  return std::int64_t{4} * kSeenCopies * seen_words(static_cast<int>(channels));
}

}  // namespace convmin
