// grad_weight and grad_bias: partial sums of splits of the tiles, each block for a range of output channels and a chunk
// of columns. Two ways to stage the input: 32 columns of the unfolded input for any convolution, or a tile of 32
// channels that serves all nine taps.
#pragma once

#include <type_traits>

#include "backward/plan.h"
#include "backward/segments.cuh"
#include "backward/sort.cuh"

namespace convmin::backward {

// What a block works on.
struct Work {
  int group, range, chunk, split;
  int first_output, outputs;  // of the range

  __device__ __forceinline__ Work(const Params& params, int block) {
    const int works = params.groups * params.ranges * params.column_chunks;
    const int work = block % works;
    split = block / works;
    chunk = work % params.column_chunks;
    range = work / params.column_chunks % params.ranges;
    group = work / params.column_chunks / params.ranges;
    first_output = group * params.group_outputs + range * params.channel_range;
    outputs = min(params.channel_range, params.group_outputs - range * params.channel_range);
  }
};

// A tile's sorted pixels on their way into shared memory, one a thread.
template <typename Accum>
struct ListLoad {
  std::uint32_t key, next_key;
  Accum gradient;

  __device__ __forceinline__ void fetch(const Params& params, std::int64_t tile, int pixels, int at) {
    const std::uint32_t* keys = params.sorted_keys + tile * pixels;
    key = keys[at];
    next_key = at + 1 < pixels ? keys[at + 1] : kNoKey;
    gradient = static_cast<const Accum*>(params.sorted_values)[tile * pixels + at];
  }

