// Whether float16 holds a pixel as well as TF32 does. The largest channel decides. Above 65504 values round to
// infinity. Below, float16's subnormal step of 2^-24 is coarser than TF32's: what a pixel's small channels lose is to
// be no more than TF32 loses of its largest product. Channels' weights peak within 8 of each other (kFaintestPeak), so
// that product is at least 2^-11 * 2^12, and the loss at most 2^-25 * 2^15, a 2^-11th of it. NaN passes, since it stays
// NaN.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

namespace convmin::sm90 {

// The largest magnitudes of kPixels pixels that each of the warp's lanes holds channels of. They are compared after
// their conversion, two an instruction: one that rounds to infinity or below 2^-11 in float16 is out of range.
template <int kPixels>
class Range {
  static_assert(kPixels % 2 == 0, "pixels pair up");

 public:
  // Eight channels of pixel i, converted.
  __device__ __forceinline__ void add(int i, const uint4& pack) {
    const std::uint32_t words[4] = {pack.x, pack.y, pack.z, pack.w};
#pragma unroll
    for (const std::uint32_t word : words) {
      largest_[i] = __hmax2(largest_[i], __habs2(*reinterpret_cast<const __half2*>(&word)));
    }
  }

  // Whether a pixel is out of range. Lanes that differ in the bits from kFirst to kLast hold the same pixels; the whole
  // warp must call it. A pixel that is faint in float16 may be zero: then nonzero(i), of this lane's channels, decides.
  template <int kFirst, int kLast, typename Nonzero>
  __device__ __forceinline__ bool outside(Nonzero&& nonzero) const {
    const __half2 infinity = __half2half2(__ushort_as_half(0x7c00)), least = __half2half2(__ushort_as_half(0x1000));
    unsigned large = 0, faint[kPixels / 2], any_faint = 0;  // masks, 16 bits a pixel
#pragma unroll
    for (int j = 0; j < kPixels / 2; ++j) {
      const __half2 even = largest_[2 * j], odd = largest_[2 * j + 1];
      __half2 pair = __hmax2(__lows2half2(even, odd), __highs2half2(even, odd));
#pragma unroll
      for (int offset = kFirst; offset <= kLast; offset *= 2) {
        pair = __hmax2(pair, __shfl_xor_sync(0xffffffffu, pair, offset));
      }
      large |= __heq2_mask(pair, infinity);
      faint[j] = __hlt2_mask(pair, least);
      any_faint |= faint[j];
    }
    bool result = large != 0;
    if (any_faint != 0) {
#pragma unroll
      for (int i = 0; i < kPixels; ++i) {
        if ((faint[i / 2] >> i % 2 * 16 & 1) != 0) result |= nonzero(i);
      }
    }
    return result;
  }

 private:
  __half2 largest_[kPixels] = {};  // of even and of odd channels
};

}  // namespace convmin::sm90
