// Tiles of output pixels that a tensor-core kernel leaves to the portable kernel, noted on the device.
#pragma once

#include <cstdint>

namespace convmin {

struct Fallback {
  int* everything;      // not 0: all pixels
  int* count;           // of `tiles`
  std::int64_t* tiles;  // first pixels of runs of kFallbackTile
};

inline constexpr int kFallbackTile = 128;

}  // namespace convmin
