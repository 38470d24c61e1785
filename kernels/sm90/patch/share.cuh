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

// Counts the block in, and returns how many were before. What those wrote before is read after.
__device__ __forceinline__ int count_in(const Shared& shared, int* counter) {
  __threadfence();
  ptx::named_barrier_wait(kBarrier, kConsumerThreads);
  if (threadIdx.x == 0) *shared.counted = atomicAdd(counter, 1);
  ptx::named_barrier_wait(kBarrier, kConsumerThreads);
  const int before = ptx::uniform(*shared.counted);
  __threadfence();
  return before;
}

// Until all of `count` have counted themselves in. A loop that one thread waits in would have the compiler take the
// warps for diverged, and each wgmma wait for the one before; this one they leave together.
__device__ __forceinline__ void await(const int* counter, int count) {
  while (ptx::uniform(*static_cast<const volatile int*>(counter)) < count) {
  }
  __threadfence();
}

// What a sum's parts leave each other.
struct Sum {
  int part, parts;
  int* counter;
  float4* left;  // by each part, or by the first of two: as its threads hold it

  template <typename T>
  static constexpr int kVectors = T::kSumVectors * kConsumerThreads;
};

// Of a unit's tile of output channels; of one part where the unit has all of it.
template <typename T>
__device__ __forceinline__ Sum sum_of(const Params& params, const Unit& unit, int block) {
  int part = unit.part, parts = params.parts, index = unit.tile * params.splits + unit.split;
  if (params.grains > 0) {
    const bool cut_before = unit.first_chunk_of(block) > 0,
               cut_after = unit.end_chunk_of(params, block) < params.chunks;
    part = cut_before ? 1 : 0, parts = cut_before || cut_after ? 2 : 1;
    index = static_cast<int>(blockIdx.x) - part;  // of the share whose end it is
  }
  const std::int64_t left = static_cast<std::int64_t>(index) * (parts == 2 ? 1 : parts);
  return {part, parts, &params.counters[params.tiles + index], params.partials + left * Sum::kVectors<T> + threadIdx.x};
}

// Calls visit(sums, i) for each of a thread's vectors of four sums.
template <typename T, typename Visit>
__device__ __forceinline__ void for_each_vector(typename Mainloop<T>::Accumulators& accumulators, Visit&& visit) {
  constexpr int kOfSubtile = T::kSumVectors / T::kPerConsumer;
#pragma unroll
  for (int i = 0; i < T::kPerConsumer; ++i) {
#pragma unroll
    for (int j = 0; j < kOfSubtile; ++j) visit(&accumulators[i][4 * j], i * kOfSubtile + j);
  }
}

__device__ __forceinline__ float4 vector_of(const float* d) { return make_float4(d[0], d[1], d[2], d[3]); }
__device__ __forceinline__ void add(const float4& sum, float* d) {
  d[0] += sum.x, d[1] += sum.y, d[2] += sum.z, d[3] += sum.w;
}

template <typename T>
__device__ __forceinline__ void clear(typename Mainloop<T>::Accumulators& accumulators) {
#pragma unroll
  for (auto& subtile : accumulators) {
#pragma unroll
    for (float& sum : subtile) sum = 0.0f;
  }
}

// A part's sums: left in memory as threads hold them, and added from there.
template <typename T>
__device__ __forceinline__ void leave(float4* target, typename Mainloop<T>::Accumulators& accumulators) {
  for_each_vector<T>(accumulators, [&](const float* d, int i) { __stcg(target + i * kConsumerThreads, vector_of(d)); });
}
template <typename T>
__device__ __forceinline__ void add_left(const float4* source, typename Mainloop<T>::Accumulators& accumulators) {
  for_each_vector<T>(accumulators, [&](float* d, int i) { add(__ldcg(source + i * kConsumerThreads), d); });
}

// Leaves a part of a sum in memory; the block that comes last returns true with the sum of all, added in an order that
// does not depend on which block that is.
template <typename T>
__device__ __forceinline__ bool add_parts(const Shared& shared, const Sum& sum,
                                          typename Mainloop<T>::Accumulators& accumulators) {
  if (sum.parts == 2) {  // the same either way: the second need not leave its own
    const int before = count_in(shared, sum.counter);
    if (before == 0) {
      leave<T>(sum.left, accumulators);
      count_in(shared, sum.counter);  // ready
      return false;
    }
    // The first runs, so it is not waited for long.
    if (before == 1) await(sum.counter, 3);
    add_left<T>(sum.left, accumulators);
    return true;
  }
  leave<T>(sum.left + sum.part * Sum::kVectors<T>, accumulators);
  if (count_in(shared, sum.counter) < sum.parts - 1) return false;
  clear<T>(accumulators);
  for (int part = 0; part < sum.parts; ++part) add_left<T>(sum.left + part * Sum::kVectors<T>, accumulators);
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
  if (count_in(shared, &params.counters[unit.tile]) < unit.splits - 1) return false;
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
