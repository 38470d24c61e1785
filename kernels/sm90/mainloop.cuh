// The consumers' multiplication: the convolution of 64 output pixels with a tile of output channels is one wgmma chain
// over taps, chunks of channels and steps of 16. A tap is a shift of the input row's start address, nothing more.
#pragma once

#include "ptx/wgmma.cuh"
#include "sm90/ring.cuh"
#include "sm90/traits.h"

namespace convmin::sm90 {

template <typename T>
struct Mainloop {
  static constexpr int kAccumulators = T::kTileN / 2;
  using Accumulators = float[kAccumulators];

  // `head` is the slot of the first input row under the output row; `pixels` the byte offset of the warpgroup's first.
  static __device__ __forceinline__ void run(const Params& params, std::uint32_t weights, std::uint32_t ring, int head,
                                             int pixels, int block_n, Accumulators& accumulators) {
    constexpr int kSteps = kRowBytes / 32;  // 16 operands are 32 bytes
    const int chunk_bytes = params.row_pixels * kRowBytes;
    const int slot_bytes = params.chunks * chunk_bytes;
    const int weight_chunk_bytes = params.blocks_n * T::kWeightTileBytes;
    std::uint32_t b = weights + block_n * T::kWeightTileBytes;
    int slot = head;
    ptx::wgmma_fence();
    int accumulate = 0;
    for (int r = 0; r < params.r; ++r) {
      std::uint32_t a_tap = ring + slot * slot_bytes + pixels;
      for (int s = 0; s < params.s; ++s) {
        std::uint32_t a = a_tap;
        for (int chunk = 0; chunk < params.chunks; ++chunk) {
#pragma unroll
          for (int step = 0; step < kSteps; ++step) {
            ptx::Wgmma<typename T::Mma, T::kTileN>::multiply(accumulators, ptx::wgmma_descriptor(a + step * 32),
                                                             ptx::wgmma_descriptor(b + step * 32), accumulate);
            accumulate = 1;
          }
          a += chunk_bytes;
          b += weight_chunk_bytes;
        }
        a_tap += params.dilation_w * kRowBytes;
      }
      slot += params.dilation_h;
      if (slot >= params.ring) slot -= params.ring;
    }
    ptx::wgmma_commit();
  }
};

}  // namespace convmin::sm90
