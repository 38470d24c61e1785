// Bias, scale, and what the threads of a run make together: the sum of their sums, or the minimum of their minima.
#pragma once

#include <cmath>

#include "common/candidate.cuh"
#include "direct/mainloop.cuh"

namespace convmin::direct {

// Where a thread is in its tile.
struct Place {
  int run, slot;

  __device__ __forceinline__ explicit Place(const Params& params) {
    const auto thread = static_cast<int>(threadIdx.x);
    if (params.slots_inside) {
      slot = thread & (params.slots - 1), run = thread / params.slots;
    } else {
      slot = thread / params.tile_runs, run = thread % params.tile_runs;
    }
  }
};

// Sum, then product: scale may be infinite or NaN.
template <typename T>
__device__ __forceinline__ float finish(const Params& params, float sum, typename T::Element bias) {
  return (sum + Numeric<typename T::Element>::widen(bias)) * params.scale;
}

template <typename T>
__device__ __forceinline__ void write(const Params& params, const Run& run, int p, const Candidate<float>& best) {
  if (p >= run.pixels) return;
  const std::int64_t pixel = run.pixel + static_cast<std::int64_t>(p) * params.ow;
  static_cast<typename T::Element*>(params.values)[pixel] = Numeric<typename T::Element>::round(best.value);
  if (params.indices != nullptr) write_index(params.indices, params.index_type, pixel, best.channel);
}

// The run's values over all its threads, by merge(a, b): those of other warps, or of lanes that are no neighbours, meet
// in shared memory, neighbouring lanes shuffle. The thread in slot 0 ends with the result. Every thread of the block
// must call it.
template <int kCount, typename Value, typename Merge>
__device__ __forceinline__ void combine(const Params& params, const Place& place, char* shared, Value (&values)[kCount],
                                        Merge merge) {
  const int together = params.slots_inside ? min(params.slots, warpSize) : 1;  // that shuffle
  if (params.slots > together) {
    auto* const exchange = reinterpret_cast<Value*>(shared) + threadIdx.x;
#pragma unroll
    for (int i = 0; i < kCount; ++i) exchange[i * kThreads] = values[i];
    const int apart = params.slots_inside ? 1 : params.tile_runs;
    // Halves are added to halves, so that all threads take part for as long as there is work for them.
    for (int half = params.slots / 2; half >= together; half /= 2) {
      __syncthreads();
      if (place.slot < half) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
          merge(values[i], exchange[i * kThreads + half * apart]);
          exchange[i * kThreads] = values[i];
        }
      }
    }
    __syncthreads();
  }
  for (int offset = together / 2; offset > 0; offset /= 2) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      Value other = values[i];
      if constexpr (sizeof(Value) == sizeof(float)) {
        other = __shfl_xor_sync(0xffffffffu, values[i], offset);
      } else {
        other.value = __shfl_xor_sync(0xffffffffu, values[i].value, offset);
        other.channel = __shfl_xor_sync(0xffffffffu, values[i].channel, offset);
      }
      merge(values[i], other);
    }
  }
}

}  // namespace convmin::direct
