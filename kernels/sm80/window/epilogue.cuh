// Bias, the scale's sign and the running minimum of each pixel, in registers over all output channels; then two
// shuffles. Rounding is monotone, so the minimum of the products is the product of the minimum (of the maximum, by the
// sign, where scale is negative): one multiplication per pixel, when it is written.
#pragma once

#include <cmath>

#include "common/candidate.cuh"
#include "ptx/minimum.cuh"
#include "sm80/window/mainloop.cuh"
#include "sm80/window/producer.cuh"

namespace convmin::sm80::window {

template <typename T>
class Epilogue {
 public:
  using Element = typename T::Element;

  __device__ __forceinline__ Epilogue(const Params& params, const char* shared)
      : params_(params),
        addends_(reinterpret_cast<const float2*>(shared + params.addends) + threadIdx.x % 4),
        sign_(params.scale < 0 ? -1.0f : 1.0f) {}

  __device__ __forceinline__ void begin() {
    // Starting from the thread's first channel, not from none, gives +inf an index where every value is +inf.
#pragma unroll
    for (Candidate<float>& best : best_) best = {HUGE_VALF, static_cast<int>(threadIdx.x) % 4 * 2};
  }

  __device__ __forceinline__ void reduce(int pass, const typename Mainloop<T>::Accumulators& sums) {
    if (params_.indices == nullptr) {
      reduce<false>(pass, sums);
    } else {
      reduce<true>(pass, sums);
    }
  }

  // Each of a pixel's four lanes has then one of its four pixels to write.
  __device__ __forceinline__ void write(const Tile& tile) {
    const Candidate<float> mine = params_.indices == nullptr ? combine<false>() : combine<true>();
    const auto thread = static_cast<int>(threadIdx.x);
    const int m = thread / 32 * 32 + thread % 4 * 8 + thread % 32 / 4;
    const int oh = tile.oh + (m >> params_.log_columns), ow = tile.ow + (m & (params_.tile_columns - 1));
    if (oh >= params_.oh || ow >= params_.ow) return;
    const std::int64_t at = (static_cast<std::int64_t>(tile.n) * params_.oh + oh) * params_.ow + ow;
    static_cast<Element*>(params_.values)[at] = Numeric<Element>::round(mine.value * fabsf(params_.scale));
    if (params_.indices != nullptr) write_index(params_.indices, params_.index_type, at, mine.channel);
  }

 private:
  template <bool kIndexed>
  __device__ __forceinline__ void reduce(int pass, const typename Mainloop<T>::Accumulators& sums) {
#pragma unroll
    for (int i = 0; i < 2 * T::kPairs; ++i) {
      const float2 addend = addends_[(pass * T::kWidth + i * 8) / 2];
      const int channel = pass * T::kWidth + i * 8 + static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
      for (int p = 0; p < T::kPixels; ++p) {
        const float first = fmaf(sums[p / 2][i][p % 2 * 2], sign_, addend.x);
        const float second = fmaf(sums[p / 2][i][p % 2 * 2 + 1], sign_, addend.y);
        if constexpr (kIndexed) {
          best_[p].offer_ascending(first, channel);
          best_[p].offer_ascending(second, channel + 1);
        } else {
          best_[p].value = ptx::min_nan(best_[p].value, ptx::min_nan(first, second));
        }
      }
    }
  }

  template <bool kIndexed>
  __device__ __forceinline__ Candidate<float> combine() {
    Candidate<float> mine{};
#pragma unroll
    for (int p = 0; p < T::kPixels; ++p) {
      if constexpr (kIndexed) {
        warp_min<4>(best_[p]);
      } else {
#pragma unroll
        for (int offset = 1; offset < 4; offset *= 2) {
          best_[p].value = ptx::min_nan(best_[p].value, __shfl_xor_sync(0xffffffffu, best_[p].value, offset));
        }
      }
      if (static_cast<int>(threadIdx.x) % 4 == p) mine = best_[p];
    }
    return mine;
  }

  const Params& params_;
  const float2* const addends_;
  const float sign_;
  Candidate<float> best_[T::kPixels];
};

}  // namespace convmin::sm80::window
