// What the patch kernels' plan and code agree on. Host code only.
#pragma once

namespace convmin::sm90::patch {

inline constexpr int kSubtile = 64;    // output pixels of a wgmma: 8 x 8 of an image, or 64 of a row
inline constexpr int kRowBytes = 128;  // of a pixel, and of an output channel, in one chunk of input channels
inline constexpr int kConsumers = 2;   // warpgroups, of one or two subtiles each
inline constexpr int kThreads = 128 * (1 + kConsumers);
// Of the producer's threads: the first note what is left to the portable kernel; then a warp each brings input, weight.
inline constexpr int kNoters = 64;
inline constexpr int kMaxSlots = 16;  // planes of the input, a chunk of channels each, in shared memory
inline constexpr int kMaxStages = 8;  // tiles of the weight in shared memory
inline constexpr int kMinStages = 3;
inline constexpr int kConsumerWarps = 4 * kConsumers;
inline constexpr int kBarrierBytes = 16 * (kMaxSlots + kMaxStages + kConsumerWarps);
inline constexpr int kSwizzleBytes = 1024;  // alignment that the swizzle asks of a buffer
inline constexpr int kMaxPixels = 2048;     // of a patch's plane, with its halo
inline constexpr int kMaxBox = 256;         // extent of what the copy engine brings at once
inline constexpr int kMaxStride = 8;        // of rows and columns that it skips
inline constexpr int kMaxOutputs = 4096;    // output channels, padded
inline constexpr int kMaxTaps = 1024;       // elements of the kernel
inline constexpr int kCopyPixels = 64;      // that a block copies, where the input is copied first

}  // namespace convmin::sm90::patch
