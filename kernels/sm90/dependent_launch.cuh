// Launches a kernel that may begin under the one ahead of it in the stream, where that is the one that packs its
// weight. It must not touch what that writes before ptx::wait_for_prerequisites(). In clusters of `cluster` blocks, if
// more than one.
#pragma once

#include <cuda_runtime.h>

#include "common/shared_memory.h"

namespace convmin::sm90 {

template <typename Params>
cudaError_t launch_dependent(void (*kernel)(Params), bool dependent, unsigned blocks, int threads, int shared_memory,
                             cudaStream_t stream, const Params& params, int cluster = 1) {
  const cudaError_t error = allow_shared_memory(reinterpret_cast<const void*>(kernel), shared_memory);
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
  config.gridDim = blocks;
  config.blockDim = static_cast<unsigned>(threads);
  config.dynamicSmemBytes = static_cast<std::size_t>(shared_memory);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  const cudaError_t launched = cudaLaunchKernelEx(&config, kernel, params);
  return launched != cudaSuccess ? launched : cudaGetLastError();  // the packing kernel's too
}

}  // namespace convmin::sm90
