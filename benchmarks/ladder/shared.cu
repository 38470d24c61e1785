// Step 2: shared memory. A block loads the input of 32 x 8 pixels, all channels and the border, once; its threads, a
// pixel each, then read x from there, and the weight of one output channel, which they load together, as well.
//
// The input is read from memory 1.3 times (the border) rather than whenever L1 has lost it. A multiply-add still takes
// a load of x, and a quarter of one of the weight, which is read by fours.
#include "ladder.cuh"

namespace {

constexpr int kTileW = 32, kTileH = 8, kThreads = kTileW * kTileH;
constexpr int kRowPixels = kTileW + 2, kRows = kTileH + 2;

__device__ void load_tile(const Problem& p, int n, int h0, int w0, float* tile) {
  for (int i = threadIdx.x; i < p.c * kRows * kRowPixels; i += kThreads) {
    const int w = w0 + i % kRowPixels, h = h0 + i / kRowPixels % kRows, c = i / (kRowPixels * kRows);
    const bool inside = h < p.h && w < p.w;
    tile[i] = inside ? p.x[((static_cast<size_t>(n) * p.c + c) * p.h + h) * p.w + w] : 0.0f;
  }
}

__global__ void __launch_bounds__(kThreads) shared(Problem p) {
  extern __shared__ float4 memory[];
  float4* filter = memory;  // 12 floats a channel: three rows of three and nothing
  float* tile = reinterpret_cast<float*>(filter + 3 * p.c);
  const int w0 = blockIdx.x * kTileW, h0 = blockIdx.y * kTileH, n = blockIdx.z;
  const int tw = threadIdx.x % kTileW, th = threadIdx.x / kTileW;
  load_tile(p, n, h0, w0, tile);

  float minimum = kNothing;
  for (int k = 0; k < p.k; ++k) {
    __syncthreads();  // the last filter has been used
    for (int i = threadIdx.x; i < p.c * kTaps; i += kThreads)
      reinterpret_cast<float*>(filter)[i / 3 * 4 + i % 3] = p.weight[k * p.c * kTaps + i];
    __syncthreads();
    float sum = p.bias[k];
    for (int c = 0; c < p.c; ++c)
#pragma unroll
      for (int r = 0; r < 3; ++r) {
        const float4 taps = filter[c * 3 + r];
        const float* row = tile + (c * kRows + th + r) * kRowPixels + tw;
        sum += row[0] * taps.x + row[1] * taps.y + row[2] * taps.z;
      }
    minimum = least(minimum, sum * p.scale);
  }
  const int oh = h0 + th, ow = w0 + tw, height = p.h - 2, width = p.w - 2;
  if (oh < height && ow < width) p.y[(static_cast<size_t>(n) * height + oh) * width + ow] = minimum;
}

}  // namespace

int launch(Problem problem, void* stream) {
  const size_t bytes = sizeof(float) * problem.c * (12 + kRows * kRowPixels);
  const cudaError_t error = cudaFuncSetAttribute(shared, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  const dim3 grid(ceil_div(problem.w - 2, kTileW), ceil_div(problem.h - 2, kTileH), problem.n);
  shared<<<grid, kThreads, bytes, static_cast<cudaStream_t>(stream)>>>(problem);
  return cudaGetLastError();
}
