// What mma.sync can do on this GPU: multiplications alone, operands and sums in registers. docs/sm80.md measures the
// sm80 kernel by it.
//
//   nvcc -O3 -std=c++17 -arch=native -Ikernels benchmarks/mma_rate.cu -o mma_rate && ./mma_rate
#include <algorithm>
#include <cstdio>
#include <vector>

#include "ptx/mma.cuh"

namespace {

using convmin::ptx::Mma;

constexpr int kThreads = 256, kChains = 16, kSteps = 1 << 14, kRuns = 25;

// Each warp has kChains sums, so that no multiplication waits for the one before it.
template <typename Element>
__global__ void __launch_bounds__(kThreads) multiply(float* result) {
  float sums[kChains][4] = {};
  const std::uint32_t a[4] = {threadIdx.x, threadIdx.x + 1, threadIdx.x + 2, threadIdx.x + 3};
#pragma unroll 2
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int i = 0; i < kChains; ++i) Mma<Element>::multiply(sums[i], a, threadIdx.x + i, threadIdx.x - i);
  }
  float total = 0;
  for (const auto& sum : sums) total += sum[0] + sum[1] + sum[2] + sum[3];
  if (total == 1.0f) *result = total;  // never; or there would be nothing to compute
}

bool check(cudaError_t status) {
  if (status != cudaSuccess) std::fprintf(stderr, "%s\n", cudaGetErrorString(status));
  return status == cudaSuccess;
}

// Median of kRuns, in TFLOP/s.
template <typename Element>
bool measure(const char* name, int multiprocessors, float* memory) {
  int blocks = 0;
  if (!check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, multiply<Element>, kThreads, 0))) return false;
  cudaEvent_t begin, end;
  if (!check(cudaEventCreate(&begin)) || !check(cudaEventCreate(&end))) return false;
  std::vector<float> times(kRuns);
  for (float& ms : times) {
    cudaEventRecord(begin);
    multiply<Element><<<multiprocessors * blocks, kThreads>>>(memory);
    cudaEventRecord(end);
    if (!check(cudaEventSynchronize(end)) || !check(cudaEventElapsedTime(&ms, begin, end))) return false;
  }
  std::sort(times.begin(), times.end());
  const double warps = static_cast<double>(multiprocessors) * blocks * kThreads / 32;
  const double flop = warps * kSteps * kChains * 2 * 16 * 8 * (32.0 / sizeof(Element));
  std::printf("%s %.0f TFLOP/s\n", name, flop / times[kRuns / 2] / 1e9);
  return true;
}

}  // namespace

int main() {
  cudaDeviceProp device;
  float* memory = nullptr;
  if (!check(cudaGetDeviceProperties(&device, 0)) || !check(cudaMalloc(&memory, sizeof(float)))) return 1;
  std::printf("%s\n", device.name);
  const int count = device.multiProcessorCount;
  return measure<__half>("float16", count, memory) && measure<__nv_bfloat16>("bfloat16", count, memory) &&
                 measure<float>("TF32", count, memory)
             ? 0
             : 1;
}
