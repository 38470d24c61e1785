// Plan -> kernels of one element type.
#pragma once

#include <algorithm>

#include "backward/grad_input.cuh"
#include "backward/grad_input_groups.cuh"
#include "backward/grad_input_window.cuh"
#include "backward/grad_weight_columns.cuh"
#include "backward/grad_weight_window.cuh"
#include "backward/launch.h"

namespace convmin::backward {

template <typename Kernel>
cudaError_t start(Kernel kernel, int blocks, int threads, int shared, const Params& params, cudaStream_t stream) {
  constexpr int kWithoutAsking = 48 << 10;
  if (shared > kWithoutAsking) {
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
    if (error != cudaSuccess) return error;
  }
  kernel<<<static_cast<unsigned>(blocks), threads, shared, stream>>>(params);
  return cudaGetLastError();
}

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

template <typename Element, bool kWindow, int kPixels>
cudaError_t launch_sort(const Params& params, cudaStream_t stream) {
  if (params.tiles == 0) return cudaSuccess;
  constexpr int kSlots = 512;
  constexpr std::int64_t kMaxBlocks = 1 << 20;
  const auto blocks = static_cast<int>(std::min(params.tiles, kMaxBlocks));
  if (params.k <= kMaxCounted) {
    const int counts = kPixels / 32 * (params.k + 1) * 2;
    return start(conv_scale_min_backward_count<Element, kWindow, kPixels>, blocks, kPixels, counts, params, stream);
  }
  const auto kernel = conv_scale_min_backward_sort < Element, kWindow, kPixels, kPixels <= 256 ? 256 : kSlots > ;
  return start(kernel, blocks, kSortThreads, 0, params, stream);
}

template <typename Element, int kParts>
cudaError_t launch_reduce(const Params& params, cudaStream_t stream) {
  const std::int64_t works = static_cast<std::int64_t>(params.groups) * params.ranges * params.column_chunks;
  const std::int64_t slots = works * params.channel_range * kParts * 32 + params.k;
  conv_scale_min_backward_reduce<Element, kParts>
      <<<static_cast<unsigned>((slots + 127) / 128), 128, 0, stream>>>(params);
  return cudaGetLastError();
}

template <typename Element, int kPixels>
cudaError_t launch_columns(const Params& params, const BackwardPlan& plan, int blocks, cudaStream_t stream) {
  if constexpr (sizeof(Element) == 8 && kPixels > kFewColumnPixels) {
    return cudaErrorInvalidValue;
  } else {
    cudaError_t error = launch_sort<Element, false, kPixels>(params, stream);
    if (error != cudaSuccess) return error;
    const auto kernel = conv_scale_min_grad_weight_columns<Element, kPixels>;
    error = start(kernel, blocks, kColumnWarps * 32, plan.weight_shared, params, stream);
    return error != cudaSuccess ? error : launch_reduce<Element, 1>(params, stream);
  }
}

template <typename Element>
cudaError_t launch_grad_weight(const Params& params, const BackwardPlan& plan, cudaStream_t stream) {
  const int blocks = params.groups * params.ranges * params.column_chunks * params.splits;
  if (plan.grad_weight == GradWeightKernel::kWindow) {
    if constexpr (sizeof(Element) <= 4) {
      cudaError_t error = launch_sort<Element, true, kWindowPixels>(params, stream);
      if (error != cudaSuccess) return error;
      const auto kernel = params.channel_fastest ? conv_scale_min_grad_weight_window<Element, true>
                                                 : conv_scale_min_grad_weight_window<Element, false>;
      error = start(kernel, blocks, kWindowWarps * 32, plan.weight_shared, params, stream);
      return error != cudaSuccess ? error : launch_reduce<Element, 9>(params, stream);
    }
    return cudaErrorInvalidValue;
  }
  return plan.tile_pixels == kFewColumnPixels ? launch_columns<Element, kFewColumnPixels>(params, plan, blocks, stream)
                                              : launch_columns<Element, kColumnPixels>(params, plan, blocks, stream);
}

template <typename Element>
int launch_element(const Params& params, const BackwardPlan& plan, cudaStream_t stream) {
  if (plan.grad_input != GradInputKernel::kNone) {
    const cudaError_t error = launch_grad_input<Element>(params, plan, stream);
    if (error != cudaSuccess) return error;
  }
  return plan.grad_weight == GradWeightKernel::kNone ? cudaSuccess : launch_grad_weight<Element>(params, plan, stream);
}

}  // namespace convmin::backward
