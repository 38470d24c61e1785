// Step 4: tensor cores, through CUDA's own wmma interface, with operands rounded to float16 (11 significant bits, as
// many as TF32 keeps) and sums in float32.
//
// A persistent block keeps all weights in shared memory and takes one tile of 32 x 8 pixels after the other: it loads
// and rounds the tile, then each of its 8 warps multiplies a row of 32 pixels with all channels. A tap's view of the
// tile is the same matrix started some pixels later, so nothing is copied per tap. Loading and multiplying take turns:
// nothing runs beside them.
#include <cuda_fp16.h>
#include <mma.h>

#include "ladder.cuh"

namespace {

namespace wmma = nvcuda::wmma;

constexpr int kC = 64, kK = 128;  // the headline's: the weights fill shared memory
constexpr int kTileW = 32, kTileH = 8, kThreads = 32 * kTileH;
constexpr int kRows = kTileH + 2, kRowPixels = kTileW + 2;
constexpr int kPitchC = kC + 8, kPitchK = kK + 8;  // 16 bytes more than a power of two: no bank conflicts between rows
constexpr int kM = 16, kBlocksM = kTileW / kM, kBlocksN = kK / 16;

struct Shared {
  __half weight[kTaps][kC][kPitchK];
  __half x[kRows][kRowPixels][kPitchC];
  float bias[kM][kK];            // the same row 16 times: what the sums start from
  float minima[kTileH][kM][16];  // a warp's, on its way from fragments to pixels
};

static_assert(sizeof(Shared) <= 227 * 1024, "one block per multiprocessor");

using Sums = wmma::fragment<wmma::accumulator, kM, 16, 16, float>;

__device__ void load_weights(const Problem& p, Shared& shared) {
  for (int i = threadIdx.x; i < kK * kC * kTaps; i += kThreads) {
    const int tap = i % kTaps, c = i / kTaps % kC, k = i / (kTaps * kC);
    shared.weight[tap][c][k] = __float2half_rn(p.weight[i]);
  }
  for (int i = threadIdx.x; i < kM * kK; i += kThreads) shared.bias[i / kK][i % kK] = p.bias[i % kK];
}

__device__ void load_tile(const Problem& p, int n, int h0, int w0, Shared& shared) {
  for (int i = threadIdx.x; i < kC / 2 * kRows * kRowPixels; i += kThreads) {
    const int tw = i % kRowPixels, th = i / kRowPixels % kRows, c = i / (kRowPixels * kRows) * 2;
    const bool inside = h0 + th < p.h && w0 + tw < p.w;
    const float* from = p.x + ((static_cast<size_t>(n) * kC + c) * p.h + h0 + th) * p.w + w0 + tw;
    const float low = inside ? from[0] : 0.0f, high = inside ? from[static_cast<size_t>(p.h) * p.w] : 0.0f;
    *reinterpret_cast<__half2*>(&shared.x[th][tw][c]) = __floats2half2_rn(low, high);
  }
}

// All channels of 16 pixels, with the scale and the minimum over blocks of 16 channels: fragments of one type hold the
// same element in the same place.
__device__ void multiply(const Problem& p, const Shared& shared, int row, int column, Sums& minimum) {
  Sums sums[kBlocksN];
  for (int j = 0; j < kBlocksN; ++j) wmma::load_matrix_sync(sums[j], &shared.bias[0][j * 16], kK, wmma::mem_row_major);
  for (int tap = 0; tap < kTaps; ++tap)
#pragma unroll
    for (int c = 0; c < kC; c += 16) {
      wmma::fragment<wmma::matrix_a, kM, 16, 16, __half, wmma::row_major> a;
      wmma::load_matrix_sync(a, &shared.x[row + tap / 3][column + tap % 3][c], kPitchC);
#pragma unroll
      for (int j = 0; j < kBlocksN; ++j) {
        wmma::fragment<wmma::matrix_b, kM, 16, 16, __half, wmma::row_major> b;
        wmma::load_matrix_sync(b, &shared.weight[tap][c][j * 16], kPitchK);
        wmma::mma_sync(sums[j], a, b, sums[j]);
      }
    }
  wmma::fill_fragment(minimum, kNothing);
  for (int j = 0; j < kBlocksN; ++j)
    for (int i = 0; i < minimum.num_elements; ++i) minimum.x[i] = least(minimum.x[i], sums[j].x[i] * p.scale);
}

__global__ void __launch_bounds__(kThreads, 1) tensor_cores(Problem p, int tiles_w, int tiles_h) {
  extern __shared__ __align__(128) unsigned char memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, height = p.h - 2, width = p.w - 2;
  load_weights(p, shared);
  for (int tile = blockIdx.x; tile < tiles_w * tiles_h * p.n; tile += gridDim.x) {
    const int w0 = tile % tiles_w * kTileW, h0 = tile / tiles_w % tiles_h * kTileH, n = tile / (tiles_w * tiles_h);
    __syncthreads();  // the last tile has been used
    load_tile(p, n, h0, w0, shared);
    __syncthreads();
    for (int block = 0; block < kBlocksM; ++block) {
      Sums minimum;
      multiply(p, shared, warp, block * kM, minimum);
      wmma::store_matrix_sync(&shared.minima[warp][0][0], minimum, 16, wmma::mem_row_major);
      __syncwarp();
      const int oh = h0 + warp, ow = w0 + block * kM + lane;
      if (lane < kM && oh < height && ow < width) {
        float result = kNothing;
        for (int i = 0; i < 16; ++i) result = least(result, shared.minima[warp][lane][i]);
        p.y[(static_cast<size_t>(n) * height + oh) * width + ow] = result;
      }
      __syncwarp();
    }
  }
}

}  // namespace

int launch(Problem problem, void* stream) {
  if (problem.c != kC || problem.k != kK) return cudaErrorInvalidValue;
  int device = 0, multiprocessors = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  const cudaError_t error =
      cudaFuncSetAttribute(tensor_cores, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared));
  if (error != cudaSuccess) return error;
  tensor_cores<<<multiprocessors, kThreads, sizeof(Shared), static_cast<cudaStream_t>(stream)>>>(
      problem, ceil_div(problem.w - 2, kTileW), ceil_div(problem.h - 2, kTileH));
  return cudaGetLastError();
}
