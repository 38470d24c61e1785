// Step 1: the formula as it stands. One thread computes one output pixel: all of its channels, one after the other.
//
// Every multiply-add takes two loads. A warp's 32 pixels lie side by side, so the load of x is one wide access that the
// L1 cache serves (9 taps and all output channels read the same values), and that of the weight is the same address for
// all.
#include "ladder.cuh"

namespace {

__global__ void naive(Problem p) {
  const int ow = blockIdx.x * blockDim.x + threadIdx.x, oh = blockIdx.y;
  const int height = p.h - 2, width = p.w - 2;
  if (ow >= width) return;
  const float* image = p.x + static_cast<size_t>(blockIdx.z) * p.c * p.h * p.w;

  float minimum = kNothing;
  for (int k = 0; k < p.k; ++k) {
    float sum = p.bias[k];
    for (int c = 0; c < p.c; ++c)
      for (int r = 0; r < 3; ++r)
        for (int s = 0; s < 3; ++s)
          sum +=
              image[(static_cast<size_t>(c) * p.h + oh + r) * p.w + ow + s] * p.weight[((k * p.c + c) * 3 + r) * 3 + s];
    minimum = least(minimum, sum * p.scale);
  }
  p.y[(static_cast<size_t>(blockIdx.z) * height + oh) * width + ow] = minimum;
}

}  // namespace

int launch(Problem problem, void* stream) {
  const dim3 grid(ceil_div(problem.w - 2, 128), problem.h - 2, problem.n);
  naive<<<grid, 128, 0, static_cast<cudaStream_t>(stream)>>>(problem);
  return cudaGetLastError();
}
