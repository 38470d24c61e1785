// A launch with as much shared memory as it says.
#pragma once

#include <cuda_runtime_api.h>

#include "backward/params.h"

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

}  // namespace convmin::backward
