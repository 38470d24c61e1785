// Launches a kernel that may begin under the one ahead of it in the stream, where that is the one that packs its
// weight and says so (ptx::launch_dependents). It must not touch what that writes before ptx::wait_for_prerequisites().
// In clusters of `cluster` blocks, if more than one.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "common/shared_memory.h"

namespace convmin {

// Whether code was compiled for a GPU that can, on the current device: else it would not wait.
inline bool can_wait(const void* kernel) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, bool> known;
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return false;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto [entry, is_new] = known.try_emplace({kernel, device}, false);
  cudaFuncAttributes code{};
  if (is_new && cudaFuncGetAttributes(&code, kernel) == cudaSuccess) {
    entry->second = std::min(code.ptxVersion, code.binaryVersion) >= 90;
  }
  return entry->second;
}

template <typename... Params>
cudaError_t launch_dependent(void (*kernel)(Params...), bool dependent, unsigned blocks, int threads, int shared_memory,
                             cudaStream_t stream, int cluster, const Params&... params) {
  const void* const code = reinterpret_cast<const void*>(kernel);
  const cudaError_t error = allow_shared_memory(code, shared_memory);
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute attributes[2]{};
  unsigned count = 0;
  if (dependent && can_wait(code)) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  }
  cudaLaunchConfig_t config{};
  config.gridDim = blocks;
  config.blockDim = static_cast<unsigned>(threads);
  config.dynamicSmemBytes = static_cast<std::size_t>(shared_memory);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  const cudaError_t launched = cudaLaunchKernelEx(&config, kernel, params...);
  return launched != cudaSuccess ? launched : cudaGetLastError();  // the packing kernel's too
}

}  // namespace convmin
