// Packs the weight into the image that the Hopper kernel keeps in shared memory: 16-bit, K-major, swizzled. float32
// filters are scaled by a power of two each, so that float16's range loses nothing that matters to the filter's sums.
#pragma once

#include "ptx/griddepcontrol.cuh"
#include "sm90/params.h"
#include "sm90/traits.h"

namespace convmin::sm90 {

inline constexpr int kPackThreads = 128;

// Scaled filters peak in [2^14, 2^15). An input channel whose weights stay below this in all of them hides from the
// range check on its pixels: beside such a channel, the others may be as small as they like.
inline constexpr float kFaintestPeak = 0x1p12f;

// One block per output channel, padding included.
template <typename T>
__global__ void __launch_bounds__(kPackThreads) conv_scale_min_sm90_pack(const __grid_constant__ Params params) {
  using Element = typename T::Element;
  using Mma = typename T::Mma;
  ptx::launch_dependents();
  const int k = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const bool real = k < params.k;
  const auto* filter = static_cast<const Element*>(params.weight) + (real ? k : 0) * params.weight_stride_k;
  const int taps = params.r * params.s, padded = taps * params.chunks * kChunk;
  const auto read = [&](int index) {
    const int tap = index / (params.chunks * kChunk), c = index % (params.chunks * kChunk);
    if (!real || c >= params.c) return Element{};
    return filter[c * params.weight_stride_c + tap / params.s * params.weight_stride_r +
                  tap % params.s * params.weight_stride_s];
  };

  float up = 1.0f;
  if constexpr (T::kChecksRange) {
    __shared__ unsigned largest_bits;
    if (thread == 0) largest_bits = 0;
    __syncthreads();
    unsigned mine = 0;
    for (int i = thread; i < padded; i += kPackThreads) mine = max(mine, __float_as_uint(read(i)) & 0x7fffffffu);
    atomicMax(&largest_bits, mine);  // of integers: the same whatever the order
    __syncthreads();
    // The largest weight lands in [2^14, 2^15). Exponents whose power of two has no normal inverse go to the fallback.
    const int exponent = static_cast<int>(largest_bits >> 23) - 127;
    if (largest_bits != 0) {
      if (exponent > 100 || exponent < -100) {
        if (thread == 0) *params.fallback.everything = 1;
      } else {
        up = __uint_as_float(static_cast<unsigned>(127 + 14 - exponent) << 23);
      }
    }
  }
  if constexpr (T::kChecksRange) {
    // How large the weights of an input channel get in any filter, as unsigned integers, which order as the floats do.
    for (int c = thread; real && c < params.c; c += kPackThreads) {
      unsigned peak = 0;
      for (int tap = 0; tap < taps; ++tap) {
        peak = max(peak, __float_as_uint(fabsf(read(tap * params.chunks * kChunk + c) * up)));
      }
      atomicMax(&params.channel_peak[c], peak);
    }
  }
  if (T::kScalesFilters && thread == 0 && real) params.channel_factor[k] = 1.0f / up;
  auto* image = static_cast<std::uint8_t*>(params.packed_weight);
  const int n = k % T::kTileN, block_n = k / T::kTileN;
  for (int i = thread; i < padded; i += kPackThreads) {
    const int tap_chunk = i / kChunk, c = i % kChunk;
    const int row = (tap_chunk * params.blocks_n + block_n) * T::kTileN + n;
    auto* slot = image + static_cast<std::int64_t>(row) * kRowBytes + ((c / 8 ^ (n & 7)) * 16) + c % 8 * 2;
    if constexpr (T::kChecksRange) {
      *reinterpret_cast<Mma*>(slot) = __float2half_rn(read(i) * up);
    } else {
      *reinterpret_cast<Mma*>(slot) = params.scale < 0 ? __hneg(read(i)) : read(i);
    }
  }
}

}  // namespace convmin::sm90
