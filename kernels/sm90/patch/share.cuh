// What units that share a tile leave each other in memory: their parts of its sums, and their minima. They may run at
// different times.
#pragma once

#include "ptx/named_barrier.cuh"
#include "sm90/epilogue.cuh"
#include "sm90/patch/mainloop.cuh"
#include "sm90/patch/shared.cuh"

namespace convmin::sm90::patch {

inline constexpr int kBarrier = 1, kConsumerThreads = 128 * kConsumers;  // of all consumers

// Where a consumer thread's pixels are in the output.
struct Pixels {
  const Params& params;
  const Origin origin;
  int first_subtile;  // of the warpgroup's

  // -1: outside. The second of a subtile's two pixels of a thread is 8 on.
  static __device__ __forceinline__ int in_subtile(int half) {
    const int thread = static_cast<int>(threadIdx.x);
    return thread % 128 / 32 * 16 + thread % 32 / 4 + 8 * half;
  }
  __device__ __forceinline__ std::int64_t at(int subtile, int half) const {
    const Patch& patch = params.patch;
    const int all = first_subtile + subtile, pixel = in_subtile(half);
    if (patch.runs_on) {
      const QuotientRemainder by_row = params.by_pitch.divide(origin.x + all * kSubtile + pixel);
      const QuotientRemainder by_image = params.by_run_rows.divide(by_row.quotient);
      return at(static_cast<int>(by_image.quotient), static_cast<int>(by_image.remainder),
                static_cast<int>(by_row.remainder));
    }
    const QuotientRemainder by_x = params.by_subtiles_x.divide(all);
    const QuotientRemainder by_y = params.by_subtiles_y.divide(by_x.quotient);
    const bool square = patch.subtile_w == 8;
    return at(origin.n + static_cast<int>(by_y.quotient),
              origin.y + static_cast<int>(by_y.remainder) * patch.subtile_h + (square ? pixel / 8 : 0),
              origin.x + static_cast<int>(by_x.remainder) * patch.subtile_w + (square ? pixel % 8 : pixel));
  }

 private:
  __device__ __forceinline__ std::int64_t at(int n, int y, int x) const {
    const bool inside = n < params.n && y < params.oh && x < params.ow;
    return inside ? (static_cast<std::int64_t>(n) * params.oh + y) * params.ow + x : -1;
  }
};

// Whether all of `count` that share something have counted themselves. What was written before is read after.
__device__ __forceinline__ bool is_last(const Shared& shared, int* counter, int count) {
  __threadfence();
  ptx::named_barrier_wait(kBarrier, kConsumerThreads);
  if (threadIdx.x == 0) *shared.is_last = atomicAdd(counter, 1) == count - 1;
  ptx::named_barrier_wait(kBarrier, kConsumerThreads);
  const bool last = *shared.is_last != 0;
  __threadfence();
  return last;
}

// Leaves a part's sums in memory; the unit that finds all parts of its split there returns true with the sums of all,
// added in an order that does not depend on which unit that is.
template <typename T>
__device__ __forceinline__ bool add_parts(const Params& params, const Shared& shared, const Unit& unit,
                                          typename Mainloop<T>::Accumulators& accumulators) {
  constexpr int kVectors = T::kTileN / 8;  // of a subtile's sums in a thread
  constexpr int kPartVectors = T::kPerConsumer * kVectors * kConsumerThreads;
  const std::int64_t sums = static_cast<std::int64_t>(unit.tile) * params.splits + unit.split;
  float4* const first = params.partials + sums * params.parts * kPartVectors + threadIdx.x;
#pragma unroll
  for (int i = 0; i < T::kPerConsumer; ++i) {
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      const float* d = &accumulators[i][4 * j];
      __stcg(first + (unit.part * T::kPerConsumer * kVectors + i * kVectors + j) * kConsumerThreads,
             make_float4(d[0], d[1], d[2], d[3]));
    }
  }
  if (!is_last(shared, &params.counters[params.tiles + sums], params.parts)) return false;
  const bool two = params.parts == 2;  // their sum is the same either way: this unit's need not be read again
#pragma unroll
  for (auto& subtile : accumulators) {
#pragma unroll
    for (float& sum : subtile) sum = two ? sum : 0.0f;
  }
  const float4* next = first;
  for (int part = 0; part < params.parts; ++part, next += kPartVectors) {
    if (two && part == unit.part) continue;
#pragma unroll
    for (int i = 0; i < T::kPerConsumer; ++i) {
#pragma unroll
      for (int j = 0; j < kVectors; ++j) {
        float* d = &accumulators[i][4 * j];
        const float4 sum = __ldcg(next + (i * kVectors + j) * kConsumerThreads);
        d[0] += sum.x, d[1] += sum.y, d[2] += sum.z, d[3] += sum.w;
      }
    }
  }
  return true;
}

// Leaves a split's minima in memory; the unit that finds all splits of its tile there returns true with the minima of
// all. Their order does not matter, so it does not matter either which unit that is.
template <typename T>
__device__ __forceinline__ bool combine_splits(const Params& params, const Shared& shared, const Unit& unit,
                                               const Pixels& pixels,
                                               typename Epilogue<T>::Min (&best)[T::kPerConsumer]) {
  const std::int64_t all = static_cast<std::int64_t>(params.n) * params.oh * params.ow;
#pragma unroll
  for (int i = 0; i < T::kPerConsumer; ++i) {
    const std::int64_t pixel = pixels.at(i, Epilogue<T>::pixel_of_lane()), at = unit.split * all + pixel;
    if (!Epilogue<T>::lane_writes() || pixel < 0) continue;
    __stcg(&params.split_values[at], best[i].value);
    if constexpr (T::kWithIndices) __stcg(&params.split_channels[at], best[i].channel);
  }
  if (!is_last(shared, &params.counters[unit.tile], unit.splits)) return false;
#pragma unroll
  for (int i = 0; i < T::kPerConsumer; ++i) {
    const std::int64_t pixel = pixels.at(i, Epilogue<T>::pixel_of_lane());
    if (pixel < 0) continue;
#pragma unroll 4
    for (int split = 0; split < unit.splits; ++split) {
      typename Epilogue<T>::Min other;
      other.value = __ldcg(&params.split_values[split * all + pixel]);
      if constexpr (T::kWithIndices) other.channel = __ldcg(&params.split_channels[split * all + pixel]);
      best[i].merge(other);
    }
  }
  return true;
}

}  // namespace convmin::sm90::patch
