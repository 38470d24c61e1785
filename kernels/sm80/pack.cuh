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

// One output channel of a padded group, read in pairs of words: what a lane has of the channel in half a step. A pair
// is half of a 16-byte vector, so an output channel is packed without a look at any other.
template <typename T>
class Filter {
 public:
  using Element = typename T::Element;
  using Operand = typename T::Operand;
  static constexpr int kPerWord = 4 / static_cast<int>(sizeof(Operand));
  static constexpr int kPairs = 4 * T::kHalves;  // of a step: four lanes' in each half

  struct At {
    int chunk, tap, pair;
  };
  using Pair = Element[2][kPerWord];

  // `row` counts the output channels of padded groups.
  __device__ __forceinline__ Filter(const Params& params, std::int64_t row)
      : params_(params), block_(row / T::kTileN), n_(static_cast<int>(row - block_ * T::kTileN)) {
    const auto group = static_cast<int>(block_ / params.group_blocks);
    const auto in_group = static_cast<int>(block_ - static_cast<std::int64_t>(group) * params.group_blocks) * T::kTileN;
    real_ = in_group + n_ < params.group_outputs;
    k_ = real_ ? group * params.group_outputs + in_group + n_ : 0;
    first_ = static_cast<const Element*>(params.weight) + k_ * params.weight_stride_k;
  }

  __device__ __forceinline__ bool real() const { return real_; }
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

  __device__ __forceinline__ void load(const At& at, Pair& pair) const {
#pragma unroll
    for (int i = 0; i < 2 * kPerWord; ++i) {
      int channel = element_of(at, i / kPerWord) + i % kPerWord, tap = at.tap;
      bool inside = channel < params_.group_channels;
      if constexpr (T::kGather == Gather::kTaps) {
        inside = channel < params_.reduction;
        tap = channel / params_.group_channels;
        channel -= tap * params_.group_channels;
      }
      pair[i / kPerWord][i % kPerWord] = real_ && inside ? load_read_only(at_tap(channel, tap)) : Element{};
    }
  }

  __device__ __forceinline__ void store(const At& at, const Pair& pair) const {
    std::uint32_t words[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if constexpr (kPerWord == 2) {
        words[i] = operand_pair<Operand>(pair[i][0], pair[i][1]);
      } else {
        words[i] = operand_bits<Operand>(pair[i][0]);
      }
    }
    // Steps run over taps within chunks where a patch serves all taps, else over chunks within taps.
    const int step = params_.taps > 1 ? at.chunk * params_.taps + at.tap : at.tap * params_.chunks + at.chunk;
    const int half = at.pair / 4, sixteen = n_ / 16, lane = n_ % 8 * 4 + at.pair % 4;
    auto* image = static_cast<uint2*>(params_.packed_weight) + (block_ * params_.steps + step) * T::kWeightVectors * 2;
    image[((half * (T::kTileN / 16) + sixteen) * 32 + lane) * 2 + n_ / 8 % 2] = {words[0], words[1]};
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
  const std::int64_t block_;  // of output channels, of all groups
  const int n_;               // of the block's
  int k_;
  bool real_;  // else it is padding, all zeros
  const Element* first_;
};

// Threads have a pair each; where all of a filter decide on its scale, a block has the filter.
template <typename T>
__global__ void __launch_bounds__(kPackThreads<T>) conv_scale_min_sm80_pack(const __grid_constant__ Params params) {
  ptx::launch_dependents();
  const int thread = static_cast<int>(threadIdx.x), pairs = params.steps * Filter<T>::kPairs;
  const std::int64_t first = std::int64_t{blockIdx.x} * kPackThreads<T> + thread;
  for (std::int64_t i = first; i < params.counter_count; i += std::int64_t{gridDim.x} * kPackThreads<T>) {
    params.counters[i] = 0;
  }
  typename Filter<T>::Pair pair;
  if constexpr (T::kScaled) {
    static_assert(T::kGather != Gather::kTaps);  // its elements are not channels
    const Filter<T> filter(params, blockIdx.x);
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
      filter.load(at, pair);
#pragma unroll
      for (int word = 0; word < 2; ++word) {
        for (float& value : pair[word]) value *= up;
        large.note(filter.element_of(at, word), pair[word]);
      }
      filter.store(at, pair);
    }
    large.publish();
  } else {
    const std::int64_t row = first / pairs;
    if (row >= std::int64_t{params.groups} * params.group_blocks * T::kTileN) return;
    const Filter<T> filter(params, row);
    const auto at = filter.at(static_cast<int>(first - row * pairs));
    filter.load(at, pair);
    filter.store(at, pair);
  }
}

template <typename T>
void pack(const Params& params, cudaStream_t stream) {
  const std::int64_t rows = std::int64_t{params.groups} * params.group_blocks * T::kTileN;
  const std::int64_t pairs = std::int64_t{params.steps} * Filter<T>::kPairs;
  const std::int64_t blocks = T::kScaled ? rows : (rows * pairs + kPackThreads<T> - 1) / kPackThreads<T>;
  conv_scale_min_sm80_pack<T><<<static_cast<unsigned>(blocks), kPackThreads<T>, 0, stream>>>(params);
}

}  // namespace convmin::sm80
