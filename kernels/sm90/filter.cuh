// A filter, read in packs: the channels of one tap that make 16 bytes of operands. A thread has a pack, so that it
// looks for its place once for all of them and stores them at once.
#pragma once

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
        taps_(r * s),
        s_(s) {}

  __device__ __forceinline__ int packs() const { return chunks_ * taps_ * kPacks; }

  // Of the i-th: neighbouring threads walk what lies together, channels or taps.
  __device__ __forceinline__ PackAt at(int i) const {
    if (weight_.channels_inside) {
      const int row = i / kPacks, chunk = row / taps_;
      return {chunk, row - chunk * taps_, i % kPacks};
    }
    const int row = i / taps_;
    return {row / kPacks, i - row * taps_, row % kPacks};
  }

  __device__ __forceinline__ Pack load(const PackAt& at) const {
    constexpr int kVector = 16 / static_cast<int>(sizeof(Element));
    const int channel = (at.chunk * kPacks + at.pack) * kPack, r = at.tap / s_;
    const Element* source =
        first_ + channel * weight_.stride_c + r * weight_.stride_r + (at.tap - r * s_) * weight_.stride_s;
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

  // The largest magnitude of a channel, as the bits of a float, which order as the floats do; NaN is above all.
  __device__ __forceinline__ unsigned peak(int channel) const {
    unsigned peak = 0;
    for (int tap = 0; tap < taps_; ++tap) {
      const int r = tap / s_;
      const float value = first_[channel * weight_.stride_c + r * weight_.stride_r + (tap - r * s_) * weight_.stride_s];
      peak = max(peak, __float_as_uint(value) & 0x7fffffffu);
    }
    return peak;
  }

 private:
  const Weight& weight_;
  const Element* const first_;
  const int channels_, chunks_, taps_, s_;
};

// The largest magnitude in a float32 filter, of all threads of the block.
template <int kThreads, int kPack, int kPacks>
__device__ __forceinline__ unsigned largest_of(const Filter<float, kPack, kPacks>& filter) {
  __shared__ unsigned largest;
  if (threadIdx.x == 0) largest = 0;
  __syncthreads();
  unsigned mine = 0;
#pragma unroll 2
  for (int i = static_cast<int>(threadIdx.x); i < filter.packs(); i += kThreads) {
    const auto pack = filter.load(filter.at(i));
#pragma unroll
    for (const float value : pack.values) mine = max(mine, __float_as_uint(value) & 0x7fffffffu);
  }
  atomicMax(&largest, mine);  // of integers: the same whatever the order
  __syncthreads();
  return largest;
}

}  // namespace convmin::sm90
