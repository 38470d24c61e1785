// What units that share a tile leave each other in shared memory, where they are the blocks of a cluster: their parts
// of its sums, and their minima. The stages and slots are free by then.
#pragma once

#include "ptx/cluster.cuh"
#include "sm90/patch/share.cuh"

namespace convmin::sm90::patch {

// Each block has one unit, in the order of splits and in each of parts. A warpgroup's sums are added up in one of a
// split's parts, and a subtile's minima met in one of the splits.
template <typename T>
struct Cluster {
  using Min = typename Epilogue<T>::Min;
  static constexpr int kVectorBytes = 128 * 16;  // of a warpgroup's threads
  static constexpr int kSumsBytes = kConsumers * T::kSumVectors * kVectorBytes;

  const Params& params;
  const Shared& shared;
  const Unit& unit;
  int warpgroup;  // the warp's: else what depends on it diverges, see add_parts()

  // Whether the block adds up the warpgroup's sums, and whether it has the result of one of its subtiles.
  __device__ __forceinline__ bool adds() const { return min(warpgroup, params.parts - 1) == unit.part; }
  __device__ __forceinline__ bool writes(int i) const {
    return adds() && min(warpgroup * T::kPerConsumer + i, params.splits - 1) == unit.split;
  }

  // All parts' sums, in an order that depends on nothing; zeros where another block adds them up. A branch around that
  // would make the code between two multiplications diverge for the compiler, which then has them wait for each other.
  __device__ __forceinline__ void add_parts(typename Mainloop<T>::Accumulators& accumulators) const {
    ptx::named_barrier_wait(kBarrier, kConsumerThreads);  // the other warpgroup reads the stages no more
    for_each_vector<T>(accumulators, [&](const float* d, int i) { ptx::store_shared_16(sums(i), vector_of(d)); });
    ptx::cluster_arrive();
    ptx::cluster_wait();
    clear<T>(accumulators);
    for (int part = 0; part < (adds() ? params.parts : 0); ++part) {
      const std::uint32_t first = ptx::in_block(sums(0), unit.split * params.parts + part);
      for_each_vector<T>(accumulators,
                         [&](float* d, int i) { add(ptx::load_cluster_16(first + i * kVectorBytes), d); });
    }
  }

  // Of the subtiles that the block writes, all splits' minima.
  __device__ __forceinline__ void combine_splits(Min (&best)[T::kPerConsumer]) const {
    ptx::named_barrier_wait(kBarrier, kConsumerThreads);  // as above
#pragma unroll
    for (int i = 0; i < T::kPerConsumer; ++i) {
      if (!Epilogue<T>::lane_writes() || !adds()) continue;
      int channel = 0;
      if constexpr (T::kWithIndices) channel = best[i].channel;
      ptx::store_shared_8(minimum(i), make_uint2(__float_as_uint(best[i].value), static_cast<unsigned>(channel)));
    }
    ptx::cluster_arrive();
    ptx::cluster_wait();
#pragma unroll
    for (int i = 0; i < T::kPerConsumer; ++i) {
      if (!Epilogue<T>::lane_writes() || !writes(i)) continue;
      for (int split = 0; split < params.splits; ++split) {
        const uint2 pair = ptx::load_cluster_8(ptx::in_block(minimum(i), split * params.parts + unit.part));
        Min other;
        other.value = __uint_as_float(pair.x);
        if constexpr (T::kWithIndices) other.channel = static_cast<int>(pair.y);
        best[i].merge(other);
      }
    }
  }

 private:
  // Where a thread leaves a vector of its sums, and a pixel's minimum.
  __device__ __forceinline__ std::uint32_t sums(int i) const {
    return shared.stages + (warpgroup * T::kSumVectors + i) * kVectorBytes + threadIdx.x % 128 * 16;
  }
  __device__ __forceinline__ std::uint32_t minimum(int i) const {
    const int pixel = (warpgroup * T::kPerConsumer + i) * kSubtile + Pixels::in_subtile(Epilogue<T>::pixel_of_lane());
    return shared.stages + (params.parts > 1 ? kSumsBytes : 0) + pixel * 8;
  }
};

}  // namespace convmin::sm90::patch
