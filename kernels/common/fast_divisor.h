// Division of 31-bit integers by a run-time constant: one multiply-high and a shift, where a hardware-less integer
// division takes about 25 instructions. Granlund and Montgomery, "Division by invariant integers using multiplication"
// (PLDI 1994), figure 4.1 with N = 31: the multiplier fits 32 bits.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define CONVMIN_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define CONVMIN_HOST_DEVICE inline
#endif

namespace convmin {

struct QuotientRemainder {
  std::uint32_t quotient, remainder;
};

class FastDivisor {
 public:
  FastDivisor() = default;

  // 1 <= divisor < 2^31.
  explicit FastDivisor(std::int64_t divisor) : divisor_(static_cast<std::uint32_t>(divisor)), shift_(0) {
    while ((std::int64_t{1} << shift_) < divisor) ++shift_;
    // ceil(2^(31 + shift) / divisor) < 2^32, since 2^shift < 2 * divisor.
    const std::uint64_t power = std::uint64_t{1} << (31 + shift_);
    multiplier_ = static_cast<std::uint32_t>((power + divisor_ - 1) / divisor_);
  }

  // 0 <= value < 2^31.
  CONVMIN_HOST_DEVICE QuotientRemainder divide(std::uint32_t value) const {
    const auto wide = static_cast<std::uint64_t>(value) * multiplier_;
    const auto quotient = static_cast<std::uint32_t>(wide >> 31) >> shift_;
    return {quotient, value - quotient * divisor_};
  }

 private:
  std::uint32_t divisor_ = 1;
  std::uint32_t multiplier_ = 0x80000000u;
  std::uint32_t shift_ = 0;
};

}  // namespace convmin
