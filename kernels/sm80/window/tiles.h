// The tiles of the kernel for few input channels: plan.cpp chooses among them, kernel.cuh instantiates them. Host code
// only.
#pragma once

#include <cstdint>

namespace convmin::sm80::window {

inline constexpr int kThreads = 128;
inline constexpr int kTileM = 128;              // output pixels of a block, 32 of a warp
inline constexpr int kWidths[] = {16, 32, 64};  // output channels that a warp has sums of at a time
inline constexpr int kStepBytes = 32;           // of the reduction, that a multiplication takes
inline constexpr int kFragmentPairBytes = 512;  // of the weight: 16 output channels of a step
inline constexpr int kPlaceEntry = 8;           // of an element of the patch
inline constexpr int kOffsetEntry = 16;         // of a quarter of a step's words: bytes into the patch
inline constexpr int kAhead = 5;                // elements of the next patch that a thread has in registers
inline constexpr int kTogether = 8;             // of the rest of a patch, that it loads at a time

constexpr int blocks_per_sm(int width) { return width > 32 ? 4 : width > 16 ? 5 : 7; }

}  // namespace convmin::sm80::window
