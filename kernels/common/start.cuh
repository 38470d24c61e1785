// A launch with as much shared memory as it says.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace convmin {

template <typename Kernel, typename Params>
cudaError_t start(Kernel kernel, std::int64_t blocks, int threads, int shared, const Params& params,
                  cudaStream_t stream) {
  constexpr int kWithoutAsking = 48 << 10;
  if (shared > kWithoutAsking) {
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
    if (error != cudaSuccess) return error;
  }
  kernel<<<static_cast<unsigned>(blocks), threads, static_cast<std::size_t>(shared), stream>>>(params);
  return cudaGetLastError();
}

}  // namespace convmin
