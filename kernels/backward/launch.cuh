// Plan -> kernels of one element type.
#pragma once

#include <cstdint>

#include "backward/grad_input.cuh"
#include "backward/grad_input_groups.cuh"
#include "backward/grad_input_window.cuh"
#include "backward/grad_weight_tiles.cuh"
#include "backward/launch.h"
#include "backward/launch_runs.cuh"

namespace convmin::backward {

template <typename Element>
cudaError_t launch_grad_input(const Params& params, const BackwardPlan& plan, cudaStream_t stream) {
  if (params.input_pixels == 0) return cudaSuccess;
  if (plan.grad_input == GradInputKernel::kGroups) {
    return start(conv_scale_min_grad_input_groups<Element>, plan.input_blocks, kGroupsThreads, plan.input_shared,
                 params, stream);
  }
  const unsigned rows = params.groups * params.channel_chunks * (params.group_outputs + 1);
  conv_scale_min_backward_pack<Element><<<rows, kPackThreads, 0, stream>>>(params, plan.lanes);
  if (plan.grad_input == GradInputKernel::kWindow) {
    if constexpr (sizeof(Element) <= 4) {
      const auto kernel =
          plan.lanes == 8 ? conv_scale_min_grad_input_window<Element, 8> : conv_scale_min_grad_input_window<Element, 4>;
      return start(kernel, plan.input_blocks, kWindowThreads, plan.input_shared, params, stream);
    }
    return cudaErrorInvalidValue;
  }
  const auto kernel = plan.lanes == 8   ? conv_scale_min_grad_input<Element, 8>
                      : plan.lanes == 4 ? conv_scale_min_grad_input<Element, 4>
                      : plan.lanes == 2 ? conv_scale_min_grad_input<Element, 2>
                                        : conv_scale_min_grad_input<Element, 1>;
  return start(kernel, plan.input_blocks, kGeneralThreads, 0, params, stream);
}

template <typename T>
cudaError_t launch_window_tiles(const Params& params, const BackwardPlan& plan, cudaStream_t stream) {
  if (params.tiles > 0) {
    const std::int64_t blocks = (std::int64_t{params.tiles} + kSortWarps - 1) / kSortWarps;
    const cudaError_t error = start(conv_scale_min_backward_count<typename T::Element, T::kTileH>, blocks,
                                    kSortWarps * 32, kSortWarps * sort_shared(params.k, T::kTileH), params, stream);
    if (error != cudaSuccess) return error;
  }
  const int blocks = params.ranges * params.column_chunks * params.splits;
  return start(conv_scale_min_grad_weight_window<T>, blocks, T::kThreads, plan.weight_shared, params, stream);
}

template <typename Element>
cudaError_t launch_grad_weight_window(const Params& params, const BackwardPlan& plan, cudaStream_t stream) {
  if constexpr (sizeof(Element) <= 4) {
    const auto launch = params.channel_fastest ? launch_window_tiles<Window<Element, true>>
                                               : launch_window_tiles<Window<Element, false>>;
    cudaError_t error = cudaErrorInvalidValue;
    if constexpr (sizeof(Element) == 2) {
      const auto launch_pairs = params.channel_fastest ? launch_window_tiles<PairWindow<Element, true>>
                                                       : launch_window_tiles<PairWindow<Element, false>>;
      error = (plan.pairs ? launch_pairs : launch)(params, plan, stream);
    } else {
      error = launch(params, plan, stream);
    }
    if (error != cudaSuccess) return error;
    const std::int64_t sums = static_cast<std::int64_t>(params.ranges) * params.column_chunks * params.channel_range;
    const std::int64_t slots = sums * kRow + params.k;
    return start(conv_scale_min_backward_reduce<Element>, static_cast<int>((slots + 127) / 128), 128, 0, params,
                 stream);
  }
  return cudaErrorInvalidValue;
}

template <typename Element>
int launch_element(const Params& params, const BackwardPlan& plan, cudaStream_t stream) {
  if (plan.grad_input != GradInputKernel::kNone) {
    const cudaError_t error = launch_grad_input<Element>(params, plan, stream);
    if (error != cudaSuccess) return error;
  }
  switch (plan.grad_weight) {
    case GradWeightKernel::kNone: return cudaSuccess;
    case GradWeightKernel::kWindow: return launch_grad_weight_window<Element>(params, plan, stream);
    case GradWeightKernel::kRuns: return launch_grad_weight_runs<Element>(params, plan, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace convmin::backward
