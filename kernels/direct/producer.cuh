// Where a thread's pixels have their windows, loads with zeros outside the image, and the weight in shared memory.
#pragma once

#include "common/load.cuh"
#include "direct/params.h"
#include "direct/traits.h"

namespace convmin::direct {

// A column of output pixels, and the corner of the first one's window.
struct Run {
  const char* input;     // the corner, which padding may put outside the image
  int ih, iw;            // its coordinates
  std::int64_t pixel;    // the first output
  int pixels;            // how many there are
  unsigned inside_rows;  // of the input rows below the corner, where a kernel's rows are known: one bit each
};

// Fails every bounds check: extents are below 2^30 (plan() sees to it).
inline constexpr int kOutside = -0x7fffffff - 1;

template <typename T>
__device__ __forceinline__ Run locate(const Params& params, int index) {
  Run run{static_cast<const char*>(params.input), kOutside, kOutside, 0, 0, 0};
  if (index >= params.runs) return run;
  const QuotientRemainder column = params.by_ow.divide(index);
  const QuotientRemainder row = params.by_run_rows.divide(column.quotient);
  const int ow = static_cast<int>(column.remainder), oh = static_cast<int>(row.remainder) * T::kRows;
  const auto n = static_cast<std::int64_t>(row.quotient);
  run.ih = oh * params.stride_h - params.padding_h;
  run.iw = ow * params.stride_w - params.padding_w;
  run.input += n * params.input_stride_n + run.ih * params.input_stride_h + run.iw * params.input_stride_w;
  run.pixel = (n * params.oh + oh) * params.ow + ow;
  run.pixels = min(T::kRows, params.oh - oh);
  if constexpr (T::kWindow > 0) {
#pragma unroll
    for (int i = 0; i < T::kInputRows; ++i) {
      if (static_cast<unsigned>(run.ih + i) < static_cast<unsigned>(params.h)) run.inside_rows |= 1u << i;
    }
  }
  return run;
}

template <typename T>
__device__ __forceinline__ Vector<T> load(const char* source, bool inside) {
  Vector<T> result;
  if constexpr (T::kVector == 1) {
    result.values[0] =
        inside ? load_read_only(reinterpret_cast<const typename T::Element*>(source)) : typename T::Element{};
  } else {
    static_assert(sizeof(Vector<T>) == sizeof(uint4), "one load");
    uint4 bits = make_uint4(0, 0, 0, 0);
    if (inside) bits = __ldg(reinterpret_cast<const uint4*>(source));
    result = *reinterpret_cast<const Vector<T>*>(&bits);
  }
  return result;
}

// The weight's vector of `row`, at a channel that `column` starts from.
template <typename T>
__device__ __forceinline__ Vector<T> load_weight(const Params& params, const char* column, int row) {
  return *reinterpret_cast<const Vector<T>*>(column + row * params.weight_pitch);
}

// Every thread of the block must call it. Elements are read in the order in which they lie, several at a time. With
// groups, the row of an element is its input channel of the group and its tap; without, its output channel and its tap.
template <typename T>
__device__ __forceinline__ void stage_weight(const Params& params, char* shared) {
  using Element = typename T::Element;
  constexpr int kTogether = 8;
  const int taps = params.r * params.s;
  for (int first = static_cast<int>(threadIdx.x); first < params.weight_count; first += kTogether * kThreads) {
    Element values[kTogether];
    int targets[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int e = min(first + i * kThreads, params.weight_count - 1);
      const QuotientRemainder inner = params.by_weight_inner.divide(e);
      const QuotientRemainder middle = params.by_weight_middle.divide(inner.quotient);
      const std::uint32_t k = middle.quotient;
      const std::uint32_t channel = params.weight_channels_inside ? inner.remainder : middle.remainder;
      const std::uint32_t tap = params.weight_channels_inside ? middle.remainder : inner.remainder;
      const QuotientRemainder rs = params.by_s.divide(tap);
      values[i] = load_read_only(static_cast<const Element*>(params.weight) + k * params.weight_stride_k +
                                 channel * params.weight_stride_c + rs.quotient * params.weight_stride_r +
                                 rs.remainder * params.weight_stride_s);
      const auto row = static_cast<int>((T::kGrouped ? channel : k) * taps + tap);
      const auto column = static_cast<int>(T::kGrouped ? k : channel);
      targets[i] = row * params.weight_pitch + column * static_cast<int>(sizeof(Element));
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (first + i * kThreads < params.weight_count) *reinterpret_cast<Element*>(shared + targets[i]) = values[i];
    }
  }
  if constexpr (T::kGrouped) {
    auto* const row = reinterpret_cast<Element*>(shared + params.group_channels * taps * params.weight_pitch);
    for (int k = static_cast<int>(threadIdx.x); k < params.outputs; k += kThreads) {
      row[k] = params.bias != nullptr ? load_read_only(static_cast<const Element*>(params.bias) + k) : Element{};
    }
  }
  __syncthreads();
}

}  // namespace convmin::direct
