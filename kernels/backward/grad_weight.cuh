// kWindow: partial sums of splits of the tiles, each block for a range of output channels and a chunk of 32 channels of
// the input, and their sum in the end.
#pragma once

#include "backward/plan.h"
#include "backward/segments.cuh"
#include "backward/sort.cuh"

namespace convmin::backward {

// What a block works on.
struct Work {
  int range, chunk, split;
  int first_output, outputs;  // of the range

  __device__ __forceinline__ Work(const Params& params, int block) {
    const int works = params.ranges * params.column_chunks;
    const int work = block % works;
    split = block / works;
    chunk = work % params.column_chunks;
    range = work / params.column_chunks;
    first_output = range * params.channel_range;
    outputs = min(params.channel_range, params.k - first_output);
  }
};

// The input under a tile: where the block's channels of its first pixel lie, and what of it is inside the image. Loads
// step from address to address by additions, and test a predicate each.
template <typename T>
struct TileInput {
  using Element = typename T::Element;
  const Params& params;
  int top, left, channels;
  const Element* corner;

  __device__ __forceinline__ TileInput(const Params& params_, const Work& work, int tile) : params(params_) {
    const TileCorner origin = tile_corner<T::kTileH>(params, tile);
    top = origin.oh - params.padding_h, left = origin.ow - params.padding_w - T::shift(params);
    channels = params.group_channels - work.chunk * 32;
    corner = static_cast<const Element*>(params.input) + origin.n * params.input_stride_n +
             work.chunk * 32 * params.input_stride_c + top * params.input_stride_h + left * params.input_stride_w;
  }

  __device__ __forceinline__ bool row_inside(int h) const {
    return static_cast<unsigned>(top + h) < static_cast<unsigned>(params.h);
  }
  __device__ __forceinline__ bool column_inside(int w) const {
    return static_cast<unsigned>(left + w) < static_cast<unsigned>(params.w);
  }
};

// A tile's sorted pixels on their way into shared memory, one a thread.
struct ListLoad {
  KeyedGradient pixel;
  std::uint32_t next_key;

  __device__ __forceinline__ void fetch(const Params& params, int tile, int pixels, int at) {
    const KeyedGradient* from = params.sorted_pixels + static_cast<std::int64_t>(tile) * pixels + at;
    pixel = *from;
    next_key = at + 1 < pixels ? from[1].key : kNoKey;
  }

  // Keys ascend, so exactly one thread sees each bound pass.
  template <typename Place>
  __device__ __forceinline__ void publish(const Work& work, int at, SortedPixel* pixels, Bounds* bounds,
                                          const Place& place) const {
    const auto channel = static_cast<int>(pixel.key >> kPlaceBits), next = static_cast<int>(next_key >> kPlaceBits);
    const int low = work.first_output, high = work.first_output + work.outputs;
    if (at == 0 && channel >= low) bounds->begin = 0;
    if (at == 0 && channel >= high) bounds->end = 0;
    if (channel < low && next >= low) bounds->begin = at + 1;
    if (channel < high && next >= high) bounds->end = at + 1;
    const auto where = static_cast<std::uint32_t>(place(static_cast<int>(pixel.key & ((1u << kPlaceBits) - 1))));
    pixels[at] = {pixel.gradient, static_cast<std::uint32_t>(channel - low) << kOffsetBits | where};
  }
};

template <typename T>
__device__ __forceinline__ void clear_sums(const Segments<T>& segments, int outputs) {
  for (int i = static_cast<int>(threadIdx.x); i < outputs * kRow; i += T::kWarps * 32) segments.sums[i] = 0;
  for (int i = static_cast<int>(threadIdx.x); i < outputs; i += T::kWarps * 32) segments.bias_sums[i] = 0;
}

// Partial sums of a block: [range][kTaps][32], then [range] of the bias in float64.
__host__ __device__ constexpr std::int64_t partial_bytes(std::int64_t range) { return range * (kRow * 4 + 8); }

template <typename T>
__device__ __forceinline__ void write_sums(const Params& params, const Work& work, const Segments<T>& segments) {
  const int works = params.ranges * params.column_chunks;
  const std::int64_t place = static_cast<std::int64_t>(blockIdx.x % works) * params.splits + work.split;
  auto* sums =
      reinterpret_cast<float*>(static_cast<char*>(params.partial_sums) + place * partial_bytes(params.channel_range));
  for (int i = static_cast<int>(threadIdx.x); i < work.outputs * kRow; i += T::kWarps * 32) {
    sums[i / kRow * kRow + T::Lane::slot(i % kRow)] = segments.sums[i];
  }
  auto* bias_sums = reinterpret_cast<double*>(sums + params.channel_range * kRow);
  for (int i = static_cast<int>(threadIdx.x); i < work.outputs; i += T::kWarps * 32) {
    bias_sums[i] = segments.bias_sums[i];
  }
}

struct TileRange {
  int begin, end;
};
__device__ __forceinline__ TileRange tiles_of(const Params& params, int split) {
  const std::int64_t tiles = params.tiles;
  return {static_cast<int>(tiles * split / params.splits), static_cast<int>(tiles * (split + 1) / params.splits)};
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

// One thread a sum [work][range][kTaps][32], then one a channel.
template <typename Element>
__global__ void __launch_bounds__(128) conv_scale_min_backward_reduce(const __grid_constant__ Params params) {
  const int works = params.ranges * params.column_chunks;
  const std::int64_t step = partial_bytes(params.channel_range);
  const std::int64_t weight_slots = static_cast<std::int64_t>(works) * params.channel_range * kRow;
  const std::int64_t slot = static_cast<std::int64_t>(blockIdx.x) * 128 + threadIdx.x;
  const auto* partial = static_cast<const char*>(params.partial_sums);
  if (slot >= weight_slots) {
    const auto k = static_cast<int>(slot - weight_slots);
    if (params.grad_bias == nullptr || k >= params.k) return;
    const std::int64_t work = static_cast<std::int64_t>(k / params.channel_range) * params.column_chunks;
    const std::int64_t within = params.channel_range * kRow * 4 + k % params.channel_range * 8;
    const auto total = add_splits<double>(partial + work * params.splits * step + within, step, params.splits);
    static_cast<Element*>(params.grad_bias)[k] = Numeric<Element>::round(static_cast<float>(total));
    return;
  }
  const auto lane = static_cast<int>(slot % 32), part = static_cast<int>(slot / 32 % kTaps);
  const auto row = static_cast<int>(slot / kRow % params.channel_range);
  const std::int64_t work = slot / kRow / params.channel_range;
  const int channel = static_cast<int>(work % params.column_chunks) * 32 + lane;
  const int k = static_cast<int>(work / params.column_chunks) * params.channel_range + row;
  if (k >= params.k || channel >= params.c) return;
  const std::int64_t within = (static_cast<std::int64_t>(row) * kRow + part * 32 + lane) * 4;
  const auto total = add_splits<float>(partial + work * params.splits * step + within, step, params.splits);
  static_cast<Element*>(
      params.grad_weight)[k * params.grad_weight_stride_k + channel * params.grad_weight_stride_c +
                          part / 3 * params.grad_weight_stride_r + part % 3 * params.grad_weight_stride_s] =
      Numeric<Element>::round(total);
}

}  // namespace convmin::backward
