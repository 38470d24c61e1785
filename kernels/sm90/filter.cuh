// A filter, read in packs: the channels of one tap that make 16 bytes of operands. A thread has a pack, so that it
// looks for its place once for all of them and stores them at once.
#pragma once

#include "common/scaled_filter.cuh"
#include "sm90/weight.h"

namespace convmin::sm90 {

struct PackAt {
  int chunk, tap, pack;  // the pack's number in its chunk
};

template <typename Element, int kPack, int kPacks>
class Filter {
 public:
  struct alignas(16) Pack {
    Element values[kPack];
  };

  // `real`: else it is padding, all zeros.
  __device__ __forceinline__ Filter(const Weight& weight, int k, bool real, int channels, int chunks, int r, int s)
      : weight_(weight),
        first_(static_cast<const Element*>(weight.data) + (real ? k : 0) * weight.stride_k),
        channels_(real ? channels : 0),
        chunks_(chunks),
        taps_(r * s) {}

  __device__ __forceinline__ int packs() const { return chunks_ * taps_ * kPacks; }

  // Of the i-th: neighbouring threads walk what lies together, channels or taps.
  __device__ __forceinline__ PackAt at(int i) const {
    if (weight_.channels_inside) {
      const QuotientRemainder by_window = weight_.by_window.divide(i / kPacks);
      return {static_cast<int>(by_window.quotient), static_cast<int>(by_window.remainder), i % kPacks};
    }
    const QuotientRemainder by_window = weight_.by_window.divide(i);
    const auto row = static_cast<int>(by_window.quotient);
    return {row / kPacks, static_cast<int>(by_window.remainder), row % kPacks};
  }

  __device__ __forceinline__ Pack load(const PackAt& at) const {
    constexpr int kVector = 16 / static_cast<int>(sizeof(Element));
    const int channel = (at.chunk * kPacks + at.pack) * kPack;
    const Element* source = at_tap(channel, at.tap);
    Pack pack{};
    if (weight_.vectors) {
      auto* vectors = reinterpret_cast<uint4*>(&pack);
#pragma unroll
      for (int i = 0; i < kPack / kVector; ++i) {
        if (channel + i * kVector < channels_) vectors[i] = reinterpret_cast<const uint4*>(source)[i];
      }
    } else {
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        if (channel + i < channels_) pack.values[i] = source[i * weight_.stride_c];
      }
    }
    return pack;
  }

  // Calls visit(weight) for a thread's weights.
  template <int kThreads, typename Visit>
  __device__ __forceinline__ void for_each(Visit&& visit) const {
    if (weight_.dense_filters) return for_each_dense<kThreads>(first_, channels_ * taps_, visit);
    for (int i = static_cast<int>(threadIdx.x); i < packs(); i += kThreads) {
      const Pack pack = load(at(i));
#pragma unroll
      for (const Element value : pack.values) visit(value);
    }
  }

  // The largest magnitude of a channel, as the bits of a float, which order as the floats do; NaN is above all.
  __device__ __forceinline__ unsigned peak(int channel) const {
    unsigned peak = 0;
    for (int tap = 0; tap < taps_; ++tap) {
      peak = max(peak, __float_as_uint(*at_tap(channel, tap)) & 0x7fffffffu);
    }
    return peak;
  }

 private:
  __device__ __forceinline__ const Element* at_tap(int channel, int tap) const {
    const QuotientRemainder by_row = weight_.by_s.divide(tap);
    return first_ + channel * weight_.stride_c + by_row.quotient * weight_.stride_r +
           by_row.remainder * weight_.stride_s;
  }

  const Weight& weight_;
  const Element* const first_;
  const int channels_, chunks_, taps_;
};

}  // namespace convmin::sm90
