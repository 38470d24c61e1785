// A launch with as much shared memory as it says.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/shared_memory.h"

namespace convmin {

template <typename Kernel, typename Params>
cudaError_t start(Kernel kernel, std::int64_t blocks, int threads, int shared, const Params& params,
                  cudaStream_t stream) {
  const cudaError_t error = allow_shared_memory(reinterpret_cast<const void*>(kernel), shared);
  if (error != cudaSuccess) return error;
  kernel<<<static_cast<unsigned>(blocks), threads, static_cast<std::size_t>(shared), stream>>>(params);
  return cudaGetLastError();
}

}  // namespace convmin
