// Step 3: registers. A thread computes 4 pixels of a row x 8 output channels, so that what it loads is used many times:
// for a channel and a filter row, 6 values of x (a vector load and a half) and 3 x 8 weights (6 vector loads) feed 96
// multiply-adds.
//
// The block's tile is 32 x 16 pixels with all channels; its 512 threads are 128 places x 4 groups, and each group takes
// every fourth block of 8 output channels. The groups' minima meet in shared memory at the end. Weights are transposed
// beforehand, so that 8 output channels lie side by side.
#include "ladder.cuh"

namespace {

constexpr int kTileW = 32, kTileH = 16, kPixels = 4, kChannels = 8, kGroups = 4;
constexpr int kPlaces = kTileW * kTileH / kPixels, kThreads = kPlaces * kGroups;
constexpr int kRows = kTileH + 2, kPitch = kTileW + 4;  // a multiple of 4, for vector loads

__global__ void transpose(Problem p) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x, rows = p.c * kTaps;
  if (i < rows * p.k) p.workspace[i % rows * p.k + i / rows] = p.weight[i];
}

__device__ void load_tile(const Problem& p, int n, int h0, int w0, float* tile) {
  for (int i = threadIdx.x; i < p.c * kRows * kPitch; i += kThreads) {
    const int w = w0 + i % kPitch, h = h0 + i / kPitch % kRows, c = i / (kPitch * kRows);
    const bool inside = h < p.h && w < p.w;
    tile[i] = inside ? p.x[((static_cast<size_t>(n) * p.c + c) * p.h + h) * p.w + w] : 0.0f;
  }
}

__global__ void __launch_bounds__(kThreads, 1) registers(Problem p) {
  extern __shared__ float tile[];
  __shared__ float minima[kGroups][kTileH][kTileW];
  const int w0 = blockIdx.x * kTileW, h0 = blockIdx.y * kTileH, n = blockIdx.z;
  const int place = threadIdx.x % kPlaces, group = threadIdx.x / kPlaces;
  const int tw = place % (kTileW / kPixels) * kPixels, th = place / (kTileW / kPixels);
  load_tile(p, n, h0, w0, tile);
  __syncthreads();

  float minimum[kPixels];
  for (float& value : minimum) value = kNothing;
  for (int k = group * kChannels; k < p.k; k += kGroups * kChannels) {
    float sums[kPixels][kChannels];
    for (int i = 0; i < kPixels; ++i)
      for (int j = 0; j < kChannels; ++j) sums[i][j] = p.bias[k + j];
    for (int c = 0; c < p.c; ++c)
#pragma unroll
      for (int r = 0; r < 3; ++r) {
        const float* row = tile + (c * kRows + th + r) * kPitch + tw;
        const float4 front = *reinterpret_cast<const float4*>(row);
        const float2 back = *reinterpret_cast<const float2*>(row + 4);
        const float x[kPixels + 2] = {front.x, front.y, front.z, front.w, back.x, back.y};
#pragma unroll
        for (int s = 0; s < 3; ++s) {
          const float4* from = reinterpret_cast<const float4*>(p.workspace + ((c * 3 + r) * 3 + s) * p.k + k);
          const float4 low = __ldg(from), high = __ldg(from + 1);
          const float w[kChannels] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
          for (int i = 0; i < kPixels; ++i)
#pragma unroll
            for (int j = 0; j < kChannels; ++j) sums[i][j] += x[i + s] * w[j];
        }
      }
    for (int i = 0; i < kPixels; ++i)
      for (int j = 0; j < kChannels; ++j) minimum[i] = least(minimum[i], sums[i][j] * p.scale);
  }
  for (int i = 0; i < kPixels; ++i) minima[group][th][tw + i] = minimum[i];
  __syncthreads();

  const int ow = w0 + threadIdx.x % kTileW, oh = h0 + threadIdx.x / kTileW, height = p.h - 2, width = p.w - 2;
  static_assert(kThreads == kTileW * kTileH, "a thread for each pixel of the tile");
  if (oh >= height || ow >= width) return;
  float result = kNothing;
  for (int i = 0; i < kGroups; ++i) result = least(result, minima[i][oh - h0][ow - w0]);
  p.y[(static_cast<size_t>(n) * height + oh) * width + ow] = result;
}

}  // namespace

int launch(Problem problem, void* stream) {
  const size_t bytes = sizeof(float) * problem.c * kRows * kPitch;
  if (problem.k % kChannels != 0) return cudaErrorInvalidValue;
  const cudaError_t error = cudaFuncSetAttribute(registers, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  const auto queue = static_cast<cudaStream_t>(stream);
  transpose<<<ceil_div(problem.c * kTaps * problem.k, 256), 256, 0, queue>>>(problem);
  const dim3 grid(ceil_div(problem.w - 2, kTileW), ceil_div(problem.h - 2, kTileH), problem.n);
  registers<<<grid, kThreads, bytes, queue>>>(problem);
  return cudaGetLastError();
}