  // Keys ascend, so exactly one thread sees each bound pass.
  template <typename Place>
  __device__ __forceinline__ void publish(const Work& work, int at, SortedPixel<Accum>* pixels, Bounds* bounds,
                                          const Place& place) const {
    const auto channel = static_cast<int>(key >> kPlaceBits), next = static_cast<int>(next_key >> kPlaceBits);
    const int low = work.first_output, high = work.first_output + work.outputs;
    if (at == 0 && channel >= low) bounds->begin = 0;
    if (at == 0 && channel >= high) bounds->end = 0;
    if (channel < low && next >= low) bounds->begin = at + 1;
    if (channel < high && next >= high) bounds->end = at + 1;
    const auto where = static_cast<std::uint32_t>(place(static_cast<int>(key & ((1u << kPlaceBits) - 1))));
    pixels[at] = {gradient, static_cast<std::uint32_t>(channel - low) << kOffsetBits | where};
  }
};

template <typename T>
__device__ __forceinline__ void clear_sums(const Segments<T>& segments, int outputs) {
  for (int i = static_cast<int>(threadIdx.x); i < outputs * T::kParts * 32; i += T::kWarps * 32) segments.sums[i] = 0;
  for (int i = static_cast<int>(threadIdx.x); i < outputs; i += T::kWarps * 32) segments.bias_sums[i] = 0;
}

// Partial sums of a block: [range][kParts][32], then [range] of the bias in float64.
template <typename Accum>
__host__ __device__ constexpr std::int64_t partial_bytes(std::int64_t range, int parts) {
  return range * (parts * 32 * static_cast<int>(sizeof(Accum)) + 8);
}

template <typename T>
__device__ __forceinline__ void write_sums(const Params& params, const Work& work, const Segments<T>& segments) {
  using Accum = typename T::Accum;
  constexpr int kRow = T::kParts * 32;
  const int works = params.groups * params.ranges * params.column_chunks;
  const std::int64_t place = static_cast<std::int64_t>(blockIdx.x % works) * params.splits + work.split;
  auto* to = static_cast<char*>(params.partial_sums) + place * partial_bytes<Accum>(params.channel_range, T::kParts);
  auto* sums = reinterpret_cast<Accum*>(to);
  for (int i = static_cast<int>(threadIdx.x); i < work.outputs * kRow; i += T::kWarps * 32) sums[i] = segments.sums[i];
  auto* bias_sums = reinterpret_cast<double*>(sums + params.channel_range * kRow);
  for (int i = static_cast<int>(threadIdx.x); i < work.outputs; i += T::kWarps * 32) {
    bias_sums[i] = segments.bias_sums[i];
  }
}

struct TileRange {
  std::int64_t begin, end;
};
__device__ __forceinline__ TileRange tiles_of(const Params& params, int split) {
  return {params.tiles * split / params.splits, params.tiles * (split + 1) / params.splits};
}

// A column of the unfolded input: its channel and tap.
struct Column {
  int channel, r, s;
};
__device__ __forceinline__ Column column_at(const Params& params, int index) {
  const int taps = params.r * params.s;
  const int channel = params.channel_fastest ? index % params.group_channels : index / taps;
  const int tap = params.channel_fastest ? index / params.group_channels : index % taps;
  return {channel, tap / params.s, tap % params.s};
}

// The splits' sums, added in order.
template <typename Sum>
__device__ __forceinline__ Sum add_splits(const void* first, std::int64_t step_bytes, int splits) {
  const auto* at = static_cast<const char*>(first);
  Sum total = 0;
#pragma unroll 8
  for (int split = 0; split < splits; ++split) total += *reinterpret_cast<const Sum*>(at + split * step_bytes);
  return total;
}

// One thread a sum [work][range][kParts][32], then one a channel.
template <typename Element, int kParts>
__global__ void __launch_bounds__(128) conv_scale_min_backward_reduce(const __grid_constant__ Params params) {
  using Accum = typename Numeric<Element>::Accum;
  constexpr int kRow = kParts * 32;
  const int works = params.groups * params.ranges * params.column_chunks;
  const std::int64_t step = partial_bytes<Accum>(params.channel_range, kParts);
  const std::int64_t weight_slots = static_cast<std::int64_t>(works) * params.channel_range * kRow;
  const std::int64_t slot = static_cast<std::int64_t>(blockIdx.x) * 128 + threadIdx.x;
  const auto* partial = static_cast<const char*>(params.partial_sums);
  if (slot >= weight_slots) {
    const std::int64_t k = slot - weight_slots;
    if (params.grad_bias == nullptr || k >= params.k) return;
    const auto output = static_cast<int>(k % params.group_outputs);
    const std::int64_t work =
        (k / params.group_outputs * params.ranges + output / params.channel_range) * params.column_chunks;
    const std::int64_t within =
        params.channel_range * kRow * static_cast<int>(sizeof(Accum)) + output % params.channel_range * 8;
    const auto total = add_splits<double>(partial + work * params.splits * step + within, step, params.splits);
    static_cast<Element*>(params.grad_bias)[k] = Numeric<Element>::round(static_cast<Accum>(total));
    return;
  }
  if (params.grad_weight == nullptr) return;
  const auto lane = static_cast<int>(slot % 32), part = static_cast<int>(slot / 32 % kParts);
  const auto row = static_cast<int>(slot / kRow % params.channel_range);
  const std::int64_t work = slot / kRow / params.channel_range;
  const auto chunk = static_cast<int>(work % params.column_chunks);
  const auto range = static_cast<int>(work / params.column_chunks % params.ranges);
  const auto group = static_cast<int>(work / params.column_chunks / params.ranges);
  const int output = range * params.channel_range + row;
  Column column{chunk * 32 + lane, part / 3, part % 3};
  if constexpr (kParts == 1) {
    if (column.channel >= params.columns) return;
    column = column_at(params, column.channel);
  }
  if (output >= params.group_outputs || column.channel >= params.group_channels) return;
  const std::int64_t within = (static_cast<std::int64_t>(row) * kRow + part * 32 + lane) * sizeof(Accum);
  const auto total = add_splits<Accum>(partial + work * params.splits * step + within, step, params.splits);
  const std::int64_t k = static_cast<std::int64_t>(group) * params.group_outputs + output;
  static_cast<Element*>(
      params.grad_weight)[k * params.grad_weight_stride_k + column.channel * params.grad_weight_stride_c +
                          column.r * params.grad_weight_stride_r + column.s * params.grad_weight_stride_s] =
      Numeric<Element>::round(total);
}

}  // namespace convmin::backward
