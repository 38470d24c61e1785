// Plan -> kernel family, and the few questions that only a CUDA runtime answers.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <mutex>
#include <vector>

#include "common/slices.h"
#include "conv_scale_min.h"
#include "depthwise/launch.h"
#include "direct/launch.h"
#include "simt/launch.h"
#include "simt/plan.h"
#include "sm80/launch.h"
#include "sm80/window/launch.h"
#include "sm90/launch.h"
#include "sm90/patch/launch.h"

namespace convmin {
namespace {

// The portable kernel over the tiles that another one noted; a build without tensor cores has no other.
[[maybe_unused]] int launch_fallback(const Problem& problem, const Plan& plan, const Arguments& arguments,
                                     const Fallback& tiles, cudaStream_t stream) {
  const Plan portable = simt::plan_for_tiles(problem, plan.gather, plan.fallback_blocks);
  Arguments rest = arguments;
  rest.workspace = static_cast<char*>(arguments.workspace) + plan.fallback_workspace;
  return simt::launch_tiles(problem, portable, rest, tiles, stream);
}

// Device::clusters, which no attribute tells.
cudaError_t count_clusters([[maybe_unused]] int ordinal, [[maybe_unused]] Device* device) {
#ifndef CONVMIN_WITHOUT_SM90
  if (device->major != 9) return cudaSuccess;
  int current = 0;
  cudaError_t error = cudaGetDevice(&current);
  if (error == cudaSuccess) error = cudaSetDevice(ordinal);
  if (error != cudaSuccess) return error;
  error = static_cast<cudaError_t>(sm90::patch::count_clusters(device));
  const cudaError_t restored = cudaSetDevice(current);
  return error != cudaSuccess ? error : restored;
#else
  return cudaSuccess;
#endif
}

// For tools that take seconds where a GPU takes microseconds: a plan's every way to fill the multiprocessors, and to
// share tiles among them, comes with small problems too where there are few.
void plan_for_fewer(Device* device) {
  const char* const wanted = std::getenv("CONVMIN_SM_COUNT");
  const int all = device->sm_count, fewer = wanted != nullptr ? std::atoi(wanted) : all;
  if (fewer < 1 || fewer >= all) return;
  device->sm_count = fewer;
  std::transform(std::begin(device->clusters), std::end(device->clusters), std::begin(device->clusters),
                 [&](int clusters) { return clusters * fewer / all; });
}

}  // namespace

Status launch(const Problem& problem, const Plan& plan, const Arguments& arguments, CUstream_st* stream) {
  if (!plan.accepted) return {cudaErrorInvalidValue};
  switch (plan.kernel) {
    case KernelId::kDirect: return {direct::launch(problem, plan, arguments, stream)};
    case KernelId::kSimt: return {simt::launch(problem, plan, arguments, stream)};
#ifndef CONVMIN_WITHOUT_SM80
    case KernelId::kDepthwise: return {depthwise::launch(problem, plan, arguments, stream)};
    case KernelId::kSm80Window: return {sm80::window::launch(problem, plan, arguments, stream)};
    case KernelId::kSm80: {
      const int error = sm80::launch(problem, plan, arguments, stream);
      if (error != cudaSuccess || plan.fallback_blocks == 0) return {error};
      return {launch_fallback(problem, plan, arguments, sm80::fallback(problem, plan, arguments), stream)};
    }
#endif
#ifndef CONVMIN_WITHOUT_SM90
    case KernelId::kSm90Patch: {
      return {for_each_slice(problem, plan.images, arguments, [&](const Problem& part, const Arguments& rest) {
        const int error = sm90::patch::launch(part, plan, rest, stream);
        if (error != cudaSuccess || plan.fallback_blocks == 0) return error;
        return launch_fallback(part, plan, rest, sm90::patch::fallback(part, plan, rest), stream);
      })};
    }
    case KernelId::kSm90: {
      const int error = sm90::launch(problem, plan, arguments, stream);
      if (error != cudaSuccess || plan.fallback_blocks == 0) return {error};
      return {launch_fallback(problem, plan, arguments, sm90::fallback(problem, plan, arguments), stream)};
    }
#endif
    default: return {cudaErrorInvalidValue};
  }
}

Status query_device(int ordinal, Device* device) {
  static std::mutex mutex;
  static std::vector<Device> cache;
  const std::lock_guard<std::mutex> lock(mutex);
  if (ordinal < 0) return {cudaErrorInvalidDevice};
  if (cache.size() <= static_cast<std::size_t>(ordinal)) cache.resize(ordinal + 1, Device{});
  Device& entry = cache[ordinal];  // sm_count 0: not asked yet
  if (entry.sm_count == 0) {
    Device found{};
    struct {
      cudaDeviceAttr attribute;
      int* value;
    } const questions[] = {
        {cudaDevAttrComputeCapabilityMajor, &found.major},
        {cudaDevAttrComputeCapabilityMinor, &found.minor},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, &found.shared_memory_per_block},
        {cudaDevAttrMaxSharedMemoryPerMultiprocessor, &found.shared_memory_per_sm},
        {cudaDevAttrMaxRegistersPerMultiprocessor, &found.registers_per_sm},
        {cudaDevAttrMultiProcessorCount, &found.sm_count},
    };
    for (const auto& question : questions) {
      const cudaError_t error = cudaDeviceGetAttribute(question.value, question.attribute, ordinal);
      if (error != cudaSuccess) return {error};
    }
    const cudaError_t error = count_clusters(ordinal, &found);
    if (error != cudaSuccess) return {error};
    plan_for_fewer(&found);
    entry = found;
  }
  *device = entry;
  return {cudaSuccess};
}

const char* error_string(Status status) { return cudaGetErrorString(static_cast<cudaError_t>(status.cuda_error)); }

}  // namespace convmin
