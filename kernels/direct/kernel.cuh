// The direct kernel: convolutions of which tensor cores, and tiles of a matrix product, would compute padding only.
#pragma once

#include <type_traits>

#include "common/start.cuh"
#include "direct/epilogue.cuh"
#include "direct/launch.h"

namespace convmin::direct {

// Many groups: a slot takes every slots-th vector of output channels, with the running minimum in registers.
template <typename T>
__device__ __forceinline__ void compute_groups(const Params& params, char* shared, const Place& place, const Run& run) {
  Candidate<float> best[T::kRows];
#pragma unroll
  for (int p = 0; p < T::kRows; ++p) {
    // Starting from the thread's first channel, not from none, gives +inf an index where every value is +inf.
    best[p] = {HUGE_VALF, place.slot < params.items ? place.slot * T::kVector : kNoChannel};
  }
  for (int item = place.slot; item < params.items; item += params.slots) {
    const int output = item * T::kVector;
    Sums<T, T::kVector> sums;
    const char* const weight = shared + kExchangeBytes + output * static_cast<int>(sizeof(typename T::Element));
    sum_outputs<T>(params, run, weight, output, sums);
    const Vector<T> bias = load_weight<T>(params, weight, params.group_channels * params.r * params.s);
#pragma unroll
    for (int v = 0; v < T::kVector; ++v) {
#pragma unroll
      for (int p = 0; p < T::kRows; ++p) {
        best[p].offer_ascending(finish<T>(params, sums[p][v], bias.values[v]), output + v);
      }
    }
  }
  combine(params, place, shared, best, [](Candidate<float>& a, const Candidate<float>& b) { a.merge(b); });
  if (place.slot != 0) return;
#pragma unroll
  for (int p = 0; p < T::kRows; ++p) write<T>(params, run, p, best[p]);
}

// Few output channels: a slot takes every slots-th vector of input channels, and the slots' sums are added.
template <typename T>
__device__ __forceinline__ void compute_sums(const Params& params, char* shared, const Place& place, const Run& run) {
  Sums<T, T::kOutputs> sums;
  clear<T, T::kOutputs>(sums);
  for (int item = place.slot; item < params.items; item += params.slots) {
    add_channels<T>(params, run, shared + kExchangeBytes, item * T::kVector, sums);
  }
  constexpr int kCount = T::kRows * T::kOutputs;
  combine(params, place, shared, reinterpret_cast<float (&)[kCount]>(sums), [](float& a, float b) { a += b; });
  if (place.slot != 0) return;
  const auto bias = [&](int k) {
    using Element = typename T::Element;
    return params.bias != nullptr ? load_read_only(static_cast<const Element*>(params.bias) + k) : Element{};
  };
#pragma unroll
  for (int p = 0; p < T::kRows; ++p) {
    Candidate<float> best{finish<T>(params, sums[p][0], bias(0)), 0};
#pragma unroll
    for (int k = 1; k < T::kOutputs; ++k) {
      if (k < params.outputs) best.offer_ascending(finish<T>(params, sums[p][k], bias(k)), k);
    }
    write<T>(params, run, p, best);
  }
}

// As many blocks as fit at once take one tile after another: the weight is staged once for all of them.
template <typename T>
__global__ void __launch_bounds__(kThreads, blocks_per_sm(T::kVector))
    conv_scale_min_direct(const __grid_constant__ Params params) {
  extern __shared__ __align__(16) char shared[];
  const Place place(params);
  if (params.prefetched) {
    prefetch_run<T>(params, locate<T>(params, static_cast<int>(blockIdx.x) * params.tile_runs + place.run), place.slot);
  }
  stage_weight<T>(params, shared + kExchangeBytes);
  for (int tile = static_cast<int>(blockIdx.x); tile < params.tiles; tile += static_cast<int>(gridDim.x)) {
    const Run run = locate<T>(params, tile * params.tile_runs + place.run);
    if constexpr (T::kGrouped) {
      compute_groups<T>(params, shared, place, run);
    } else {
      compute_sums<T>(params, shared, place, run);
    }
  }
}

template <typename Element, int kVector, int kRows, int kOutputs, int kWindow, int kStep>
int launch_instance(const Params& params, const Plan& plan, cudaStream_t stream) {
  const auto kernel = conv_scale_min_direct<Traits<Element, kVector, kRows, kOutputs, kWindow, kStep>>;
  return start(kernel, plan.blocks, kThreads, plan.shared_memory, params, stream);
}

template <typename Element, int kVector, int kOutputs, int kStep>
int launch_window(const Params& params, const Plan& plan, const Variant& variant, cudaStream_t stream) {
  const auto launch = [&](auto window) {
    return launch_instance<Element, kVector, kManyRows, kOutputs, window(), kStep>(params, plan, stream);
  };
  if (variant.window == 3) return launch(std::integral_constant<int, 3>{});
  if (variant.window == 5) return launch(std::integral_constant<int, 5>{});
  if constexpr (keeps_window(7, kStep, kVector)) {
    if (variant.window == 7) return launch(std::integral_constant<int, 7>{});
  }
  return static_cast<int>(cudaErrorInvalidValue);
}

template <typename Element, int kVector, int kOutputs>
int launch_outputs(const Params& params, const Plan& plan, const Variant& variant, cudaStream_t stream) {
  if constexpr (kOutputs <= kMaxWindowOutputs) {
    if (variant.window > 0) return launch_window<Element, kVector, kOutputs, 1>(params, plan, variant, stream);
  }
  return launch_instance<Element, kVector, kFewRows, kOutputs, 0, 0>(params, plan, stream);
}

template <typename Element, int kVector>
int launch_vector(const Params& params, const Plan& plan, const Variant& variant, cudaStream_t stream) {
  switch (variant.outputs) {
    case 1: return launch_outputs<Element, kVector, 1>(params, plan, variant, stream);
    case 2: return launch_outputs<Element, kVector, 2>(params, plan, variant, stream);
    case 4: return launch_outputs<Element, kVector, 4>(params, plan, variant, stream);
    default: break;
  }
  if (variant.rows == 1) return launch_instance<Element, kVector, 1, 0, 0, 0>(params, plan, stream);
  if (variant.window == 0) return launch_instance<Element, kVector, kManyRows, 0, 0, 0>(params, plan, stream);
  return variant.step == 1 ? launch_window<Element, kVector, 0, 1>(params, plan, variant, stream)
                           : launch_window<Element, kVector, 0, 2>(params, plan, variant, stream);
}

template <typename Element>
int launch_element(const Params& params, const Plan& plan, const Variant& variant, cudaStream_t stream) {
  constexpr int kVector = kVectorBytes / static_cast<int>(sizeof(Element));
  return variant.vector > 1 ? launch_vector<Element, kVector>(params, plan, variant, stream)
                            : launch_vector<Element, 1>(params, plan, variant, stream);
}

}  // namespace convmin::direct
