// Shared memory beyond what every kernel may have. Host code only.
#pragma once

#include <cuda_runtime_api.h>

#include <map>
#include <mutex>
#include <utility>

namespace convmin {

// Lets a kernel be launched with so many bytes on the current device. What it was let have once it keeps: a thread that
// needs less must not take from another that is about to launch it with more.
inline cudaError_t allow_shared_memory(const void* kernel, int bytes) {
  constexpr int kWithoutAsking = 48 << 10;
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, int> allowed;  // of a kernel on a device
  if (bytes <= kWithoutAsking) return cudaSuccess;
  int device = 0;
  const cudaError_t found = cudaGetDevice(&device);
  if (found != cudaSuccess) return found;
  const std::lock_guard<std::mutex> lock(mutex);
  int& most = allowed[{kernel, device}];
  if (bytes <= most) return cudaSuccess;
  const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error == cudaSuccess) most = bytes;
  return error;
}

}  // namespace convmin
