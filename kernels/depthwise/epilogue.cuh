// Bias, scale, and the minimum: over a lane's channels in turn, then over the lanes, then over the warps of a patch.
#pragma once

#include <cmath>

#include "common/candidate.cuh"
#include "depthwise/mainloop.cuh"
#include "ptx/cluster.cuh"

namespace convmin::depthwise {

// Where a warp is in its block.
struct Place {
  int lane, slot, patch, row, column;  // the patch's in the tile, in patches

  __device__ __forceinline__ explicit Place(const Params& params) {
    lane = static_cast<int>(threadIdx.x) % kLanes;
    const QuotientRemainder by_slots = params.by_slots.divide(threadIdx.x / kLanes);
    const QuotientRemainder by_column = params.by_patch_columns.divide(by_slots.quotient);
    slot = static_cast<int>(by_slots.remainder), patch = static_cast<int>(by_slots.quotient);
    row = static_cast<int>(by_column.quotient), column = static_cast<int>(by_column.remainder);
  }
};

// Of a pixel's lanes half keep the first half of kCount pixels, half the others: in the end two have the same one,
// which pixel_of() tells.
template <int kCount>
__device__ __forceinline__ Candidate<float> warp_minimum(const Candidate<float> (&best)[kCount], int lane) {
  if constexpr (kCount == 1) {
    Candidate<float> result = best[0];
    warp_min<2>(result);
    return result;
  } else {
    constexpr int kHalf = kCount / 2;
    const bool upper = (lane & kCount) != 0;
    Candidate<float> kept[kHalf];
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      // By values: a choice of objects would be one of addresses, and put them in memory.
      const float low = best[i].value, high = best[i + kHalf].value;
      const int low_channel = best[i].channel, high_channel = best[i + kHalf].channel;
      kept[i] = {upper ? high : low, upper ? high_channel : low_channel};
      kept[i].merge({__shfl_xor_sync(0xffffffffu, upper ? low : high, kCount),
                     __shfl_xor_sync(0xffffffffu, upper ? low_channel : high_channel, kCount)});
    }
    return warp_minimum(kept, lane);
  }
}
__device__ __forceinline__ int pixel_of(int lane) { return lane / 2; }

// Where a lane's pixel is in the output; -1: outside.
__device__ __forceinline__ std::int64_t output_of(const Params& params, const Tile& tile, const Place& place) {
  const int oh = tile.oh + place.row * kPatch + pixel_of(place.lane) / kPatch;
  const int ow = tile.ow + place.column * kPatch + pixel_of(place.lane) % kPatch;
  return oh < params.oh && ow < params.ow ? (tile.image * params.oh + oh) * params.ow + ow : -1;
}

// Every thread of the block must call it, and of the cluster where blocks share the tile: the split's number is this
// block's.
template <typename T>
__device__ __forceinline__ void finish(const Params& params, const Tile& tile, const Place& place, int split,
                                       char* shared, Candidate<float> (&best)[T::kPixels]) {
  static_assert(T::kPixels == kLanes / 2, "a pixel ends with two lanes");
  Candidate<float> result = warp_minimum(best, place.lane);
  bool writes = place.lane % 2 == 0;
  auto* const exchange =
      reinterpret_cast<Candidate<float>*>(shared) + place.patch * params.slots * T::kPixels + pixel_of(place.lane);
  if (params.slots > 1) {
    if (writes) exchange[place.slot * T::kPixels] = result;
    __syncthreads();
    if (place.slot != 0) return;
    for (int slot = 1; slot < params.slots; ++slot) result.merge(exchange[slot * T::kPixels]);
  }
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if (params.splits > 1) {
    if (writes) *exchange = result;
    ptx::cluster_arrive();
    ptx::cluster_wait();
    writes = writes && place.patch % params.splits == split;  // blocks have patches in turn
    for (int other = 0; writes && other < params.splits; ++other) {
      const uint2 pair = ptx::load_cluster_8(ptx::in_block(ptx::shared_address(exchange), other));
      result.merge({__uint_as_float(pair.x), static_cast<int>(pair.y)});
    }
    ptx::cluster_arrive();
  }
#endif
  const std::int64_t at = output_of(params, tile, place);
  if (writes && at >= 0) {
    using Element = typename T::Element;
    static_cast<Element*>(params.values)[at] = Numeric<Element>::round(result.value);
    if (params.indices != nullptr) write_index(params.indices, params.index_type, at, result.channel);
  }
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if (params.splits > 1) ptx::cluster_wait();  // until the others have read this block's shared memory
#endif
}

}  // namespace convmin::depthwise
