// Where a block's tile is, and a stage of its input and weight on their way to shared memory.
#pragma once

#include "common/load.cuh"
#include "depthwise/params.h"
#include "depthwise/traits.h"
#include "ptx/cp_async.cuh"
#include "ptx/shared_address.cuh"

namespace convmin::depthwise {

struct Tile {
  std::int64_t image;  // its number
  int oh, ow;          // the first output pixel
  int ih, iw;          // the corner of its window, which padding may put outside the image

  template <typename T>
  static __device__ __forceinline__ Tile at(const Params& params, int index) {
    const QuotientRemainder by_w = params.by_tiles_w.divide(index);
    const QuotientRemainder by_h = params.by_tiles_h.divide(by_w.quotient);
    Tile tile;
    tile.image = by_h.quotient;
    tile.oh = static_cast<int>(by_h.remainder) * params.patch_rows * kPatch;
    tile.ow = static_cast<int>(by_w.remainder) * params.patch_columns * kPatch;
    tile.ih = tile.oh * T::kStep - params.padding_h;
    tile.iw = tile.ow * T::kStep - params.padding_w;
    return tile;
  }
};

// Where in an image each unit of a tile's input is, in bytes; -1: outside. By all threads, before the first stage.
template <typename T>
__device__ __forceinline__ void locate_units(const Params& params, const Tile& tile, int* units) {
  for (int unit = static_cast<int>(threadIdx.x); unit < params.units; unit += static_cast<int>(blockDim.x)) {
    const QuotientRemainder at = params.by_row_units.divide(unit);
    const int ih = tile.ih + static_cast<int>(at.quotient);
    const int iw = tile.iw - params.shift + static_cast<int>(at.remainder) * T::kUnitColumns;
    const bool inside = static_cast<unsigned>(ih) < static_cast<unsigned>(params.h) &&
                        static_cast<unsigned>(iw) < static_cast<unsigned>(params.w);
    units[unit] = inside ? static_cast<int>(ih * params.input_stride_h + iw * params.input_stride_w) : -1;
  }
  __syncthreads();
}

// A unit of each of `channels` channels, from `source` to `target` at these distances; zeros where not `inside`.
template <typename T>
__device__ __forceinline__ void copy_channels(const char* source, std::int64_t source_pitch, std::uint32_t target,
                                              int target_pitch, int channels, bool inside) {
  constexpr int kTogether = 8;
  if constexpr (T::kUnitColumns * T::kSize == 4) {
#pragma unroll kTogether
    for (int i = 0; i < channels; ++i, source += source_pitch, target += target_pitch) {
      ptx::cp_async_4(target, source, inside);
    }
  } else {
    using Element = typename T::Element;
    for (int first = 0; first < channels; first += kTogether) {
      Element values[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i, source += source_pitch) {
        const bool reads = inside && first + i < channels;
        values[i] = reads ? load_read_only(reinterpret_cast<const Element*>(source)) : Element{};
      }
#pragma unroll
      for (int i = 0; i < kTogether; ++i, target += target_pitch) {
        if (first + i < channels) ptx::store_shared(target, values[i]);
      }
    }
  }
}

// By pixels: neighbouring threads have neighbouring ones of the same channels, a part of the stage's.
template <typename T>
__device__ __forceinline__ void bring_pixels(const Params& params, const char* image, const int* units,
                                             std::uint32_t stage, int first_channel) {
  const QuotientRemainder place = params.by_copiers.divide(threadIdx.x);
  const int begin = static_cast<int>(place.quotient) * params.copied_channels, channel = first_channel + begin;
  const int channels = min(params.copied_channels, params.channels - channel);
  const char* const source = image + channel * params.input_stride_c;
  std::uint32_t target = stage + begin * params.input_pitch + place.remainder * (T::kUnitColumns * T::kSize);
  for (int unit = static_cast<int>(place.remainder); unit < params.units; unit += params.copiers) {
    const int offset = units[unit];
    copy_channels<T>(source + max(offset, 0), params.input_stride_c, target, params.input_pitch, channels, offset >= 0);
    target += params.copiers * (T::kUnitColumns * T::kSize);
  }
}

// By vectors of channels: neighbouring threads have a pixel's, as far as 32 channels go.
template <typename T>
__device__ __forceinline__ void bring_vectors(const Params& params, const char* image, const int* units,
                                              std::uint32_t stage, int first_channel) {
  constexpr int kVectors = kLanes / T::kChannelsTogether, kTogether = 4;
  const int vector = static_cast<int>(threadIdx.x) % kVectors, threads = static_cast<int>(blockDim.x) / kVectors;
  const int first_unit = static_cast<int>(threadIdx.x) / kVectors;
  for (int slot = 0; slot < params.slots; ++slot) {
    const int channel = first_channel + slot * kLanes + vector * T::kChannelsTogether;
    if (channel >= params.channels) break;
    const char* const source = image + channel * T::kSize;
    std::uint32_t target = stage + slot * params.input_pitch + first_unit * T::kColumnPitch + vector * kVectorBytes;
    for (int first = first_unit; first < params.units; first += kTogether * threads) {
      int offsets[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) offsets[i] = units[min(first + i * threads, params.units - 1)];
#pragma unroll
      for (int i = 0; i < kTogether; ++i, target += threads * T::kColumnPitch) {
        if (first + i * threads < params.units) {
          ptx::cp_async_16(target, source + max(offsets[i], 0), offsets[i] >= 0);
        }
      }
    }
  }
}

// Filter after filter, as they lie in global memory if that is so in whole vectors.
template <typename T>
__device__ __forceinline__ void bring_weight(const Params& params, std::uint32_t stage, int first_channel) {
  using Element = typename T::Element;
  const auto* const weight = static_cast<const Element*>(params.weight);
  const int count = min(params.slots * kLanes, params.channels - first_channel) * T::kTaps;
  const auto thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  constexpr int kTogether = kVectorBytes / T::kSize;
  const int whole = params.weight_vectors ? count / kTogether * kTogether : 0;
  for (int first = thread * kTogether; first < whole; first += threads * kTogether) {
    ptx::cp_async_16(stage + first * T::kSize, weight + (first_channel * T::kTaps + first));
  }
  for (int element = whole + thread; element < count; element += threads) {
    const int channel = element / T::kTaps, tap = element % T::kTaps;
    ptx::store_shared(
        stage + element * T::kSize,
        load_read_only(weight + (first_channel + channel) * params.weight_stride_k +
                       tap / T::kWindow * params.weight_stride_r + tap % T::kWindow * params.weight_stride_s));
  }
}

// `image` is the tile's.
template <typename T>
__device__ __forceinline__ void bring_stage(const Params& params, const char* image, const int* units,
                                            std::uint32_t stage, int index) {
  const int first_channel = index * params.slots * kLanes;
  if constexpr (T::kVectors) {
    bring_vectors<T>(params, image, units, stage, first_channel);
    bring_weight<T>(params, stage + params.input_bytes, first_channel);
  } else {
    bring_weight<T>(params, stage + params.input_bytes, first_channel);
    bring_pixels<T>(params, image, units, stage, first_channel);
  }
  ptx::cp_async_commit();
}

}  // namespace convmin::depthwise
