// The depthwise kernel. A block brings the input under its tile of output pixels to shared memory, a stage of channels
// after the other; there lanes find a channel each, and each input for all of the windows that it is in.
#pragma once

#include "common/dependent_launch.cuh"
#include "depthwise/epilogue.cuh"
#include "depthwise/launch.h"

namespace convmin::depthwise {

// A stage's channels, into the lane's minima.
template <typename T>
__device__ __forceinline__ void take_stage(const Params& params, const Place& place, const char* stage, int index,
                                           Candidate<float> (&best)[T::kPixels]) {
  using Element = typename T::Element;
  const int in_stage = place.slot * kLanes + place.lane, channel = index * params.slots * kLanes + in_stage;
  if (channel >= params.channels) return;
  const Element bias =
      params.bias != nullptr ? load_read_only(static_cast<const Element*>(params.bias) + channel) : Element{};
  const int row_pitch = params.row_columns * T::kColumnPitch;
  const char* const corner = stage + (place.row * row_pitch + place.column * T::kColumnPitch) * (kPatch * T::kStep);
  const char* const input = T::kVectors ? corner + place.slot * params.input_pitch + place.lane * T::kSize
                                        : corner + in_stage * params.input_pitch + params.shift * T::kSize;
  float sums[T::kPixels];
  sum_patch<T>(input, row_pitch, stage + params.input_bytes + in_stage * T::kWeightPitch, sums);
#pragma unroll
  for (int i = 0; i < T::kPixels; ++i) {
    // Sum, then product: scale may be infinite or NaN.
    best[i].offer_ascending((sums[i] + Numeric<Element>::widen(bias)) * params.scale, channel);
  }
}

template <typename T>
__global__ void __launch_bounds__(kMaxThreads, 1) conv_scale_min_depthwise(const __grid_constant__ Params params) {
  extern __shared__ __align__(16) char shared[];
  const Place place(params);
  const QuotientRemainder by_splits = params.by_splits.divide(blockIdx.x);
  const auto split = static_cast<int>(by_splits.remainder);
  const Tile tile = Tile::at<T>(params, static_cast<int>(by_splits.quotient));
  const char* const image = static_cast<const char*>(params.input) + tile.image * params.input_stride_n;
  int* const units = reinterpret_cast<int*>(shared + kExchangeBytes);
  const auto stage_at = [&](int index) {
    return shared + params.first_stage + index % kMaxBuffers * params.stage_bytes;
  };
  locate_units<T>(params, tile, units);
  const int begin = params.stages * split / params.splits, end = params.stages * (split + 1) / params.splits;
  Candidate<float> best[T::kPixels];
  // Starting from the lane's first channel, not from none, gives +inf an index where every value is +inf.
  const int first = (begin * params.slots + place.slot) * kLanes + place.lane;
#pragma unroll
  for (auto& candidate : best) candidate = {HUGE_VALF, first < params.channels ? first : kNoChannel};
  // A stage is on its way while the one before is used.
  for (int next = begin; next <= end; ++next) {
    if (next > begin) {
      ptx::cp_async_wait<0>();
      __syncthreads();  // all of a stage is there, and the one before is read no more
    }
    if (next < end) bring_stage<T>(params, image, units, ptx::shared_address(stage_at(next - begin)), next);
    if (next > begin) take_stage<T>(params, place, stage_at(next - 1 - begin), next - 1, best);
  }
  finish<T>(params, tile, place, split, shared, best);
}

template <typename Element, int kWindow, int kStep, Unit kUnit>
int launch_unit(const Params& params, const Plan& plan, cudaStream_t stream) {
  const auto kernel = conv_scale_min_depthwise<Traits<Element, kWindow, kStep, kUnit>>;
  return static_cast<int>(launch_dependent(kernel, false, static_cast<unsigned>(plan.blocks), plan.threads,
                                           plan.shared_memory, stream, plan.cluster, params));
}

template <typename Element, int kWindow, int kStep>
int launch_window(const Params& params, const Plan& plan, Unit unit, cudaStream_t stream) {
  if (unit == Unit::kVector) return launch_unit<Element, kWindow, kStep, Unit::kVector>(params, plan, stream);
  if constexpr (sizeof(Element) == 2) {
    if (unit == Unit::kPair) return launch_unit<Element, kWindow, kStep, Unit::kPair>(params, plan, stream);
  }
  return launch_unit<Element, kWindow, kStep, Unit::kElement>(params, plan, stream);
}

template <typename Element, int kStep>
int launch_step(const Params& params, const Plan& plan, const Variant& variant, cudaStream_t stream) {
  if (variant.window == 3) return launch_window<Element, 3, kStep>(params, plan, variant.unit, stream);
  if (variant.window == 5) return launch_window<Element, 5, kStep>(params, plan, variant.unit, stream);
  if constexpr (has_window(7, kStep)) {
    if (variant.window == 7) return launch_window<Element, 7, kStep>(params, plan, variant.unit, stream);
  }
  return static_cast<int>(cudaErrorInvalidValue);
}

template <typename Element>
int launch_element(const Params& params, const Plan& plan, const Variant& variant, cudaStream_t stream) {
  return variant.step == 1 ? launch_step<Element, 1>(params, plan, variant, stream)
                           : launch_step<Element, 2>(params, plan, variant, stream);
}

}  // namespace convmin::depthwise
