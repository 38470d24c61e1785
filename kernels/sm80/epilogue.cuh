// Bias, the scale's sign and the minimum over a block of output channels: registers -> quad shuffles -> a running
// minimum per pixel in shared memory. Rounding is monotone, so the minimum of the products is the product of the
// minimum (of the maximum, by the sign, where scale is negative): one multiplication per pixel, when it is written.
#pragma once

#include <cmath>

#include "common/candidate.cuh"
#include "common/load.cuh"
#include "ptx/block_index.cuh"
#include "ptx/minimum.cuh"
#include "sm80/share.cuh"

namespace convmin::sm80 {

struct AfterMultiplication {};

template <typename T>
class Epilogue {
  struct Terms;

 public:
  using Element = typename T::Element;
  using Accumulators = typename Mainloop<T>::Accumulators;
  static constexpr int kValues = 2 * T::kFragmentsN;  // channels of a pixel in a thread

  __device__ __forceinline__ Epilogue(const Params& params, std::uint8_t* shared)
      : Epilogue(params, shared, static_cast<int>(threadIdx.x)) {
    for (int i = static_cast<int>(threadIdx.x); i < T::kWarpsN * T::kTileM; i += T::kThreads) {
      best_[i] = {HUGE_VALF, kNoChannel};
    }
    if constexpr (T::kSpecialized) {
      auto* terms = reinterpret_cast<Terms*>(shared + params.terms);
      for (int k = static_cast<int>(threadIdx.x); k < params.group_blocks * T::kTileN; k += T::kThreads) {
        terms[k] = k < params.group_outputs ? Terms{factor_of(k), bias_of(k)} : Terms{};
      }
    }
  }
  // Of a specialized block: after the multiplications, which leave no registers for it.
  __device__ __forceinline__ Epilogue(const Params& params, std::uint8_t* shared, AfterMultiplication)
      : Epilogue(params, shared, static_cast<int>(ptx::thread_index())) {}

  // Takes a finished block of output channels, counted over all groups, into the running minima. A pixel's is read and
  // written by one thread alone.
  __device__ __forceinline__ void reduce(int block, const Accumulators& accumulators) const {
    const QuotientRemainder at = params_.by_group_blocks.divide(block);
    const int group = static_cast<int>(at.quotient), first_output = static_cast<int>(at.remainder) * T::kTileN;
    const int first = group * params_.group_outputs + first_output + first_;
    const int end = (group + 1) * params_.group_outputs;
    // A padding channel may not even be offered: its weights are zeros, and zero times an infinite input is NaN.
    if (first_output + T::kTileN <= params_.group_outputs) {
      reduce_block<false>(first, end, accumulators);
    } else {
      reduce_block<true>(first, end, accumulators);
    }
  }

  // Every thread of the block must call it.
  __device__ __forceinline__ void write(const Share& share, const BlockTile& tile) const {
    __syncthreads();
    const std::int64_t pixels = pixel_count();
    for (int m = static_cast<int>(threadIdx.x); m < T::kTileM; m += kThreads) {
      const std::int64_t at = tile.output(params_, m);
      if (at < 0) continue;
      Candidate<float> best = best_[m];
#pragma unroll
      for (int i = 1; i < T::kWarpsN; ++i) best.merge(best_[i * T::kTileM + m]);
      if (params_.splits == 1) {
        write_result(at, best);
      } else {
        leave(share.split * pixels + at, best);
      }
    }
    if (params_.splits == 1 || !share.is_last_split(params_)) return;
    for (int m = static_cast<int>(threadIdx.x); m < T::kTileM; m += kThreads) {
      const std::int64_t at = tile.output(params_, m);
      if (at >= 0) write_result(at, of_all_splits(pixels, at));
    }
  }

