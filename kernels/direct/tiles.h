// What the direct kernel is instantiated for: plan.cpp chooses among it, kernel.cuh compiles it. Host code only.
#pragma once

#include <cstdint>

namespace convmin::direct {

inline constexpr int kThreads = 256;
inline constexpr int kMaxOutputs = 4;  // of a problem without groups
// Output pixels of a thread, one below the other: with groups, or where rows of the input are kept; and without.
inline constexpr int kManyRows = 4, kFewRows = 2;
inline constexpr int kMaxWindowOutputs = 2;  // that rows are kept for, without groups
inline constexpr int kVectorBytes = 16;

// Vectors take registers for four rows of sums; scalars leave room for more warps.
constexpr int blocks_per_sm(int vector) { return vector > 1 ? 2 : 4; }

// Whether a thread keeps a window of so many rows in registers, for pixels so many rows apart. Eight channels at a time
// leave too few registers for seven.
constexpr bool keeps_window(std::int64_t rows, std::int64_t step, int vector) {
  if (rows == 7) return step == 1 && vector < 8;
  return (rows == 3 || rows == 5) && (step == 1 || step == 2);
}

// A window's columns, or else its taps, that a thread loads at a time.
constexpr int columns_together(int vector, int window) { return vector > 1 ? 2 : window < 5 ? window : 5; }
constexpr int taps_together(int rows) { return rows == 1 ? 4 : 2; }

// Shared memory begins with what threads hand each other at the end of a tile; the weight follows.
inline constexpr int kExchangeBytes = 8 * kThreads * kManyRows;
static_assert(kExchangeBytes >= 4 * kThreads * kFewRows * kMaxOutputs, "sums fit as well as candidates");
static_assert(kExchangeBytes >= 4 * kThreads * kManyRows * kMaxWindowOutputs, "and those of more rows");

}  // namespace convmin::direct
