// grad_input of a 3 x 3 convolution at stride 1: persistent blocks with a chunk's weights in shared memory.
//
//   entries [rows + 2][66] of a tile: gradient, and where its channel's weights lie      (the next tile's are under
//   way)
//     -> a thread holds 8 pixels of a row x 16 bytes of channels, and walks 3 rows x 10 entries
//     -> [channel][pixel] in shared memory, for rows of pixels in memory (channels_last: straight to memory)
#pragma once

#include "backward/pack.cuh"
#include "backward/plan.h"

namespace convmin::backward {

struct alignas(8) Entry {
  float gradient;
  int offset;  // bytes, of the channel's row of weights; outside the image, of the row of zeros
};

template <typename Element, int kLanes>
struct WindowInput {
  static constexpr int kVector = Vector<Element>::kCount, kWidth = kLanes * kVector;
  static constexpr int kRows = strip_tile_rows(kLanes), kPixels = kRows * kStripTileW;
  static constexpr int kStrips = kStripTileW / kStrip;
  static constexpr int kRowBytes = 9 * kLanes * kVectorBytes;
  static constexpr int kEntryRows = kRows + 2, kEntryColumns = kStripTileW + 2;
  static constexpr int kEntries = kEntryRows * kEntryColumns;
  static constexpr int kEntriesPerThread = (kEntries + kWindowThreads - 1) / kWindowThreads;
  static constexpr int kEntryBytes = window_entry_bytes(kLanes);
  static constexpr int kPitch = kPixels + kVectorBytes / static_cast<int>(sizeof(Element));  // of the stage
  static_assert(kStrips * kRows * kLanes == kWindowThreads, "every thread has a strip");
  static_assert(kPitch * sizeof(Element) * kWidth == window_stage_bytes(kLanes, sizeof(Element)), "as planned");

  // The tile's corner.
  struct Tile {
    int n, h, w;
  };

  const Params& params;
  Entry* entries;  // [2][kEntryRows][kEntryPitch]
  Element* stage;  // [kWidth][kPitch]
  unsigned char* weight;
  int thread, lane, row, column;  // of the thread's strip within the tile
  int group, first_channel, width;
  // The next tile's entries, as they lie in memory: nothing waits for them before they are published.
  Element next_gradients[kEntriesPerThread];
  int next_channels[kEntriesPerThread];

  __device__ __forceinline__ WindowInput(const Params& params_, unsigned char* memory, int chunk)
      : params(params_), entries(reinterpret_cast<Entry*>(memory)) {
    stage = reinterpret_cast<Element*>(memory + kEntryBytes);
    weight = memory + kEntryBytes + (params.channels_last ? 0 : kPitch * sizeof(Element) * kWidth);
    thread = static_cast<int>(threadIdx.x), lane = thread % kLanes;
    row = thread / kLanes / kStrips, column = thread / kLanes % kStrips * kStrip;
    group = chunk / params.channel_chunks;
    first_channel = chunk % params.channel_chunks * kWidth;
    width = min(kWidth, params.group_channels - first_channel);
    const std::int64_t bytes = static_cast<std::int64_t>(kRowBytes) * (params.group_outputs + 1);
    const auto* packed = static_cast<const unsigned char*>(params.packed_weight) + chunk * bytes;
    for (int i = thread * kVectorBytes; i < bytes; i += kWindowThreads * kVectorBytes) {
      *reinterpret_cast<uint4*>(weight + i) = *reinterpret_cast<const uint4*>(packed + i);
    }
  }

  __device__ __forceinline__ Tile tile_at(std::int64_t index) const {
    const int across = (params.w + kStripTileW - 1) / kStripTileW, down = (params.h + kRows - 1) / kRows;
    const auto n = static_cast<int>(index / (across * down));
    const auto rest = static_cast<int>(index - static_cast<std::int64_t>(n) * across * down);
    return {n, rest / across * kRows, rest % across * kStripTileW};
  }

  __device__ __forceinline__ void fetch(const Tile& tile) {
#pragma unroll
    for (int i = 0; i < kEntriesPerThread; ++i) {
      const int at = thread + i * kWindowThreads;
      const int oh = tile.h + params.padding_h - 2 + at / kEntryColumns;
      const int ow = tile.w + params.padding_w - 2 + at % kEntryColumns;
      next_gradients[i] = Numeric<Element>::round(0);
      next_channels[i] = -1;
      if (at >= kEntries || oh < 0 || oh >= params.oh || ow < 0 || ow >= params.ow) continue;
      const OutputPixel from = locate(params, tile.n, oh, ow);
      next_gradients[i] = static_cast<const Element*>(params.grad_output)[from.grad];
      next_channels[i] = read_channel(params, from.index);
    }
  }

  __device__ __forceinline__ void publish(int buffer) {
#pragma unroll
    for (int i = 0; i < kEntriesPerThread; ++i) {
      const int at = thread + i * kWindowThreads;
      const int output = next_channels[i] - group * params.group_outputs;
      const bool mine = static_cast<unsigned>(output) < static_cast<unsigned>(params.group_outputs);
      if (at < kEntries) {
        entries[(buffer * kEntryRows + at / kEntryColumns) * kEntryPitch + at % kEntryColumns] = {
            mine ? Numeric<Element>::widen(next_gradients[i]) * static_cast<float>(params.scale) : 0.0f,
            (mine ? output : params.group_outputs) * kRowBytes};
      }
    }
  }

