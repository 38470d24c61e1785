// Packs the weight into the order of the multiplication's fragments, zero-padded to whole tiles: a thread's share of a
// fragment pair is one 16-byte vector, next to its neighbour's, so shared memory holds it without padding or swizzle.
// Where float32 multiplies as float16, filters are scaled by a power of two each (see scaled_filter.cuh).
#pragma once

#include "common/load.cuh"
#include "common/scaled_filter.cuh"
#include "ptx/griddepcontrol.cuh"
#include "sm80/operand.cuh"
#include "sm80/params.h"
#include "sm80/traits.h"

namespace convmin::sm80 {

// A block has a whole filter where it is scaled.
template <typename T>
inline constexpr int kPackThreads = T::kScaled ? 512 : 256;
// Output channels of a thread, eight apart: it finds its place in the reduction once for all of them, and two make a
// 16-byte vector.
template <typename T>
inline constexpr int kFiltersTogether = T::kScaled ? 1 : 4;

// Filters of a padded group, read in pairs of words: what a lane has of an output channel in half a step. A pair is
// half of a 16-byte vector, so an output channel is packed without a look at any other.
template <typename T>
class Filters {
 public:
  using Element = typename T::Element;
  using Operand = typename T::Operand;
  static constexpr int kTogether = kFiltersTogether<T>;
  static constexpr int kPerWord = 4 / static_cast<int>(sizeof(Operand));
  static constexpr int kPairs = 4 * T::kHalves;           // of a step: four lanes' in each half
  static constexpr int kPerTile = T::kTileN / kTogether;  // of these in a block of output channels
  static_assert(T::kTileN % (8 * kTogether) == 0 && (kTogether == 1 || kTogether % 2 == 0));

  struct At {
    int chunk, tap, pair;
  };
  using Pairs = Element[kTogether][2][kPerWord];

  // `index` counts over padded groups.
  __device__ __forceinline__ Filters(const Params& params, int index) : params_(params), block_(index / kPerTile) {
    const int in_tile = index - block_ * kPerTile;
    n_ = in_tile / 8 * (8 * kTogether) + in_tile % 8;
    const QuotientRemainder by_group = params.by_group_blocks.divide(block_);
    const int in_group = static_cast<int>(by_group.remainder) * T::kTileN + n_;
    real_ = (params.group_outputs - in_group + 7) / 8;
    k_ = real() ? static_cast<int>(by_group.quotient) * params.group_outputs + in_group : 0;
    first_ = static_cast<const Element*>(params.weight) + k_ * params.weight_stride_k;
  }

  // The first, and any: others are padding, all zeros.
  __device__ __forceinline__ bool real() const { return real_ > 0; }
  __device__ __forceinline__ int k() const { return k_; }

  // Of the i-th pair: neighbouring threads walk what lies together in memory, channels or taps.
  __device__ __forceinline__ At at(int i) const {
    if constexpr (T::kGather == Gather::kTaps) return {i / kPairs, 0, i % kPairs};
    if (channels_inside()) {
      const QuotientRemainder by_tap = params_.by_chunks.divide(i / kPairs);
      return {static_cast<int>(by_tap.remainder), static_cast<int>(by_tap.quotient), i % kPairs};
    }
    const QuotientRemainder by_pair = params_.by_window.divide(i);
    return {static_cast<int>(by_pair.quotient) / kPairs, static_cast<int>(by_pair.remainder),
            static_cast<int>(by_pair.quotient) % kPairs};
  }

  // Where a word of a pair begins in the reduction. A lane's second word of a fragment is half a vector of channels on.
  static __device__ __forceinline__ int element_of(const At& at, int word) {
    return at.chunk * T::kChunk + (at.pair / 4 * 8 + at.pair % 4 + 4 * word) * kPerWord;
  }

  __device__ __forceinline__ void load(const At& at, Pairs& pairs) const {
    const int first = element_of(at, 0);
    const Element* const source = T::kGather == Gather::kTaps ? nullptr : at_tap(first, at.tap);
#pragma unroll
    for (int i = 0; i < 2 * kPerWord; ++i) {
      const int more = element_of({}, i / kPerWord) + i % kPerWord;  // the same for all threads, as are the strides
      const Element* from;
      bool inside;
      if constexpr (T::kGather == Gather::kTaps) {
        const int tap = (first + more) / params_.group_channels;
        from = at_tap(first + more - tap * params_.group_channels, tap);
        inside = first + more < params_.reduction;
      } else {
        from = source + more * params_.weight_stride_c;
        inside = first + more < params_.group_channels;
      }
#pragma unroll
      for (int filter = 0; filter < kTogether; ++filter) {
        pairs[filter][i / kPerWord][i % kPerWord] =
            filter < real_ && inside ? load_read_only(from + filter * 8 * params_.weight_stride_k) : Element{};
      }
    }
  }

