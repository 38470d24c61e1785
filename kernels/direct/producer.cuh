// Where a thread's pixels have their windows, loads with zeros outside the image, and the weight in shared memory.
#pragma once

#include "common/load.cuh"
#include "direct/params.h"
#include "direct/traits.h"
#include "ptx/prefetch.cuh"

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

// The weight's elements in the order in which they lie, and where each is in shared memory. With groups, its row is its
// input channel of the group and its tap; without, its output channel and its tap.
template <typename T>
struct WeightElement {
  using Element = typename T::Element;
  const Element* source;
  int target;

  __device__ __forceinline__ WeightElement(const Params& params, int index) {
    const QuotientRemainder inner = params.by_weight_inner.divide(index);
    const QuotientRemainder middle = params.by_weight_middle.divide(inner.quotient);
    const std::uint32_t k = middle.quotient;
    const std::uint32_t channel = params.weight_channels_inside ? inner.remainder : middle.remainder;
    const std::uint32_t tap = params.weight_channels_inside ? middle.remainder : inner.remainder;
    const QuotientRemainder rs = params.by_s.divide(tap);
    source = static_cast<const Element*>(params.weight) + k * params.weight_stride_k +
             channel * params.weight_stride_c + rs.quotient * params.weight_stride_r +
             rs.remainder * params.weight_stride_s;
    const auto row = static_cast<int>((T::kGrouped ? channel : k) * params.r * params.s + tap);
    const auto column = static_cast<int>(T::kGrouped ? k : channel);
    target = row * params.weight_pitch + column * static_cast<int>(sizeof(Element));
  }
};

// Has the L2 cache fetch the weight, and what lies under the run: of the thread's channels the middle of each window's
// rows, where neighbours have the rest. Waiting for the weight is then waiting for all of it.
template <typename T>
__device__ __forceinline__ void prefetch_run(const Params& params, const Run& run, int slot) {
  constexpr int kLine = 128 / static_cast<int>(sizeof(typename T::Element));
  for (int first = static_cast<int>(threadIdx.x) * kLine; first < params.weight_count; first += kThreads * kLine) {
    ptx::prefetch_l2(WeightElement<T>(params, first).source);
  }
  const int below = params.r / 2 * params.dilation_h, right = params.s / 2 * params.dilation_w;
  if (static_cast<unsigned>(run.iw + right) >= static_cast<unsigned>(params.w)) return;
  const int groups = static_cast<int>(params.by_group_outputs.divide(params.outputs).quotient);
  const int vectors = groups * params.group_channels / T::kVector;
  const char* row = run.input + below * params.input_stride_h + right * params.input_stride_w;
  for (int p = 0; p < T::kRows; ++p, row += params.stride_h * params.input_stride_h) {
    for (int i = 0; i < min(params.stride_h, params.r); ++i) {
      if (static_cast<unsigned>(run.ih + below + p * params.stride_h + i) >= static_cast<unsigned>(params.h)) continue;
      for (int vector = slot; vector < vectors; vector += params.slots) {
        ptx::prefetch_l2(row + i * params.input_stride_h + vector * T::kVector * params.input_stride_c);
      }
    }
  }
}

// Every thread of the block must call it. Elements are read in the order in which they lie, several at a time.
template <typename T>
__device__ __forceinline__ void stage_weight(const Params& params, char* shared) {
  using Element = typename T::Element;
  constexpr int kTogether = 8;
  for (int first = static_cast<int>(threadIdx.x); first < params.weight_count; first += kTogether * kThreads) {
    Element values[kTogether];
    int targets[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const WeightElement<T> element(params, min(first + i * kThreads, params.weight_count - 1));
      values[i] = load_read_only(element.source);
      targets[i] = element.target;
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (first + i * kThreads < params.weight_count) *reinterpret_cast<Element*>(shared + targets[i]) = values[i];
    }
  }
  if constexpr (T::kGrouped) {
    const int rows = params.group_channels * params.r * params.s;
    auto* const row = reinterpret_cast<Element*>(shared + rows * params.weight_pitch);
    for (int k = static_cast<int>(threadIdx.x); k < params.outputs; k += kThreads) {
      row[k] = params.bias != nullptr ? load_read_only(static_cast<const Element*>(params.bias) + k) : Element{};
    }
  }
  __syncthreads();
}

}  // namespace convmin::direct