  // Of a specialized block, by the second of two warps that share pixels, when the first has left its minima. Where
  // blocks share the tile's output channels, the last of their warps that come here for these pixels writes them.
  __device__ __forceinline__ void write_row(unsigned index) const {
    static_assert(T::kWarpsN == 2, "two warps share pixels");
    const BlockTile tile(params_, index);
    const int row = static_cast<int>(ptx::thread_index()) / 32 % T::kWarpsM;
    for (int i = lane_; i < T::kWarpM; i += 32) {
      const int m = row * T::kWarpM + i;
      Candidate<float> best = best_[m];
      best.merge(best_[T::kTileM + m]);
      best_[m] = best_[T::kTileM + m] = {HUGE_VALF, kNoChannel};
      const std::int64_t at = tile.output(params_, m);
      if (at < 0) continue;
      if constexpr (T::kSharesChannels) {
        leave(blockIdx.y * pixel_count() + at, best);
      } else {
        write_result(at, best);
      }
    }
    if constexpr (T::kSharesChannels) {
      __threadfence();
      __syncwarp();
      int before = 0;
      if (lane_ == 0) before = atomicAdd(&params_.counters[index * T::kWarpsM + row], 1);
      if (__shfl_sync(0xffffffffu, before, 0) != params_.splits - 1) return;
      __threadfence();
      for (int i = lane_; i < T::kWarpM; i += 32) {
        const std::int64_t at = tile.output(params_, row * T::kWarpM + i);
        if (at >= 0) write_result(at, of_all_splits(pixel_count(), at));
      }
    }
  }

 private:
  // Fragments of the pixels that are reduced together: fewer take fewer registers, all the terms are read once.
  static constexpr int kTogether = T::kSpecialized ? 2 : T::kFragmentsM;

  // What becomes of a channel's sum. A specialized block has them in shared memory, since its registers don't reach for
  // the loads of many channels at once.
  struct Terms {
    float factor, addend;
  };
  __device__ __forceinline__ float factor_of(int channel) const {
    // Not as read-only: the packing may have written it since this kernel began.
    if constexpr (T::kScaled) return sign_ * params_.channel_factor[channel];
    return sign_;
  }
  __device__ __forceinline__ float bias_of(int channel) const {
    return params_.bias != nullptr
               ? sign_ * Numeric<Element>::widen(load_read_only(static_cast<const Element*>(params_.bias) + channel))
               : 0.0f;
  }
  __device__ __forceinline__ Terms terms_of(int channel) const {
    if constexpr (T::kSpecialized) return terms_[channel];
    return {factor_of(channel), bias_of(channel)};
  }

  __device__ __forceinline__ Epilogue(const Params& params, std::uint8_t* shared, int thread)
      : params_(params),
        best_(reinterpret_cast<Candidate<float>*>(shared + params.best)),
        terms_(reinterpret_cast<const Terms*>(shared + params.terms)),
        sign_(params.scale < 0 ? -1.0f : 1.0f) {
    const int warp = thread / 32;
    lane_ = thread % 32;
    mine_ = best_ + warp / T::kWarpsM * T::kTileM + warp % T::kWarpsM * T::kWarpM;
    first_ = warp / T::kWarpsM * T::kWarpN + lane_ % 4 * 2;
  }

  __device__ __forceinline__ void write_result(std::int64_t at, const Candidate<float>& best) const {
    static_cast<Element*>(params_.values)[at] = Numeric<Element>::round(best.value * fabsf(params_.scale));
    if (params_.indices != nullptr) write_index(params_.indices, params_.index_type, at, best.channel);
  }

  __device__ __forceinline__ std::int64_t pixel_count() const {
    return static_cast<std::int64_t>(params_.rows) * params_.ow;
  }
  // Where blocks share output channels: what one of them has of a pixel, and the minimum of what all have left.
  __device__ __forceinline__ void leave(std::int64_t place, const Candidate<float>& best) const {
    params_.split_values[place] = best.value;
    params_.split_channels[place] = best.channel;
  }
  __device__ __forceinline__ Candidate<float> of_all_splits(std::int64_t pixels, std::int64_t at) const {
    Candidate<float> best{HUGE_VALF, kNoChannel};
    for (int split = 0; split < params_.splits; ++split) {
      best.merge(
          {__ldcg(&params_.split_values[split * pixels + at]), __ldcg(&params_.split_channels[split * pixels + at])});
    }
    return best;
  }

  // A thread's channels of a block, in order: 0, 1, 8, 9, 16, ...
  static __device__ __forceinline__ constexpr int channel_of(int i) { return i / 2 * 8 + i % 2; }

  template <bool kPadded>
  __device__ __forceinline__ void reduce_block(int first, int end, const Accumulators& accumulators) const {
#pragma unroll
    for (int m = 0; m < T::kFragmentsM; m += kTogether) reduce_fragments<kPadded>(first, end, accumulators, m);
  }

