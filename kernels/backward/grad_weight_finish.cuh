// The pieces of the runs that ends of segments cut, added in the order of the segments, and zeros for the channels that
// no pixel has.
#pragma once

#include "backward/runs.cuh"

namespace convmin::backward {

// 16 bytes of sums.
template <typename Accum>
struct alignas(16) Quad {
  static constexpr int kCount = 16 / static_cast<int>(sizeof(Accum));
  Accum values[kCount];
};

// How many segments after `segment` begin with `channel`: they follow each other. All of the block's threads look at
// once, each at one of 256 places, then between two of them.
__device__ __forceinline__ int following_segments(const Params& params, int segment, std::uint32_t channel) {
  const int left = params.segments - 1 - segment;
  int step = 1, found = 0;
  while (step * kFinishThreads < left) step *= kFinishThreads;
  for (; step >= 1; step /= kFinishThreads) {
    const int at = found + (static_cast<int>(threadIdx.x) + 1) * step;  // the at-th segment after it
    const bool same = at <= left && params.list.channels[(segment + at) * params.segment_pixels] == channel;
    found += step * __syncthreads_count(same);
  }
  return found;
}

// The run that begins in `segment` and goes on after it, if there is one: a block has a chunk of its columns, and each
// of the groups of finish_width threads an equal part of its pieces.
template <typename Element>
__device__ __forceinline__ void finish_run(const Params& params, int segment, int chunk) {
  using Accum = typename Numeric<Element>::Accum;
  constexpr int kQuad = Quad<Accum>::kCount;
  __shared__ Quad<Accum> sums[kFinishThreads];
  __shared__ double bias_sums[kFinishThreads];

  const int begin = segment * params.segment_pixels, end = begin + params.segment_pixels;
  if (end >= params.list_pixels) return;
  const std::uint32_t channel = params.list.channels[end - 1];
  if (channel >= static_cast<std::uint32_t>(params.k) || params.list.channels[end] != channel) return;
  if (begin > 0 && params.list.channels[begin - 1] == channel) return;  // it began earlier

  const int thread = static_cast<int>(threadIdx.x), width = params.finish_width;
  const int part = thread / width, parts = kFinishThreads / width;
  const int column = (chunk * width + thread % width) * kQuad;
  const bool mine = column < params.columns, keeps_bias = params.grad_bias != nullptr && column == 0;
  // Piece 0 is the last of its segment, every other one the first of its own.
  const int pieces = following_segments(params, segment, channel) + 1;
  const auto row_of = [&](int piece) { return static_cast<std::int64_t>(segment + piece) * 2 + (piece == 0 ? 1 : 0); };
  const int first = static_cast<int>(static_cast<std::int64_t>(pieces) * part / parts);
  const int last = static_cast<int>(static_cast<std::int64_t>(pieces) * (part + 1) / parts);
  Quad<Accum> sum{};
  double bias_sum = 0;
  if (mine) {
    const Accum* from = static_cast<const Accum*>(params.pieces) + column;
#pragma unroll 8
    for (int piece = first; piece < last; ++piece) {
      const auto values = *reinterpret_cast<const Quad<Accum>*>(from + row_of(piece) * params.columns);
#pragma unroll
      for (int v = 0; v < kQuad; ++v) sum.values[v] += values.values[v];
    }
  }
  if (keeps_bias) {
#pragma unroll 8
    for (int piece = first; piece < last; ++piece) bias_sum += params.bias_pieces[row_of(piece)];
  }
  sums[thread] = sum;
  bias_sums[thread] = bias_sum;
  __syncthreads();
  if (part != 0) return;
  for (int from = thread + width; from < kFinishThreads; from += width) {
#pragma unroll
    for (int v = 0; v < kQuad; ++v) sum.values[v] += sums[from].values[v];
    bias_sum += bias_sums[from];
  }
  if (keeps_bias) deliver_bias<Element>(params, channel, bias_sum);
  if (!mine) return;
#pragma unroll
  for (int v = 0; v < kQuad; ++v) {
    if (column + v >= params.columns) continue;
    const Column at = column_at(params, column + v);
    if (at.channel >= params.group_channels || at.r >= params.r) continue;  // filled up
    deliver<Element>(params, channel, column + v, grad_weight_place(params, at), sum.values[v]);
  }
}

template <typename Element>
__global__ void __launch_bounds__(kFinishThreads)
    conv_scale_min_grad_weight_finish(const __grid_constant__ Params params) {
  const std::int64_t run_blocks = static_cast<std::int64_t>(params.segments) * params.finish_chunks;
  const auto block = static_cast<std::int64_t>(blockIdx.x);
  if (block < run_blocks) {
    finish_run<Element>(params, static_cast<int>(block / params.finish_chunks),
                        static_cast<int>(block % params.finish_chunks));
    return;
  }
  const int thread = static_cast<int>(threadIdx.x), threads = params.empty_threads;
  const std::int64_t k = (block - run_blocks) * (kFinishThreads / threads) + thread / threads;
  if (k >= params.k || params.present[k] != 0) return;
  // In the order in which they are neighbours in grad_weight.
  const bool by_channel = params.grad_weight_stride_c == 1;
  const int taps = params.r * params.s, count = params.grad_weight != nullptr ? params.group_channels * taps : 0;
  for (int i = thread % threads; i < count; i += threads) {
    const int channel = by_channel ? i % params.group_channels : i / taps;
    const int tap = by_channel ? i / params.group_channels : i % taps;
    const Column at{channel, tap / params.s, tap % params.s};
    const int column = params.channel_fastest ? tap * params.tap_width + channel : channel * taps + tap;
    deliver<Element>(params, k, column, grad_weight_place(params, at), 0);
  }
  if (params.grad_bias != nullptr && thread % threads == 0) deliver_bias<Element>(params, k, 0);
}

}  // namespace convmin::backward
