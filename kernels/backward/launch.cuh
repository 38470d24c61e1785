// Plan -> kernels of one element type.
#pragma once

#include <cstdint>

#include "backward/grad_input.cuh"
#include "backward/grad_input_groups.cuh"
#include "backward/grad_input_window.cuh"
#include "backward/grad_weight_window.cuh"
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

template <typename Element>
cudaError_t launch_grad_weight_window(const Params& params, const BackwardPlan& plan, cudaStream_t stream) {
  if constexpr (sizeof(Element) <= 4) {
    cudaError_t error = cudaSuccess;
    if (params.tiles > 0) {
      const std::int64_t blocks = (std::int64_t{params.tiles} + kSortWarps - 1) / kSortWarps;
      error = start(conv_scale_min_backward_count<Element>, blocks, kSortWarps * 32, kSortWarps * sort_shared(params.k),
                    params, stream);
    }
    if (error != cudaSuccess) return error;
    const auto kernel = params.channel_fastest ? conv_scale_min_grad_weight_window<Element, true>
                                               : conv_scale_min_grad_weight_window<Element, false>;
    const int works = params.ranges * params.column_chunks;
    error = start(kernel, works * params.splits, kWindowWarps * 32, plan.weight_shared, params, stream);
    if (error != cudaSuccess) return error;
    const std::int64_t slots = static_cast<std::int64_t>(works) * params.channel_range * kRow + params.k;
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
