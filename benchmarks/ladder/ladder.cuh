// What the steps of the ladder share: the problem, and a minimum that lets NaN through.
#pragma once

#include <cuda_runtime.h>

// 3x3, stride 1, no padding, NCHW: x [n, c, h, w], weight [k, c, 3, 3], bias [k], y [n, 1, h - 2, w - 2], all float32.
struct Problem {
  const float* x;
  const float* weight;
  const float* bias;
  float* y;
  float* workspace;  // of the weight's size
  float scale;
  int n, c, h, w, k;
};

constexpr int kTaps = 9;

// The identity of the minimum that follows.
__device__ constexpr float kNothing = __builtin_huge_valf();

__device__ inline float least(float a, float b) { return b < a || b != b ? b : a; }

__host__ __device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Each step defines this; it returns a cudaError_t. Called from Python by name.
extern "C" int launch(Problem problem, void* stream);
