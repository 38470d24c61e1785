// The consumers' multiplication: the convolution of 64 output pixels with a tile of output channels is one wgmma chain
// over taps, chunks of channels and steps of 16. A tap is a shift of the input row's start address, nothing more.
#pragma once

#include "ptx/hold.cuh"
#include "ptx/wgmma.cuh"
#include "sm90/ring.cuh"
#include "sm90/traits.h"

namespace convmin::sm90 {

template <typename T>
struct Mainloop {
  static constexpr int kAccumulators = T::kTileN / 2;
  using Accumulators = float[kAccumulators];

  // `head` is the slot of the first input row under the output row; `pixels` the byte offset of the warpgroup's first.
  // kR, kS and kChunks of 0 stand for the problem's; the common ones known, the chain unrolls into bare wgmmas.
  template <int kR, int kS, int kChunks>
  static __device__ __forceinline__ void chain(const Params& params, std::uint32_t weights, std::uint32_t ring,
                                               int head, int pixels, int block_n, Accumulators& accumulators) {
    constexpr int kSteps = kRowBytes / 32;  // 16 operands are 32 bytes
    constexpr int kUnit = 16;               // bytes, in which descriptors count
    const int r_end = kR > 0 ? kR : params.r, s_end = kS > 0 ? kS : params.s;
    const int chunks = kChunks > 0 ? kChunks : params.chunks;
    const int chunk_units = params.row_pixels * kRowBytes / kUnit;
    const int tap_units = params.dilation_w * kRowBytes / kUnit;
    const int slot_units = chunks * chunk_units;
    const int weight_units = params.blocks_n * T::kWeightTileBytes / kUnit;
    const std::uint32_t rows = ptx::wgmma_descriptor(ptx::uniform(ring + pixels));
    std::uint32_t b = ptx::wgmma_descriptor(ptx::uniform(weights + block_n * T::kWeightTileBytes));
    int slot = ptx::uniform(head);
    ptx::wgmma_fence();
#pragma unroll
    for (int r = 0; r < r_end; ++r) {
      std::uint32_t tap = rows + slot * slot_units;
#pragma unroll
      for (int s = 0; s < s_end; ++s) {
        std::uint32_t a = tap;
#pragma unroll
        for (int chunk = 0; chunk < chunks; ++chunk) {
#pragma unroll
          for (int step = 0; step < kSteps; ++step) {
            ptx::Wgmma<typename T::Mma, T::kTileN>::multiply(accumulators, a + step * 2, b + step * 2,
                                                             r > 0 || s > 0 || chunk > 0 || step > 0);
          }
          a += chunk_units;
          b += weight_units;
        }
        tap += tap_units;
      }
      slot += params.dilation_h;
      if (slot >= params.ring) slot -= params.ring;
      // Two groups: when the first is done, the turn passes with a row of taps still in the tensor cores' queue.
      if (r >= r_end - 2) ptx::wgmma_commit();
    }
  }

  static __device__ __forceinline__ void run(const Params& params, std::uint32_t weights, std::uint32_t ring, int head,
                                             int pixels, int block_n, Accumulators& accumulators) {
    if (params.r == 3 && params.s == 3 && params.chunks == 1) {
      chain<3, 3, 1>(params, weights, ring, head, pixels, block_n, accumulators);
    } else {
      chain<0, 0, 0>(params, weights, ring, head, pixels, block_n, accumulators);
    }
  }
};

}  // namespace convmin::sm90
