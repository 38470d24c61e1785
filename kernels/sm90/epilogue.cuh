// Bias, scale and the minimum over a tile of output channels, all in registers: a thread holds 2 pixels x kTileN / 4
// channels, a quad of lanes the rest of the pixel. Rounding is monotone, so the minimum of the products is the product
// of the minimum (of the maximum, by the sign in the factors, where scale is negative): one multiplication per pixel.
#pragma once

#include <cmath>

#include "common/candidate.cuh"
#include "common/convert.cuh"
#include "ptx/minimum.cuh"

namespace convmin::sm90 {

// The minimum over some of a pixel's channels. NaN wins, then the smaller value, then the lower channel; merging is
// associative and commutative, so the result depends on no schedule.
template <bool kWithIndices>
struct Minimum;

template <>
struct Minimum<false> {
  float value;

  // Not a member initializer: nvcc 13.0 applies one to the first row alone of an array of arrays, and clears the rest.
  __device__ __forceinline__ Minimum() : value(HUGE_VALF) {}
  __device__ __forceinline__ void merge(const Minimum& other) { value = ptx::min_nan(value, other.value); }
  __device__ __forceinline__ Minimum of_lane_xor(int mask) const {
    Minimum other;
    other.value = __shfl_xor_sync(0xffffffffu, value, mask);
    return other;
  }
};

template <>
struct Minimum<true> {
  float value;
  int channel;

  __device__ __forceinline__ Minimum() : value(HUGE_VALF), channel(kNoChannel) {}
  // By bits, which NaN has as well: ptx::min_nan knows but one, and values hold no negative zero (see Affine).
  __device__ __forceinline__ void merge(const Minimum& other) {
    const float low = ptx::min_nan(value, other.value);
    const int bits = __float_as_int(low);
    channel = min(bits == __float_as_int(value) ? channel : kNoChannel,
                  bits == __float_as_int(other.value) ? other.channel : kNoChannel);
    value = low;
  }
  __device__ __forceinline__ Minimum of_lane_xor(int mask) const {
    Minimum other;
    other.value = __shfl_xor_sync(0xffffffffu, value, mask);
    other.channel = __shfl_xor_sync(0xffffffffu, channel, mask);
    return other;
  }
};

// Where the smallest of values met in fours lies, or the first NaN: the first four that has it, and enough of its
// values to tell which of them. Following each value by itself would take a comparison and half a selection more per
// value.
struct Fours {
  float lowest = HUGE_VALF, first = HUGE_VALF, second = HUGE_VALF, third = HUGE_VALF;
  int at = 0;  // channel of the first of the four

  __device__ __forceinline__ void offer(int channel, const float (&v)[4]) {
    const float before = lowest;
    lowest = ptx::min_nan(lowest, ptx::min_nan(ptx::min_nan(v[0], v[1]), ptx::min_nan(v[2], v[3])));
    ptx::keep_if_different(lowest, before, v, channel, first, second, third, at);
  }
  // The four's channels are `at` and these beyond it. Selections, where conditional expressions would become branches.
  __device__ __forceinline__ int channel(const int (&beyond)[4]) const {
    int result = beyond[3];
    result = attains(third) ? beyond[2] : result;
    result = attains(second) ? beyond[1] : result;
    result = attains(first) ? beyond[0] : result;
    return at + result;
  }

 private:
  __device__ __forceinline__ bool attains(float value) const { return __float_as_int(value) == __float_as_int(lowest); }
};

template <typename T>
struct Epilogue {
  using Min = Minimum<T::kWithIndices>;
  using Accumulators = float[T::kTileN / 2];
  static constexpr int kValues = T::kTileN / 4;  // of a pixel in a thread

  // A thread's channels of a block, in order: 0, 1, 8, 9, 16, ... beyond lane_first().
  static __device__ __forceinline__ constexpr int channel_of(int i) { return i / 2 * 8 + i % 2; }
  static __device__ __forceinline__ int lane_first() { return static_cast<int>(threadIdx.x) % 4 * 2; }

  // What turns sums of a thread's channels into values / |scale|: an addend each, and for all of them 1 or -1. In
  // registers: the tensor cores need all but a quarter of shared memory's bandwidth, and reading it there again for
  // each pixel took up to 13 % of the kernel's time.
  class Affine {
   public:
    // Of a block of output channels.
    __device__ __forceinline__ void load(const float* addends, float sign = 1.0f) {
      sign_ = sign;
#pragma unroll
      for (int i = 0; i < kValues; ++i) {
        // Of zeros the positive one, so that values are, whose bits are compared.
        addends_[i] = addends[lane_first() + channel_of(i)] + 0.0f;
      }
    }
    __device__ __forceinline__ float operator()(int i, float sum) const { return fmaf(sum, sign_, addends_[i]); }

