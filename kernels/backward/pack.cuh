// The weight as grad_input reads it: for a chunk of input channels, a row per output channel that holds all taps, each
// one vector of 16 bytes a lane. Eight lanes read 128 bytes at once, in whichever order the rows come: no two of them
// meet in a bank of shared memory.
#pragma once

#include "backward/read.cuh"

namespace convmin::backward {

inline constexpr int kPackThreads = 128;

// The channel of its chunk that a lane holds in its vector's element `v`: neighbours where grad_input's channels are
// neighbours in memory, else those that the transposition to rows of pixels wants.
__device__ __forceinline__ int channel_in_chunk(bool channels_last, int lanes, int vector, int lane, int v) {
  return channels_last ? lane * vector + v : lane + lanes * v;
}

// One block a row: (group, chunk, output channel of the group or, last, zeros).
template <typename Element>
__global__ void __launch_bounds__(kPackThreads)
    conv_scale_min_backward_pack(const __grid_constant__ Params params, int lanes) {
  constexpr int kVector = Vector<Element>::kCount;
  const int rows = params.group_outputs + 1, taps = params.r * params.s;
  const int row = static_cast<int>(blockIdx.x % rows), chunks = static_cast<int>(blockIdx.x / rows);
  const int chunk = chunks % params.channel_chunks, group = chunks / params.channel_chunks;
  const int width = lanes * kVector;
  const bool real = row < params.group_outputs;
  const auto* source =
      static_cast<const Element*>(params.weight) +
      (static_cast<std::int64_t>(group) * params.group_outputs + (real ? row : 0)) * params.weight_stride_k;
  auto* target = static_cast<Element*>(params.packed_weight) + static_cast<std::int64_t>(blockIdx.x) * taps * width;
  for (int i = static_cast<int>(threadIdx.x); i < taps * width; i += kPackThreads) {
    const int tap = i / width, lane = i % width / kVector, v = i % kVector;
    const int c = chunk * width + channel_in_chunk(params.channels_last, lanes, kVector, lane, v);
    const bool inside = real && c < params.group_channels;
    target[i] = inside ? source[c * params.weight_stride_c + tap / params.s * params.weight_stride_r +
                                tap % params.s * params.weight_stride_s]
                       : Numeric<Element>::round(0);
  }
}

}  // namespace convmin::backward
