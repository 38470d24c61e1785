// What the depthwise kernel is instantiated for: plan.cpp chooses among it, kernel.cuh compiles it. Host code only.
#pragma once

#include <cstdint>

namespace convmin::depthwise {

inline constexpr int kLanes = 32;  // of a warp: a channel each
inline constexpr int kPatch = 4;   // rows, and columns, of a warp's output pixels
inline constexpr int kMaxWarps = 16, kMaxThreads = kMaxWarps * kLanes;
inline constexpr int kMaxBuffers = 2;  // for the input and the weight of some channels
inline constexpr int kVectorBytes = 16;

// What is copied to shared memory at a time.
enum class Unit : std::uint8_t {
  kElement,
  kPair,    // of 16-bit pixels, neighbours in a row
  kVector,  // of channels
};

// Square kernels, at the same stride down and across.
constexpr bool has_window(std::int64_t window, std::int64_t step) {
  return step == 1 ? window == 3 || window == 5 || window == 7 : step == 2 && (window == 3 || window == 5);
}

// Bytes of a channel in shared memory where its pixels are neighbours: an odd number of words, so that lanes, which
// read the same element of 32 channels, find them in as many banks.
constexpr std::int64_t odd_pitch(std::int64_t elements, std::int64_t size) {
  return ((elements * size + 3) / 4 | 1) * 4;
}

// Input columns of a row in shared memory: pairs begin with an even one.
constexpr std::int64_t row_columns(std::int64_t columns, std::int64_t padding, Unit unit) {
  return unit == Unit::kPair ? (columns + padding % 2 + 1) / 2 * 2 : columns;
}

// What warps that share a patch hand each other: a candidate of each pixel.
inline constexpr int kExchangeBytes = kMaxWarps * kPatch * kPatch * 8;

}  // namespace convmin::depthwise
