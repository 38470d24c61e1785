// What the Hopper kernels' plan and code agree on. Host code only.
#pragma once

namespace convmin::sm90 {

inline constexpr int kTileM = 128;       // output pixels of a strip's row: 64 for each consumer warpgroup
inline constexpr int kChunk = 64;        // input channels of a shared-memory row: 128 bytes, the swizzle's width
inline constexpr int kRowBytes = 128;    // of one pixel, and of one output channel, in one chunk
inline constexpr int kMaxHalo = 16;      // input pixels beyond the strip's 128
inline constexpr int kMaxRing = 16;      // input rows in shared memory
inline constexpr int kMaxOutputs = 512;  // output channels, padded
inline constexpr int kConsumers = 2;     // warpgroups
inline constexpr int kThreads = 128 * (1 + kConsumers);
inline constexpr int kStorageBytes = 16 * kMaxRing + 4 * kMaxRing + 8 * kMaxOutputs;  // sizeof(SharedStorage)
inline constexpr int kSwizzleBytes = 1024;  // alignment that the swizzle asks of a buffer

}  // namespace convmin::sm90
