// A channel and its value on their way through the minimum: NaN wins, then the smaller value, then the lower channel.
#pragma once

#include <climits>

#include "conv_scale_min.h"

namespace convmin {

inline constexpr int kNoChannel = INT_MAX;  // loses every tie against a real channel

template <typename Accum>
struct Candidate {
  Accum value;
  int channel;

  // For channels met in ascending order: the first NaN, else the first of the smallest values.
  __device__ __forceinline__ void offer_ascending(Accum other, int other_channel) {
    const bool take = !(other >= value) && value == value;  // unordered compares as "less"
    value = take ? other : value;
    channel = take ? other_channel : channel;
  }

  // For candidates in any order. Associative and commutative, so the result depends on no schedule.
  __device__ __forceinline__ void merge(const Candidate& other) {
    const bool this_nan = value != value;
    const bool other_nan = other.value != other.value;
    const bool lower = other.channel < channel;
    const bool take = other_nan ? (!this_nan || lower) : (other.value < value || (other.value == value && lower));
    value = take ? other.value : value;
    channel = take ? other.channel : channel;
  }
};

// Butterfly over groups of kLanes neighbouring lanes; every lane ends with the group's minimum.
template <int kLanes, typename Accum>
__device__ __forceinline__ void warp_min(Candidate<Accum>& candidate) {
  static_assert(kLanes > 0 && kLanes <= 32 && (kLanes & (kLanes - 1)) == 0, "a power of two within the warp");
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    Candidate<Accum> other;
    other.value = __shfl_xor_sync(0xffffffffu, candidate.value, offset);
    other.channel = __shfl_xor_sync(0xffffffffu, candidate.channel, offset);
    candidate.merge(other);
  }
}

__device__ __forceinline__ void write_index(void* indices, IndexType type, std::int64_t at, int channel) {
  switch (type) {
    case IndexType::kUInt8: static_cast<std::uint8_t*>(indices)[at] = static_cast<std::uint8_t>(channel); break;
    case IndexType::kInt16: static_cast<std::int16_t*>(indices)[at] = static_cast<std::int16_t>(channel); break;
    case IndexType::kInt32: static_cast<std::int32_t*>(indices)[at] = channel; break;
  }
}

}  // namespace convmin
