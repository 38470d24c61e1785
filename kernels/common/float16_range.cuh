// float32 multiplied as float16, wherever a family does so. TF32 and float16 keep the same 11 significant bits, and
// float16 multiplies twice as fast; what it lacks is range. Filters are scaled by a power of two each, exactly undone
// after the sums. Of an input pixel the largest channel decides: above 65504 values round to infinity, and below 2^-11
// the subnormals' step of 2^-24 is coarser than TF32's. What a pixel's small channels lose is then no more than TF32
// loses of its largest product, if the channels' weights are of a size: where they are not, the whole problem is the
// portable kernel's.
#pragma once

namespace convmin {

inline constexpr float kLargestInput = 65504.0f, kFaintestInput = 0x1p-11f;

// Scaled filters peak in [2^14, 2^15). An input channel whose weights stay below this in all of them hides from the
// check on its pixels: beside such a channel, the others may be as small as they like.
inline constexpr float kFaintestPeak = 0x1p12f;

// `largest` is a filter's largest magnitude, as the bits of a float. Its power of two, or the inverse, may not be
// normal.
__device__ __forceinline__ bool out_of_scale(unsigned largest) {
  const int exponent = static_cast<int>(largest >> 23) - 127;
  return largest != 0 && (exponent > 100 || exponent < -100);
}
__device__ __forceinline__ float filter_scale(unsigned largest) {
  if (largest == 0 || out_of_scale(largest)) return 1.0f;
  return __uint_as_float((127 + 14 + 127 - (largest >> 23)) << 23);
}

// Filters whose factors, the inverses of those powers, are within this of each other can have the largest one in
// common: the least of them then peaks at 2^7 at least, and what float16's subnormals take of it is below 2^-32 of its
// peak.
inline constexpr float kMaxSpread = 128.0f;
// Between these, neither sums nor addends over a common factor leave the range in which powers of two are exact.
inline constexpr float kLeastCommon = 0x1p-40f, kLargestCommon = 0x1p40f;
__device__ __forceinline__ bool shares_factor(float addend) {
  const float magnitude = fabsf(addend);
  return addend == 0 || !isfinite(addend) || (magnitude >= 0x1p-60f && magnitude <= 0x1p60f);
}

}  // namespace convmin
