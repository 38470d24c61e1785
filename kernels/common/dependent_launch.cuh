// Launches of kernels that may begin under the one ahead of them in the stream, where that is the one that packs their
// weight and says so (ptx::launch_dependents).
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "common/shared_memory.h"
#include "conv_scale_min.h"

namespace convmin {

// Whether the kernel's code on the current device is of an architecture that waits (ptx::wait_for_prerequisites). Code
// for Hopper alone always is, and need not ask.
template <typename... Params>
bool can_wait(void (*kernel)(Params...)) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, bool> known;
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return false;
  const auto* code = reinterpret_cast<const void*>(kernel);
  const std::lock_guard<std::mutex> lock(mutex);
  const auto [entry, is_new] = known.try_emplace({code, device}, false);
  cudaFuncAttributes attributes{};
  if (is_new && cudaFuncGetAttributes(&attributes, code) == cudaSuccess) {
    entry->second = std::min(attributes.ptxVersion, attributes.binaryVersion) >= 90;
  }
  return entry->second;
}

// `dependent`: it can wait, and must not touch what the kernel ahead writes before it has. In clusters of `cluster`
// blocks, if more than one.
template <typename... Params>
cudaError_t launch_dependent(void (*kernel)(Params...), bool dependent, dim3 grid, int threads, int shared_memory,
                             cudaStream_t stream, int cluster, const Params&... params) {
  cudaError_t error = allow_shared_memory(reinterpret_cast<const void*>(kernel), shared_memory);
  if (error == cudaSuccess && cluster > kPortableCluster) {
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  }
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute attributes[2]{};
  unsigned count = 0;
  if (dependent) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = static_cast<unsigned>(threads);
  config.dynamicSmemBytes = static_cast<std::size_t>(shared_memory);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  const cudaError_t launched = cudaLaunchKernelEx(&config, kernel, params...);
  return launched != cudaSuccess ? launched : cudaGetLastError();  // the packing kernel's too
}

}  // namespace convmin
