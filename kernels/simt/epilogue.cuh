// Bias, scale and the minimum over channels: registers -> warp shuffles -> shared memory -> one store per pixel.
#pragma once

#include <cmath>

#include "common/candidate.cuh"
#include "simt/mainloop.cuh"

namespace convmin::simt {

template <typename Element, typename Accum>
__device__ __forceinline__ void write_result(const Params& params, std::int64_t pixel, const Candidate<Accum>& best) {
  static_cast<Element*>(params.values)[pixel] = Numeric<Element>::round(best.value);
  if (params.indices != nullptr) write_index(params.indices, params.index_type, pixel, best.channel);
}

template <typename Accum>
__device__ __forceinline__ Candidate<Accum> no_candidate() {
  return {static_cast<Accum>(HUGE_VALF), kNoChannel};
}

template <typename T>
class Epilogue {
 public:
  using Element = typename T::Element;
  using Accum = typename T::Accum;

  __device__ __forceinline__ Epilogue(const Params& params, SharedStorage<T>& shared, const ThreadTile<T>& tile)
      : params_(params), shared_(shared), tile_(tile) {
    if (tile_.lane_n != 0) return;
#pragma unroll
    for (int i = 0; i < T::kThreadM; ++i) put(tile_.m(i), no_candidate<Accum>());
  }

  // Takes one finished block of output channels into the running minima. They wait in shared memory, where only the
  // thread that reads them writes them, since the mainloop has use for every register.
  __device__ __forceinline__ void reduce(const typename Mainloop<T>::Accumulators& accumulators, int group,
                                         int first_output) {
    const int first_channel = group * params_.group_outputs + first_output;
    const int outputs = params_.group_outputs - first_output;  // at most kTileN of them count
    const auto scale = static_cast<Accum>(params_.scale);
    Accum bias[T::kThreadN];
#pragma unroll
    for (int j = 0; j < T::kThreadN; ++j) {
      const int n = tile_.n(j);
      bias[j] = params_.bias != nullptr && n < outputs
                    ? Numeric<Element>::widen(static_cast<const Element*>(params_.bias)[first_channel + n])
                    : Accum{0};
    }
#pragma unroll
    for (int i = 0; i < T::kThreadM; ++i) {
      // Starting from the thread's first channel, not from none, gives +inf an index where every value is +inf.
      Candidate<Accum> best = no_candidate<Accum>();
      if (tile_.n(0) < outputs) best.channel = first_channel + tile_.n(0);
#pragma unroll
      for (int j = 0; j < T::kThreadN; ++j) {
        const int n = tile_.n(j);
        // Sum, then product: scale may be infinite or NaN, and folding it into the bias would differ then.
        if (n < outputs) best.offer_ascending((accumulators[i][j] + bias[j]) * scale, first_channel + n);
      }
      warp_min<T::kLanesN>(best);
      if (tile_.lane_n == 0) {
        best.merge(get(tile_.warp_n, tile_.m(i)));
        put(tile_.m(i), best);
      }
    }
  }

  // Every thread of the block must call it.
  __device__ __forceinline__ void write(std::int64_t first_pixel, int split) const {
    __syncthreads();
    const auto m = static_cast<int>(threadIdx.x);
    const std::int64_t pixel = first_pixel + m;
    if (m >= T::kTileM || pixel >= params_.pixels) return;
    Candidate<Accum> best = get(0, m);
#pragma unroll
    for (int warp_n = 1; warp_n < T::kWarpsN; ++warp_n) best.merge(get(warp_n, m));
    if (params_.splits == 1) {
      write_result<Element>(params_, pixel, best);
    } else {
      const std::int64_t at = split * params_.pixels + pixel;
      static_cast<Accum*>(params_.split_values)[at] = best.value;
      params_.split_channels[at] = best.channel;
    }
  }

 private:
  __device__ __forceinline__ Candidate<Accum> get(int warp_n, int m) const {
    return {shared_.best_value[warp_n][m], shared_.best_channel[warp_n][m]};
  }
  __device__ __forceinline__ void put(int m, const Candidate<Accum>& best) {
    shared_.best_value[tile_.warp_n][m] = best.value;
    shared_.best_channel[tile_.warp_n][m] = best.channel;
  }

  const Params& params_;
  SharedStorage<T>& shared_;
  const ThreadTile<T>& tile_;
};

// The second launch where output channels are split: the minimum over the splits of each pixel.
template <typename Element>
__global__ void conv_scale_min_simt_combine(const __grid_constant__ Params params) {
  using Accum = typename Numeric<Element>::Accum;
  const std::int64_t pixel = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (pixel >= params.pixels) return;
  Candidate<Accum> best = no_candidate<Accum>();
  for (int split = 0; split < params.splits; ++split) {
    const std::int64_t at = split * params.pixels + pixel;
    best.merge({static_cast<const Accum*>(params.split_values)[at], params.split_channels[at]});
  }
  write_result<Element>(params, pixel, best);
}

}  // namespace convmin::simt