   private:
    float sign_;
    float addends_[kValues];
  };

  // Undoes the scaling of a block's filters, where they have no factor in common. In place, and from shared memory:
  // there are no registers for factors.
  static __device__ __forceinline__ void scale(const float* factors, Accumulators& accumulators) {
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      const float factor = factors[lane_first() + channel_of(i)];
      accumulators[i / 2 * 4 + i % 2] *= factor;
      accumulators[i / 2 * 4 + 2 + i % 2] *= factor;
    }
  }

  // Takes a block of output channels into the minima of a thread's two pixels; `valid` of the block's channels are
  // real.
  static __device__ __forceinline__ void reduce(const Affine& affine, int first_channel, int valid,
                                                const Accumulators& accumulators, Min (&best)[2]) {
    // A padding channel may not even be offered: its weights are zeros, and zero times an infinite input is NaN.
    if (valid >= T::kTileN) {
      reduce_block<false>(affine, first_channel, valid, accumulators, best);
    } else {
      reduce_block<true>(affine, first_channel, valid, accumulators, best);
    }
  }

  // A quad's lanes have parts of the same two pixels. Of what they exchange, the first two of them keep the first
  // pixel, the others the second. The whole warp must call it.
  static __device__ __forceinline__ Min reduce_quad(const Min (&best)[2]) {
    const bool second = pixel_of_lane() == 1;
    Min result = best[0], other = best[1];
    // By values: a choice of objects would be one of addresses, and put them in memory.
    if (second) result = best[1], other = best[0];
    result.merge(other.of_lane_xor(2));
    result.merge(result.of_lane_xor(1));
    return result;
  }
  static __device__ __forceinline__ int pixel_of_lane() { return static_cast<int>(threadIdx.x) / 2 % 2; }
  static __device__ __forceinline__ bool lane_writes() { return threadIdx.x % 2 == 0; }

  // A pixel's result, of one that lane_writes().
  template <typename Params>
  static __device__ __forceinline__ void write(const Params& params, std::int64_t at, const Min& best) {
    using Element = typename T::Element;
    static_cast<Element*>(params.values)[at] = Numeric<Element>::round(best.value * fabsf(params.scale));
    if constexpr (T::kWithIndices) write_index(params.indices, params.index_type, at, best.channel);
  }

 private:
  template <bool kPadded>
  static __device__ __forceinline__ void reduce_block(const Affine& affine, int first_channel, int valid,
                                                      const Accumulators& accumulators, Min (&best)[2]) {
    // The value of a pixel's i-th channel; of a padding channel, what loses to every other.
    const auto value = [&](int pixel, int i) {
      const float result = affine(i, accumulators[i / 2 * 4 + 2 * pixel + i % 2]);
      return !kPadded || lane_first() + channel_of(i) < valid ? result : HUGE_VALF;
    };
    Min block[2];
    if constexpr (T::kWithIndices) {
      Fours fours[2];
#pragma unroll
      for (int i = 0; i < kValues; i += 4) {
#pragma unroll
        for (int pixel = 0; pixel < 2; ++pixel) {
          fours[pixel].offer(channel_of(i),
                             {value(pixel, i), value(pixel, i + 1), value(pixel, i + 2), value(pixel, i + 3)});
        }
      }
#pragma unroll
      for (int pixel = 0; pixel < 2; ++pixel) {
        block[pixel].value = fours[pixel].lowest;
        // A thread without a real channel in a padded block offers nothing.
        const bool offers = !kPadded || lane_first() < valid;
        const int channel = fours[pixel].channel({channel_of(0), channel_of(1), channel_of(2), channel_of(3)});
        block[pixel].channel = offers ? first_channel + lane_first() + channel : kNoChannel;
      }
    } else {
#pragma unroll
      for (int i = 0; i < kValues; ++i) {
#pragma unroll
        for (int pixel = 0; pixel < 2; ++pixel) block[pixel].value = ptx::min_nan(block[pixel].value, value(pixel, i));
      }
    }
    best[0].merge(block[0]);
    best[1].merge(block[1]);
  }
};

}  // namespace convmin::sm90
