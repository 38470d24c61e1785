// What mma.sync can do on this GPU: multiplications alone, operands and sums in registers. docs/sm80.md measures the
// sm80 kernel by it.
//
//   nvcc -O3 -std=c++17 -arch=native -Ikernels benchmarks/mma_rate.cu -o mma_rate && ./mma_rate
#include <algorithm>
#include <cstdio>
#include <random>
#include <vector>

#include "ptx/mma.cuh"

namespace {

using convmin::ptx::Mma;

constexpr int kThreads = 256, kChains = 16, kSteps = 1 << 14, kRuns = 200;
constexpr int kOperands = 4 + 2 * kChains;  // registers a thread

// Each warp has kChains sums, so that no multiplication waits for the one before it.
template <typename Element>
__global__ void __launch_bounds__(kThreads) multiply(const std::uint32_t* operands, float* result) {
  float sums[kChains][4] = {};
  std::uint32_t a[4], b[kChains][2];
  for (int i = 0; i < 4; ++i) a[i] = operands[i * kThreads + threadIdx.x];
#pragma unroll
  for (int i = 0; i < kChains; ++i) {
    for (int j = 0; j < 2; ++j) b[i][j] = operands[(4 + 2 * i + j) * kThreads + threadIdx.x];
  }
#pragma unroll 2
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int i = 0; i < kChains; ++i) Mma<Element>::multiply(sums[i], a, b[i][0], b[i][1]);
  }
  float total = 0;
  for (const auto& sum : sums) total += sum[0] + sum[1] + sum[2] + sum[3];
  if (total == 1.0f) *result = total;  // never; or there would be nothing to compute
}

bool check(cudaError_t status) {
  if (status != cudaSuccess) std::fprintf(stderr, "%s\n", cudaGetErrorString(status));
  return status == cudaSuccess;
}

// Normal numbers of the given standard deviation.
template <typename Element>
std::vector<Element> normal(float deviation) {
  std::mt19937 generator(0);
  std::normal_distribution<float> distribution;
  std::vector<Element> values(kOperands * kThreads * sizeof(std::uint32_t) / sizeof(Element));
  for (Element& value : values) value = static_cast<Element>(deviation * distribution(generator));
  return values;
}

// Median of kRuns, in TFLOP/s.
template <typename Element>
bool measure(const char* name, int multiprocessors, float deviation) {
  const std::vector<Element> values = normal<Element>(deviation);
  std::uint32_t* operands = nullptr;
  float* result = nullptr;
  int blocks = 0;
  cudaEvent_t begin, end;
  if (!check(cudaMalloc(&operands, values.size() * sizeof(Element))) || !check(cudaMalloc(&result, sizeof(float))) ||
      !check(cudaMemcpy(operands, values.data(), values.size() * sizeof(Element), cudaMemcpyHostToDevice)) ||
      !check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, multiply<Element>, kThreads, 0)) ||
      !check(cudaEventCreate(&begin)) || !check(cudaEventCreate(&end))) {
    return false;
  }
  std::vector<float> times(kRuns);
  for (float& ms : times) {
    cudaEventRecord(begin);
    multiply<Element><<<multiprocessors * blocks, kThreads>>>(operands, result);
    cudaEventRecord(end);
    if (!check(cudaEventSynchronize(end)) || !check(cudaEventElapsedTime(&ms, begin, end))) return false;
  }
  std::sort(times.begin(), times.end());
  const double warps = static_cast<double>(multiprocessors) * blocks * kThreads / 32;
  const double flop = warps * kSteps * kChains * 2 * 16 * 8 * (32.0 / sizeof(Element));
  std::printf("%s %s %.0f TFLOP/s\n", name, deviation == 0 ? "zeros" : "normal numbers", flop / times[kRuns / 2] / 1e9);
  return check(cudaFree(operands)) && check(cudaFree(result));
}

}  // namespace

int main() {
  cudaDeviceProp device;
  if (!check(cudaGetDeviceProperties(&device, 0))) return 1;
  std::printf("%s\n", device.name);
  const int count = device.multiProcessorCount;
  // Zeros leave the clock as high as it goes; with numbers the power limit may set it.
  for (const float deviation : {0.0f, 1.0f}) {
    if (!measure<__half>("float16", count, deviation) || !measure<__nv_bfloat16>("bfloat16", count, deviation) ||
        !measure<float>("TF32", count, deviation)) {
      return 1;
    }
  }
  return 0;
}
