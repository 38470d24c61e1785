// Sums in registers: of whole output channels where there are groups, of a part of the input channels where not.
#pragma once

#include "direct/producer.cuh"

namespace convmin::direct {

template <typename T, int kColumns>
using Sums = float[T::kRows][kColumns];

template <typename T, int kColumns>
__device__ __forceinline__ void clear(Sums<T, kColumns>& sums) {
#pragma unroll
  for (int p = 0; p < T::kRows; ++p)
#pragma unroll
    for (int i = 0; i < kColumns; ++i) sums[p][i] = 0.0f;
}

// Channel by channel, for a vector of them.
template <typename T>
__device__ __forceinline__ void multiply(const Vector<T>& x, const Vector<T>& weight, float (&sums)[T::kVector]) {
  using N = Numeric<typename T::Element>;
#pragma unroll
  for (int v = 0; v < T::kVector; ++v) sums[v] += N::widen(x.values[v]) * N::widen(weight.values[v]);
}

// A window's columns in turn; the input's rows of a column are loaded once for all of the run's pixels. Of a square
// window the loads of several columns are in flight at once. Calls add(pixel, filter, x, weight) with what
// weight_of(filter, tap) returns.
template <typename T, int kFilters, bool kSquare, typename WeightOf, typename Add>
__device__ __forceinline__ void sum_by_columns(const Params& params, const Run& run, const char* input,
                                               WeightOf weight_of, Add add) {
  constexpr int kUnroll = kSquare ? T::kColumnsTogether : 1;
  const int columns = kSquare ? T::kWindow : params.s;
#pragma unroll kUnroll
  for (int s = 0; s < columns; ++s) {
    Vector<T> column[kFilters][T::kWindow];
#pragma unroll
    for (int k = 0; k < kFilters; ++k) {
#pragma unroll
      for (int r = 0; r < T::kWindow; ++r) column[k][r] = weight_of(k, r * columns + s);
    }
    const bool inside = static_cast<unsigned>(run.iw + s * params.dilation_w) < static_cast<unsigned>(params.w);
    const unsigned rows = inside ? run.inside_rows : 0;
    const char* source = input + s * params.dilation_w * params.input_stride_w;
#pragma unroll
    for (int i = 0; i < T::kInputRows; ++i, source += params.input_stride_h) {
      const Vector<T> x = load<T>(source, rows >> i & 1);
#pragma unroll
      for (int p = 0; p < T::kRows; ++p) {
        const int r = i - p * T::kStep;
        if (r < 0 || r >= T::kWindow) continue;
#pragma unroll
        for (int k = 0; k < kFilters; ++k) add(p, k, x, column[k][r]);
      }
    }
  }
}

template <typename T, int kFilters, typename WeightOf, typename Add>
__device__ __forceinline__ void sum_window(const Params& params, const Run& run, const char* input, WeightOf weight_of,
                                           Add add) {
  if (params.s == T::kWindow) {
    sum_by_columns<T, kFilters, true>(params, run, input, weight_of, add);
  } else {
    sum_by_columns<T, kFilters, false>(params, run, input, weight_of, add);
  }
}

// Calls take(row of taps, x) for each tap, with the run's pixels there.
template <typename T, typename Take>
__device__ __forceinline__ void for_each_tap(const Params& params, const Run& run, const char* input, Take take) {
  const std::int64_t step_p = params.stride_h * params.input_stride_h;
  const std::int64_t step_s = params.dilation_w * params.input_stride_w;
  for (int r = 0; r < params.r; ++r) {
    const int ih = run.ih + r * params.dilation_h;
    const char* column = input + r * params.dilation_h * params.input_stride_h;
#pragma unroll T::kTapsTogether
    for (int s = 0; s < params.s; ++s, column += step_s) {
      const bool inside = static_cast<unsigned>(run.iw + s * params.dilation_w) < static_cast<unsigned>(params.w);
      Vector<T> x[T::kRows];
      const char* source = column;
#pragma unroll
      for (int p = 0; p < T::kRows; ++p, source += step_p) {
        x[p] = load<T>(source,
                       inside && static_cast<unsigned>(ih + p * params.stride_h) < static_cast<unsigned>(params.h));
      }
      take(r * params.s + s, x);
    }
  }
}

// The sums of output channels `output`, ..., whose weight is at `weight`, for each of the run's pixels.
template <typename T>
__device__ __forceinline__ void sum_outputs(const Params& params, const Run& run, const char* weight, int output,
                                            Sums<T, T::kVector>& sums) {
  static_assert(T::kGrouped, "an output channel is one thread's");
  clear<T, T::kVector>(sums);
  const int group = T::kVector > 1 ? output : static_cast<int>(params.by_group_outputs.divide(output).quotient);
  const int channels = T::kVector > 1 ? 1 : params.group_channels;
  const char* input = run.input + static_cast<std::int64_t>(group) * channels * params.input_stride_c;
  const char* column = weight;
  for (int channel = 0; channel < channels; ++channel) {
    if constexpr (T::kWindow > 0) {
      sum_window<T, 1>(
          params, run, input, [&](int, int tap) { return load_weight<T>(params, column, tap); },
          [&](int p, int, const Vector<T>& x, const Vector<T>& factors) { multiply<T>(x, factors, sums[p]); });
    } else {
      for_each_tap<T>(params, run, input, [&](int tap, const Vector<T>(&x)[T::kRows]) {
        const Vector<T> factors = load_weight<T>(params, column, tap);
#pragma unroll
        for (int p = 0; p < T::kRows; ++p) multiply<T>(x[p], factors, sums[p]);
      });
    }
    input += params.input_stride_c;
    column += params.r * params.s * params.weight_pitch;
  }
}

// Adds a vector of input channels, from `channel` on, to the sums of all output channels.
template <typename T>
__device__ __forceinline__ void add_channels(const Params& params, const Run& run, const char* weight, int channel,
                                             Sums<T, T::kOutputs>& sums) {
  const char* input = run.input + channel * params.input_stride_c;
  const char* column = weight + channel * static_cast<int>(sizeof(typename T::Element));
  const int taps = params.r * params.s;
  // Output channels that don't exist repeat the last one, and are left out of the minimum.
  const auto weight_of = [&](int k, int tap) {
    return load_weight<T>(params, column, min(k, params.outputs - 1) * taps + tap);
  };
  const auto add = [&](int p, int k, const Vector<T>& x, const Vector<T>& factors) {
    using N = Numeric<typename T::Element>;
#pragma unroll
    for (int v = 0; v < T::kVector; ++v) sums[p][k] += N::widen(x.values[v]) * N::widen(factors.values[v]);
  };
  if constexpr (T::kWindow > 0) {
    sum_window<T, T::kOutputs>(params, run, input, weight_of, add);
  } else {
    for_each_tap<T>(params, run, input, [&](int tap, const Vector<T>(&x)[T::kRows]) {
#pragma unroll
      for (int k = 0; k < T::kOutputs; ++k) {
        const Vector<T> factors = weight_of(k, tap);
#pragma unroll
        for (int p = 0; p < T::kRows; ++p) add(p, k, x[p], factors);
      }
    });
  }
}

}  // namespace convmin::direct
