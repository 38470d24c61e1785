// Bias, the scale's sign and the minimum over a block of output channels: registers -> quad shuffles -> a running
// minimum per pixel in shared memory. Rounding is monotone, so the minimum of the products is the product of the
// minimum (of the maximum, by the sign, where scale is negative): one multiplication per pixel, when it is written.
#pragma once

#include <cmath>

#include "common/candidate.cuh"
#include "common/load.cuh"
#include "ptx/minimum.cuh"
#include "sm80/share.cuh"

namespace convmin::sm80 {

template <typename T>
class Epilogue {
 public:
  using Element = typename T::Element;
  using Accumulators = typename Mainloop<T>::Accumulators;
  static constexpr int kValues = 2 * T::kFragmentsN;  // channels of a pixel in a thread

  __device__ __forceinline__ Epilogue(const Params& params, std::uint8_t* shared)
      : params_(params),
        best_(reinterpret_cast<Candidate<float>*>(shared + params.best)),
        sign_(params.scale < 0 ? -1.0f : 1.0f) {
    const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
    lane_ = thread % 32;
    mine_ = best_ + warp / T::kWarpsM * T::kTileM + warp % T::kWarpsM * T::kWarpM;
    first_ = warp / T::kWarpsM * T::kWarpN + lane_ % 4 * 2;
    for (int i = thread; i < T::kWarpsN * T::kTileM; i += kThreads) best_[i] = {HUGE_VALF, kNoChannel};
  }

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
    const std::int64_t pixels = static_cast<std::int64_t>(params_.rows) * params_.ow;
    for (int m = static_cast<int>(threadIdx.x); m < T::kTileM; m += kThreads) {
      const std::int64_t at = tile.output(params_, m);
      if (at < 0) continue;
      Candidate<float> best = best_[m];
#pragma unroll
      for (int i = 1; i < T::kWarpsN; ++i) best.merge(best_[i * T::kTileM + m]);
      if (params_.splits == 1) {
        write_result(at, best);
      } else {
        params_.split_values[share.split * pixels + at] = best.value;
        params_.split_channels[share.split * pixels + at] = best.channel;
      }
    }
    if (params_.splits == 1 || !share.is_last_split(params_)) return;
    for (int m = static_cast<int>(threadIdx.x); m < T::kTileM; m += kThreads) {
      const std::int64_t at = tile.output(params_, m);
      if (at < 0) continue;
      Candidate<float> best{HUGE_VALF, kNoChannel};
      for (int split = 0; split < params_.splits; ++split) {
        best.merge(
            {__ldcg(&params_.split_values[split * pixels + at]), __ldcg(&params_.split_channels[split * pixels + at])});
      }
      write_result(at, best);
    }
  }

 private:
  __device__ __forceinline__ void write_result(std::int64_t at, const Candidate<float>& best) const {
    static_cast<Element*>(params_.values)[at] = Numeric<Element>::round(best.value * fabsf(params_.scale));
    if (params_.indices != nullptr) write_index(params_.indices, params_.index_type, at, best.channel);
  }

  // A thread's channels of a block, in order: 0, 1, 8, 9, 16, ...
  static __device__ __forceinline__ constexpr int channel_of(int i) { return i / 2 * 8 + i % 2; }

  template <bool kPadded>
  __device__ __forceinline__ void reduce_block(int first, int end, const Accumulators& accumulators) const {
    constexpr int kPixels = 2 * T::kFragmentsM;  // in a thread
    const auto bias_of = [&](int channel) {
      return params_.bias != nullptr
                 ? sign_ * Numeric<Element>::widen(load_read_only(static_cast<const Element*>(params_.bias) + channel))
                 : 0.0f;
    };
    // Calls visit(p, value of pixel p) for channel_of(i).
    const auto for_each_pixel = [&](int i, auto&& visit) {
      const int channel = first + channel_of(i);
      if (kPadded && channel >= end) return;
      float factor = sign_;
      if constexpr (T::kScaled) factor *= __ldg(&params_.channel_factor[channel]);
      const float bias = bias_of(channel);
#pragma unroll
      for (int p = 0; p < kPixels; ++p) {
        visit(p, fmaf(accumulators[p / 2][i / 2][p % 2 * 2 + i % 2], factor, bias));
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
      for (int p = 0; p < kPixels; ++p) {
        float value = best[p].value;
        value = ptx::min_nan(value, __shfl_xor_sync(0xffffffffu, value, 1));
        value = ptx::min_nan(value, __shfl_xor_sync(0xffffffffu, value, 2));
        Candidate<float>& running = mine_[p * 8 + lane_ / 4];
        if (lane_ % 4 == 0) running.value = ptx::min_nan(running.value, value);
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
        const float bias = bias_of(channel);
#pragma unroll
        for (int p = 0; p < kPixels; ++p) {  // the factor makes no NaN, and would take registers
          const float sum = fmaf(accumulators[p / 2][i / 2][p % 2 * 2 + i % 2], sign_, bias);
          best[p].channel = isnan(sum) ? i : best[p].channel;
        }
      }
    }
#pragma unroll
    for (int p = 0; p < kPixels; ++p) {
      // A thread without a real channel in a padded block offers nothing.
      best[p].channel = !kPadded || first < end ? first + channel_of(best[p].channel) : kNoChannel;
      warp_min<4>(best[p]);
      Candidate<float>& running = mine_[p * 8 + lane_ / 4];
      if (lane_ % 4 == 0) {
        best[p].merge(running);
        running = best[p];
      }
    }
  }

  const Params& params_;
  Candidate<float>* const best_;
  Candidate<float>* mine_;
  const float sign_;
  int lane_, first_;
};

}  // namespace convmin::sm80