  __device__ __forceinline__ void store(const At& at, const Pairs& pairs) const {
    std::uint32_t words[kTogether][2];
#pragma unroll
    for (int i = 0; i < kTogether * 2; ++i) {
      const auto& word = pairs[i / 2][i % 2];
      if constexpr (kPerWord == 2) {
        words[i / 2][i % 2] = operand_pair<Operand>(word[0], word[1]);
      } else {
        words[i / 2][i % 2] = operand_bits<Operand>(word[0]);
      }
    }
    // Steps run over taps within chunks where a patch serves all taps, else over chunks within taps.
    const int step = params_.taps > 1 ? at.chunk * params_.taps + at.tap : at.tap * params_.chunks + at.chunk;
    const int half = at.pair / 4, sixteen = n_ / 16, lane = n_ % 8 * 4 + at.pair % 4;
    uint4* vector = static_cast<uint4*>(params_.packed_weight) +
                    (std::int64_t{block_} * params_.steps + step) * T::kWeightVectors +
                    (half * (T::kTileN / 16) + sixteen) * 32 + lane;
    if constexpr (kTogether == 1) {
      reinterpret_cast<uint2*>(vector)[n_ / 8 % 2] = {words[0][0], words[0][1]};
    } else {
#pragma unroll
      for (int i = 0; i < kTogether; i += 2) {
        vector[i / 2 * 32] = {words[i][0], words[i][1], words[i + 1][0], words[i + 1][1]};
      }
    }
  }

  // Calls visit(weight) for a thread's weights.
  template <typename Visit>
  __device__ __forceinline__ void for_each(Visit&& visit) const {
    const int taps = params_.r * params_.s, count = params_.group_channels * taps;
    if (params_.dense_filters) return for_each_dense<kPackThreads<T>>(first_, count, visit);
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kPackThreads<T>) {
      const QuotientRemainder by_channel = params_.by_window.divide(i);
      visit(*at_tap(static_cast<int>(by_channel.quotient), static_cast<int>(by_channel.remainder)));
    }
  }

 private:
  __device__ __forceinline__ bool channels_inside() const { return params_.weight_stride_c < params_.weight_stride_s; }
  __device__ __forceinline__ const Element* at_tap(int channel, int tap) const {
    const QuotientRemainder by_row = params_.by_s.divide(tap);
    return first_ + channel * params_.weight_stride_c + by_row.quotient * params_.weight_stride_r +
           by_row.remainder * params_.weight_stride_s;
  }

  const Params& params_;
  const int block_;  // of output channels, of all groups
  int n_;            // of the block's: the first
  int k_;
  int real_;  // so many of them
  const Element* first_;
};

// Threads have a pair of some filters each; where all of a filter decide on its scale, a block has the filter.
template <typename T>
__global__ void __launch_bounds__(kPackThreads<T>) conv_scale_min_sm80_pack(const __grid_constant__ Params params) {
  ptx::launch_dependents();
  const int thread = static_cast<int>(threadIdx.x), pairs = params.steps * Filters<T>::kPairs;
  const unsigned first = blockIdx.x * kPackThreads<T> + threadIdx.x;  // 2^32 would write 128 GiB
  for (std::int64_t i = first; i < params.counter_count; i += std::int64_t{gridDim.x} * kPackThreads<T>) {
    params.counters[i] = 0;
  }
  typename Filters<T>::Pairs loaded;
  if constexpr (T::kScaled) {
    static_assert(T::kGather != Gather::kTaps);  // its elements are not channels
    const Filters<T> filter(params, static_cast<int>(blockIdx.x));
    float up = 1.0f;
    if (filter.real()) {
      up = scale_filter(params.channel_factor + filter.k(), params.fallback,
                        [&](auto&& visit) { filter.for_each(visit); });
    }
    __shared__ typename LargeWeights<kPackThreads<T>>::Shared shared;
    const LargeWeights<kPackThreads<T>> large(shared, params.group_channels, params.channel_seen);
#pragma unroll 2
    for (int i = thread; i < pairs; i += kPackThreads<T>) {
      const auto at = filter.at(i);
      filter.load(at, loaded);
#pragma unroll
      for (int word = 0; word < 2; ++word) {
        for (float& value : loaded[0][word]) value *= up;
        large.note(filter.element_of(at, word), loaded[0][word]);
      }
      filter.store(at, loaded);
    }
    large.publish();
  } else {
    const unsigned index = first / static_cast<unsigned>(pairs);
    if (index >= static_cast<unsigned>(params.groups * params.group_blocks) * Filters<T>::kPerTile) return;
    const Filters<T> filters(params, static_cast<int>(index));
    const auto at = filters.at(static_cast<int>(first - index * static_cast<unsigned>(pairs)));
    filters.load(at, loaded);
    filters.store(at, loaded);
  }
}

template <typename T>
void pack(const Params& params, cudaStream_t stream) {
  const std::int64_t filters = std::int64_t{params.groups} * params.group_blocks * Filters<T>::kPerTile;
  const std::int64_t pairs = std::int64_t{params.steps} * Filters<T>::kPairs;
  const std::int64_t blocks = T::kScaled ? filters : (filters * pairs + kPackThreads<T> - 1) / kPackThreads<T>;
  conv_scale_min_sm80_pack<T><<<static_cast<unsigned>(blocks), kPackThreads<T>, 0, stream>>>(params);
}

}  // namespace convmin::sm80