  __device__ __forceinline__ void sum(int buffer, float (&sums)[kStrip][kVector]) const {
    const unsigned char* lane_weight = weight + lane * kVectorBytes;
#pragma unroll
    for (int r = 0; r < 3; ++r) {
      const Entry* from = entries + (buffer * kEntryRows + row + 2 - r) * kEntryPitch + column;
#pragma unroll
      for (int i = 0; i < kStrip + 2; ++i) {
        const Entry entry = from[i];
        const unsigned char* taps = lane_weight + entry.offset + r * 3 * kLanes * kVectorBytes;
#pragma unroll
        for (int s = 0; s < 3; ++s) {
          const int pixel = i - 2 + s;
          if (pixel < 0 || pixel >= kStrip) continue;
          const auto factors = *reinterpret_cast<const Vector<Element>*>(taps + s * kLanes * kVectorBytes);
#pragma unroll
          for (int v = 0; v < kVector; ++v) {
            sums[pixel][v] = fmaf(entry.gradient, Numeric<Element>::widen(factors.values[v]), sums[pixel][v]);
          }
        }
      }
    }
  }

  // channels_last: a pixel's lanes write neighbouring vectors.
  __device__ __forceinline__ void write_pixels(const Tile& tile, const float (&sums)[kStrip][kVector]) const {
    const int h = tile.h + row;
    if (h >= params.h) return;
    auto* to = static_cast<Element*>(params.grad_input) +
               ((static_cast<std::int64_t>(tile.n) * params.h + h) * params.w + tile.w + column) * params.c +
               group * params.group_channels + first_channel + lane * kVector;
    const bool whole = params.group_channels % kVector == 0;
#pragma unroll
    for (int pixel = 0; pixel < kStrip; ++pixel, to += params.c) {
      if (tile.w + column + pixel >= params.w) break;
      if (whole) {
        Vector<Element> values;
#pragma unroll
        for (int v = 0; v < kVector; ++v) values.values[v] = Numeric<Element>::round(sums[pixel][v]);
        if (lane * kVector < width) *reinterpret_cast<Vector<Element>*>(to) = values;
        continue;
      }
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        if (lane * kVector + v < width) to[v] = Numeric<Element>::round(sums[pixel][v]);
      }
    }
  }

  // Rows of channels to rows of pixels: lanes of neighbouring channels write a strip each.
  __device__ __forceinline__ void put_on_stage(const float (&sums)[kStrip][kVector]) const {
    constexpr int kPart = kVectorBytes / static_cast<int>(sizeof(Element));
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      Element* to = stage + (lane + kLanes * v) * kPitch + row * kStripTileW + column;
#pragma unroll
      for (int first = 0; first < kStrip; first += kPart) {
        Vector<Element> values;
#pragma unroll
        for (int i = 0; i < kPart; ++i) values.values[i] = Numeric<Element>::round(sums[first + i][v]);
        *reinterpret_cast<Vector<Element>*>(to + first) = values;
      }
    }
  }

  __device__ __forceinline__ void write_planes(const Tile& tile) const {
    constexpr int kPart = kVectorBytes / static_cast<int>(sizeof(Element));
    const std::int64_t plane = static_cast<std::int64_t>(params.h) * params.w;
    auto* corner =
        static_cast<Element*>(params.grad_input) +
        (static_cast<std::int64_t>(tile.n) * params.c + group * params.group_channels + first_channel) * plane +
        static_cast<std::int64_t>(tile.h) * params.w + tile.w;
    const int rows = min(kRows, params.h - tile.h), columns = min(kStripTileW, params.w - tile.w);
    if (params.w % kPart == 0) {
#pragma unroll 1
      for (int i = thread * kPart; i < width * kPixels; i += kWindowThreads * kPart) {
        const int c = i / kPixels, y = i % kPixels / kStripTileW, x = i % kStripTileW;
        if (y >= rows || x >= columns) continue;
        *reinterpret_cast<Vector<Element>*>(corner + c * plane + static_cast<std::int64_t>(y) * params.w + x) =
            *reinterpret_cast<const Vector<Element>*>(stage + c * kPitch + i % kPixels);
      }
      return;
    }
    for (int i = thread; i < width * kPixels; i += kWindowThreads) {
      const int c = i / kPixels, y = i % kPixels / kStripTileW, x = i % kStripTileW;
      if (y >= rows || x >= columns) continue;
      corner[c * plane + static_cast<std::int64_t>(y) * params.w + x] = stage[c * kPitch + i % kPixels];
    }
  }
};

template <typename Element, int kLanes>
__global__ void __launch_bounds__(kWindowThreads, 1)
    conv_scale_min_grad_input_window(const __grid_constant__ Params params) {
  using Block = WindowInput<Element, kLanes>;
  extern __shared__ __align__(16) unsigned char memory[];
  const int chunks = params.groups * params.channel_chunks;
  Block block(params, memory, static_cast<int>(blockIdx.x % chunks));
  const std::int64_t across = (params.w + kStripTileW - 1) / kStripTileW;
  const std::int64_t tiles = params.n * across * ((params.h + Block::kRows - 1) / Block::kRows);
  const std::int64_t step = gridDim.x / chunks;
  std::int64_t index = blockIdx.x / chunks;
  if (index >= tiles) return;
  block.fetch(block.tile_at(index));
  block.publish(0);
  __syncthreads();
  for (int buffer = 0; index < tiles; index += step, buffer ^= 1) {
    const typename Block::Tile tile = block.tile_at(index);
    const bool more = index + step < tiles;
    if (more) block.fetch(block.tile_at(index + step));
    float sums[kStrip][Block::kVector] = {};
    block.sum(buffer, sums);
    if (more) block.publish(buffer ^ 1);
    if (params.channels_last) {
      block.write_pixels(tile, sums);
      __syncthreads();
      continue;
    }
    __syncthreads();  // the previous tile has left the stage
    block.put_on_stage(sums);
    __syncthreads();
    block.write_planes(tile);
  }
}

}  // namespace convmin::backward
