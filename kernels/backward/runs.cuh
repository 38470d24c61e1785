// What the kernels of kRuns share: how columns are numbered, and the way out of a finished sum.
#pragma once

#include "backward/read.cuh"

namespace convmin::backward {

// A column of the unfolded input: its channel of the group, and its tap.
struct Column {
  int channel, r, s;
};
__device__ __forceinline__ Column column_at(const Params& params, int column) {
  const int taps = params.r * params.s;
  const int channel = params.channel_fastest ? column % params.tap_width : column / taps;
  const int tap = params.channel_fastest ? column / params.tap_width : column % taps;
  return {channel, tap / params.s, tap % params.s};
}

__device__ __forceinline__ std::int64_t grad_weight_place(const Params& params, const Column& column) {
  return column.channel * params.grad_weight_stride_c + column.r * params.grad_weight_stride_r +
         column.s * params.grad_weight_stride_s;
}

// A slice's sum of a column of channel k: rounded once, when the slices before it are in it.
template <typename Element>
__device__ __forceinline__ void deliver(const Params& params, std::int64_t k, int column, std::int64_t place,
                                        typename Numeric<Element>::Accum sum) {
  if (params.totals != nullptr) {
    auto* total = static_cast<typename Numeric<Element>::Accum*>(params.totals) + k * params.columns + column;
    if (!params.first_slice) sum += *total;
    *total = sum;
    if (!params.last_slice) return;
  }
  static_cast<Element*>(params.grad_weight)[k * params.grad_weight_stride_k + place] = Numeric<Element>::round(sum);
}

template <typename Element>
__device__ __forceinline__ void deliver_bias(const Params& params, std::int64_t k, double sum) {
  if (params.bias_totals != nullptr) {
    if (!params.first_slice) sum += params.bias_totals[k];
    params.bias_totals[k] = sum;
    if (!params.last_slice) return;
  }
  static_cast<Element*>(params.grad_bias)[k] =
      Numeric<Element>::round(static_cast<typename Numeric<Element>::Accum>(sum));
}

}  // namespace convmin::backward
