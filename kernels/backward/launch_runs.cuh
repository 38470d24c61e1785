// kRuns, one slice of the output pixels after another: the list, perhaps a copy of the input, the walk, the cut runs.
#pragma once

#include <algorithm>

#include "backward/grad_weight_finish.cuh"
#include "backward/grad_weight_runs.cuh"
#include "backward/list.h"
#include "backward/source_copy.cuh"
#include "common/start.cuh"

namespace convmin::backward {

template <typename Element>
cudaError_t copy_source(Params* params, int images, cudaStream_t stream) {
  auto* copy = static_cast<Element*>(const_cast<void*>(params->source));
  const std::int64_t plane = static_cast<std::int64_t>(params->h) * params->w;
  const int width = params->groups * params->tap_width;
  const std::int64_t tiles = (plane + kCopyPixels - 1) / kCopyPixels * ((width + kCopyChannels - 1) / kCopyChannels);
  conv_scale_min_backward_copy<Element>
      <<<static_cast<unsigned>(images * tiles), kCopyThreads, 0, stream>>>(*params, copy);
  return cudaGetLastError();
}

template <typename Element>
cudaError_t launch_slice(const Params& params, const BackwardPlan& plan, cudaStream_t stream) {
  constexpr int kVector = Vector<Element>::kCount;
  if (const int error = launch_list(params, plan, stream)) return static_cast<cudaError_t>(error);
  if (params.segments > 0) {
    const int teams = 32 / params.team;  // of a warp
    const std::int64_t warps = static_cast<std::int64_t>((params.segments + teams - 1) / teams) * params.team_chunks;
    const auto kernel =
        plan.vectors ? conv_scale_min_grad_weight_runs<Element, kVector> : conv_scale_min_grad_weight_runs<Element, 1>;
    const auto blocks = static_cast<int>((warps + kRunsThreads / 32 - 1) / (kRunsThreads / 32));
    const cudaError_t error = start(kernel, blocks, kRunsThreads, 0, params, stream);
    if (error != cudaSuccess) return error;
  }
  const int channels = kFinishThreads / params.empty_threads;  // that a block looks at
  const int blocks = params.segments * params.finish_chunks + (params.k + channels - 1) / channels;
  return start(conv_scale_min_grad_weight_finish<Element>, blocks, kFinishThreads, 0, params, stream);
}

template <typename Element>
cudaError_t launch_grad_weight_runs(const Params& whole, const BackwardPlan& plan, cudaStream_t stream) {
  for (int slice = 0; slice < plan.slices; ++slice) {
    Params params = whole;
    params.first_pixel = slice * plan.slice_pixels;
    params.list_pixels = static_cast<int>(std::min(plan.slice_pixels, plan.output_pixels - params.first_pixel));
    params.segments = (params.list_pixels + params.segment_pixels - 1) / params.segment_pixels;
    params.first_slice = slice == 0, params.last_slice = slice + 1 == plan.slices;
    if (plan.slice_images > 0 && params.list_pixels > 0) {
      params.first_image = slice * plan.slice_images;
      const int images = std::min(plan.slice_images, params.n - params.first_image);
      const cudaError_t error = copy_source<Element>(&params, images, stream);
      if (error != cudaSuccess) return error;
    }
    const cudaError_t error = launch_slice<Element>(params, plan, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace convmin::backward