  // Of the pixels, kTogether from this one on.
  template <bool kPadded>
  __device__ __forceinline__ void reduce_fragments(int first, int end, const Accumulators& accumulators,
                                                   int first_m) const {
    constexpr int kPixels = 2 * kTogether;  // in a thread
    Candidate<float>* const mine = mine_ + first_m * 16;
    // Calls visit(p, value of pixel p) for channel_of(i).
    const auto for_each_pixel = [&](int i, auto&& visit) {
      const int channel = first + channel_of(i);
      if (kPadded && channel >= end) return;
      const Terms terms = terms_of(channel);
#pragma unroll
      for (int p = 0; p < kPixels; ++p) {
        visit(p, fmaf(accumulators[first_m + p / 2][i / 2][p % 2 * 2 + i % 2], terms.factor, terms.addend));
      }
    };
    Candidate<float> best[kPixels];
#pragma unroll
    for (Candidate<float>& candidate : best) candidate = {HUGE_VALF, 0};
    if (params_.indices == nullptr) {
#pragma unroll
      for (int i = 0; i < kValues; ++i) {
        for_each_pixel(i, [&](int p, float value) { best[p].value = ptx::min_nan(best[p].value, value); });
      }
#pragma unroll
      for (int p = 0; p < kPixels; p += 4) {
        reduce_quad(&best[p], [](Candidate<float>& to, const Candidate<float>& other, int mask) {
          to.value = ptx::min_nan(to.value, __shfl_xor_sync(0xffffffffu, other.value, mask));
        });
        float& running = mine[(p + lane_ % 4) * 8 + lane_ / 4].value;
        running = ptx::min_nan(running, best[p].value);
      }
      return;
    }
    // Comparisons with NaN are false, so a NaN sets the value and stays, and leaves the channel to a second pass.
    bool any_nan = false;
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      for_each_pixel(i, [&](int p, float value) {
        best[p].channel = value < best[p].value ? i : best[p].channel;
        best[p].value = ptx::min_nan(best[p].value, value);
      });
    }
#pragma unroll
    for (const Candidate<float>& candidate : best) any_nan |= isnan(candidate.value);
    if (any_nan) {
#pragma unroll
      for (int i = kValues - 1; i >= 0; --i) {
        const int channel = first + channel_of(i);
        if (kPadded && channel >= end) continue;
        const float bias = terms_of(channel).addend;
#pragma unroll
        for (int p = 0; p < kPixels; ++p) {  // the factor makes no NaN, and would take registers
          const float sum = fmaf(accumulators[first_m + p / 2][i / 2][p % 2 * 2 + i % 2], sign_, bias);
          best[p].channel = isnan(sum) ? i : best[p].channel;
        }
      }
    }
#pragma unroll
    for (Candidate<float>& candidate : best) {
      // A thread without a real channel in a padded block offers nothing.
      candidate.channel = !kPadded || first < end ? first + channel_of(candidate.channel) : kNoChannel;
    }
#pragma unroll
    for (int p = 0; p < kPixels; p += 4) {
      reduce_quad(&best[p], [](Candidate<float>& to, const Candidate<float>& other, int mask) {
        to.merge({__shfl_xor_sync(0xffffffffu, other.value, mask), __shfl_xor_sync(0xffffffffu, other.channel, mask)});
      });
      Candidate<float>& running = mine[(p + lane_ % 4) * 8 + lane_ / 4];
      best[p].merge(running);
      running = best[p];
    }
  }

  // A quad's lanes have parts of the same four pixels. They exchange them, halves and then single ones, until each lane
  // has one, as the first. merge(to, other, mask) merges what the lane under the mask has of `other`.
  template <typename Merge>
  __device__ __forceinline__ void reduce_quad(Candidate<float>* pixels, Merge&& merge) const {
    const auto swap_if = [](bool condition, Candidate<float>& a, Candidate<float>& b) {
      const Candidate<float> before = a;  // by values: a choice of objects would put them in memory
      if (condition) a = b, b = before;
    };
    swap_if(lane_ & 2, pixels[0], pixels[2]);
    swap_if(lane_ & 2, pixels[1], pixels[3]);
    merge(pixels[0], pixels[2], 2);
    merge(pixels[1], pixels[3], 2);
    swap_if(lane_ & 1, pixels[0], pixels[1]);
    merge(pixels[0], pixels[1], 1);
  }

  const Params& params_;
  Candidate<float>* const best_;
  Candidate<float>* mine_;
  const Terms* const terms_;
  const float sign_;
  int lane_, first_;
};

}  // namespace convmin::sm80
