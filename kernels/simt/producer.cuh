// Fills the shared-memory tiles: global memory -> registers (fetch), registers -> shared memory (store), so that the
// loads of step i + 1 are in flight while step i is multiplied.
#pragma once

#include "common/load.cuh"
#include "simt/params.h"
#include "simt/traits.h"

namespace convmin::simt {

template <typename T>
class Producer {
 public:
  using Element = typename T::Element;
  using Accum = typename T::Accum;

  __device__ __forceinline__ Producer(const Params& params, SharedStorage<T>& shared)
      : params_(params), shared_(shared), thread_(static_cast<int>(threadIdx.x)) {}

  // Once per block: where each of the tile's pixels has its window.
  __device__ __forceinline__ void locate_pixels(std::int64_t first_pixel) {
    if (thread_ >= T::kTileM) return;
    const std::int64_t m = first_pixel + thread_;
    Pixel pixel{0, kOutsidePixel, kOutsidePixel};
    if (m < params_.pixels) {
      const std::int64_t row = m / params_.ow;
      const int ow = static_cast<int>(m - row * params_.ow);
      const std::int64_t n = row / params_.oh;
      const int oh = static_cast<int>(row - n * params_.oh);
      pixel.ih = oh * params_.stride_h - params_.padding_h;
      pixel.iw = ow * params_.stride_w - params_.padding_w;
      pixel.offset = kElementSize * (n * params_.input_stride_n + pixel.ih * params_.input_stride_h +
                                     pixel.iw * params_.input_stride_w);
    }
    shared_.pixels[thread_] = pixel;
  }

  // Selects the group and the block of output channels that the following steps read.
  __device__ __forceinline__ void select(int group, int first_output) {
    input_ = static_cast<const char*>(params_.input) +
             kElementSize * group * params_.group_channels * params_.input_stride_c;
    // The tile's rows are packed_outputs apart; this thread reads one vector of one row.
    const int row = thread_ / kRowVectors, column = thread_ % kRowVectors * T::kMaxVector;
    weight_ = static_cast<const Accum*>(params_.packed_weight) +
              (static_cast<std::int64_t>(group) * params_.packed_reduction + row) * params_.packed_outputs +
              first_output + column;
  }

  // One warp, another each step, locates the taps of a step for all threads.
  __device__ __forceinline__ void locate_taps(int step) {
    const int lane = thread_ % 32;
    if (thread_ / 32 != step % T::kWarps || lane >= T::kTileK) return;
    const int index = step * T::kTileK + lane;
    Tap tap{0, kOutsideTap, kOutsideTap};
    if (index < params_.reduction) {
      const ReductionIndex at = decompose(params_, index);
      tap.dh = at.r * params_.dilation_h;
      tap.dw = at.s * params_.dilation_w;
      tap.offset = kElementSize * (at.channel * params_.input_stride_c + tap.dh * params_.input_stride_h +
                                   tap.dw * params_.input_stride_w);
    }
    shared_.taps[step % 2][lane] = tap;
  }

  // Steps are fetched in order, from 0.
  __device__ __forceinline__ void fetch(int step) {
    const Tap* taps = shared_.taps[step % 2];
#pragma unroll
    for (int i = 0; i < T::kInputLoads; ++i) {
      const Pixel pixel = shared_.pixels[input_m(i)];
      const Tap tap = taps[input_k(i)];
      const bool inside =
          static_cast<unsigned>(pixel.ih) + static_cast<unsigned>(tap.dh) < static_cast<unsigned>(params_.h) &&
          static_cast<unsigned>(pixel.iw) + static_cast<unsigned>(tap.dw) < static_cast<unsigned>(params_.w);
      const auto* source = reinterpret_cast<const Element*>(input_ + pixel.offset + tap.offset);
      input_stage_[i] = inside ? load_read_only(source) : Element{};
    }
    if (thread_ < T::kWeightVectors) {
      weight_stage_ = *reinterpret_cast<const WeightVector*>(weight_);
      weight_ += T::kTileK * params_.packed_outputs;
    }
  }

  __device__ __forceinline__ void store(int step) {
#pragma unroll
    for (int i = 0; i < T::kInputLoads; ++i) {
      shared_.input[step % 2][input_k(i)][input_m(i)] = Numeric<Element>::widen(input_stage_[i]);
    }
    if (thread_ < T::kWeightVectors) {
      auto* rows = reinterpret_cast<WeightVector*>(&shared_.weight[step % 2][0][0]);
      rows[thread_] = weight_stage_;
    }
  }

 private:
  using WeightVector = Vector<Accum, T::kMaxVector>;
  static constexpr int kRowVectors = T::kTileN / T::kMaxVector;
  static constexpr std::int64_t kElementSize = sizeof(Element);

  // The tile's element that this thread's i-th load brings: neighbouring lanes walk pixels or reduction elements.
  __device__ __forceinline__ int input_m(int i) const {
    return T::kGather == Gather::kPixels ? thread_ % T::kTileM : thread_ / T::kTileK + i * (T::kThreads / T::kTileK);
  }
  __device__ __forceinline__ int input_k(int i) const {
    return T::kGather == Gather::kPixels ? thread_ / T::kTileM + i * (T::kThreads / T::kTileM) : thread_ % T::kTileK;
  }

  const Params& params_;
  SharedStorage<T>& shared_;
  const int thread_;
  const char* input_ = nullptr;
  const Accum* weight_ = nullptr;
  Element input_stage_[T::kInputLoads];
  WeightVector weight_stage_;
};

}  // namespace convmin::simt
