// What a block finds out about a float32 filter before it multiplies as float16 (see float16_range.cuh).
#pragma once

#include "common/fallback.h"
#include "common/float16_range.cuh"

namespace convmin {

// The largest magnitude that the block's threads visit, as the bits of a float, which order as the floats do; NaN is
// above all. for_each(visit) calls visit(weight) for the thread's weights. Every thread calls it.
template <typename ForEach>
__device__ __forceinline__ unsigned largest_weight(ForEach&& for_each) {
  __shared__ unsigned largest;
  if (threadIdx.x == 0) largest = 0;
  __syncthreads();
  unsigned mine = 0;
  for_each([&](float weight) { mine = max(mine, __float_as_uint(weight) & 0x7fffffffu); });
  mine = __reduce_max_sync(0xffffffffu, mine);
  if (threadIdx.x % 32 == 0) atomicMax(&largest, mine);  // of integers: the same whatever the order
  __syncthreads();
  return largest;
}

// The filter's power of two; its inverse goes to `factor`. Every thread of the block calls it.
template <typename ForEach>
__device__ __forceinline__ float scale_filter(float* factor, const Fallback& fallback, ForEach&& for_each) {
  const unsigned largest = largest_weight(for_each);
  const float up = filter_scale(largest);
  if (threadIdx.x == 0) {
    *factor = 1.0f / up;
    if (out_of_scale(largest)) *fallback.everything = 1;
  }
  return up;
}

// Visits a filter whose elements have nothing between them, in whatever order they are, and zeros for those that are
// none. All loads of a batch are under way together.
template <int kThreads, typename Visit>
__device__ __forceinline__ void for_each_dense(const float* filter, int count, Visit&& visit) {
  constexpr int kBatch = 16;
  for (int first = static_cast<int>(threadIdx.x); first < count; first += kBatch * kThreads) {
    float batch[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) batch[i] = first + i * kThreads < count ? filter[first + i * kThreads] : 0.0f;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) visit(batch[i]);
  }
}

// Which input channels have large weights in the block's filter: many taps say the same, and all filters, so that
// shared memory gathers them first.
template <int kThreads>
class LargeWeights {
 public:
  static constexpr int kGathered = 4096;  // channels; of more, each weight says so itself
  using Shared = bool[kGathered];

  // `copies`: see fallback.h. Every thread calls this, and publish().
  __device__ __forceinline__ LargeWeights(Shared& shared, int channels, std::uint8_t* copies)
      : shared_(shared),
        gathered_(min(channels, kGathered)),
        seen_(copies + blockIdx.x % kSeenCopies * (seen_words(channels) * 4)) {
    for (int c = static_cast<int>(threadIdx.x); c < gathered_; c += kThreads) shared_[c] = false;
    __syncthreads();
  }

  // Of the neighbours from `first` on, a multiple of their number, the weights times the filter's power of two. Zeros
  // may have any channel.
  template <int kNeighbours>
  __device__ __forceinline__ void note(int first, const float (&scaled)[kNeighbours]) const {
    static_assert(kGathered % kNeighbours == 0);
    const bool gathered = first < kGathered;
#pragma unroll
    for (int i = 0; i < kNeighbours; ++i) {
      if (fabsf(scaled[i]) < kFaintestPeak) continue;  // not NaN
      if (gathered) {
        shared_[first + i] = true;
      } else {
        seen_[first + i] = 1;
      }
    }
  }

  __device__ __forceinline__ void publish() const {
    __syncthreads();
    for (int c = static_cast<int>(threadIdx.x); c < gathered_; c += kThreads) {
      if (shared_[c]) seen_[c] = 1;
    }
  }

 private:
  Shared& shared_;
  const int gathered_;
  std::uint8_t* const seen_;
};

// Whether no filter has a large weight for one of the four channels from 4 * word on.
__device__ __forceinline__ bool hides_a_channel(const std::uint8_t* copies, int channels, int word) {
  const int words = seen_words(channels), exist = min(channels - 4 * word, 4);
  const std::uint32_t wanted = 0x01010101u >> 8 * (4 - exist);
  std::uint32_t seen = 0;
#pragma unroll
  for (int i = 0; i < kSeenCopies; ++i) seen |= reinterpret_cast<const std::uint32_t*>(copies)[i * words + word];
  return (seen & wanted) != wanted;
}

}  // namespace convmin
