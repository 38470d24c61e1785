// What units that share a tile send each other, where they are the blocks of a cluster: their parts of its sums, and
// their minima. A warp stores them in the shared memory of the block that adds or compares, in place of its stages and
// slots, and their bytes count towards a barrier there. Nothing is fenced, and nothing read from another block.
#pragma once

#include "ptx/cluster.cuh"
#include "sm90/patch/share.cuh"

namespace convmin::sm90::patch {

// Each block has one unit, in the order of splits and in each of parts. The sums of each warp are added up in one of a
// split's parts, and the minima over a subtile met in one of the splits.
template <typename T>
class Cluster {
 public:
  using Min = typename Epilogue<T>::Min;

  // What depends on the warp is the same in all its lanes also for the compiler: else it diverges, see add_parts().
  __device__ __forceinline__ Cluster(const Params& params, const Shared& shared, const Unit& unit)
      : params_(params), shared_(shared), unit_(unit) {
    if constexpr (T::kClustered) {
      warp_ = ptx::uniform(static_cast<int>(threadIdx.x) / 32);
      const QuotientRemainder by_adders = params.by_adders.divide(warp_);
      piece_ = static_cast<int>(by_adders.quotient);
      adder_ = static_cast<int>(by_adders.remainder);
    }
  }

  // Whether the warp has the result of one of its subtiles.
  __device__ __forceinline__ bool writes(int i) const { return adds() && writer(i) == unit_.split; }

  // By all consumers, when the block has read its stages and slots for the last time. The arrival need not release
  // anything: what the tensor cores have read, they have, and barriers were initialized with a fence of their own.
  __device__ __forceinline__ void open() const {
    int minima = 0;
#pragma unroll
    for (int i = 0; i < T::kPerConsumer; ++i) minima += writes(i) ? params_.splits * kMinimaBytes : 0;
    if (threadIdx.x % 32 == 0) {
      ptx::mbarrier_arrive_expect(shared_.sums_full + 8 * warp_, adds() ? params_.parts * kSumsBytes : 0);
      ptx::mbarrier_arrive_expect(shared_.minima_full + 8 * warp_, minima);
    }
    ptx::cluster_arrive_relaxed();
  }

  // All parts' sums, in an order that depends on nothing; zeros where another block adds them up. A branch around that
  // would make the code between two multiplications diverge for the compiler, which then has them wait for each other.
  __device__ __forceinline__ void add_parts(typename Mainloop<T>::Accumulators& accumulators) const {
    ptx::cluster_wait();
    const int adding = unit_.split * params_.parts + adder_;
    const std::uint32_t target = ptx::in_block(sums(unit_.part), adding),
                        full = ptx::in_block(shared_.sums_full + 8 * warp_, adding);
    for_each_vector<T>(accumulators, [&](const float* d, int i) {
      ptx::store_cluster_16(target + i * kVectorBytes, vector_of(d), full);
    });
    clear<T>(accumulators);
    for (int part = 0; part < (adds() ? params_.parts : 0); ++part) {
      ptx::mbarrier_wait(shared_.sums_full + 8 * warp_, 0);
      for_each_vector<T>(accumulators,
                         [&](float* d, int i) { add(ptx::load_shared_float4(sums(part) + i * kVectorBytes), d); });
    }
  }

  // Of the subtiles that the block writes, all splits' minima.
  __device__ __forceinline__ void combine_splits(Min (&best)[T::kPerConsumer]) const {
    if (params_.parts == 1) ptx::cluster_wait();
    if (!Epilogue<T>::lane_writes() || !adds()) return;
#pragma unroll
    for (int i = 0; i < T::kPerConsumer; ++i) {
      int channel = 0;
      if constexpr (T::kWithIndices) channel = best[i].channel;
      const int comparing = writer(i) * params_.parts + unit_.part;
      ptx::store_cluster_8(ptx::in_block(minimum(i, unit_.split), comparing),
                           make_uint2(__float_as_uint(best[i].value), static_cast<unsigned>(channel)),
                           ptx::in_block(shared_.minima_full + 8 * warp_, comparing));
    }
#pragma unroll
    for (int i = 0; i < T::kPerConsumer; ++i) {
      if (!writes(i)) continue;
      ptx::mbarrier_wait(shared_.minima_full + 8 * warp_, 0);
      for (int split = 0; split < params_.splits; ++split) {
        const uint2 pair = ptx::load_shared_8(minimum(i, split));
        Min other;
        other.value = __uint_as_float(pair.x);
        if constexpr (T::kWithIndices) other.channel = static_cast<int>(pair.y);
        best[i].merge(other);
      }
    }
  }

 private:
  static constexpr int kVectorBytes = 32 * 16;                      // of a warp's lanes
  static constexpr int kSumsBytes = T::kSumVectors * kVectorBytes;  // of a warp
  static constexpr int kMinimaBytes = 16 * 8;                       // of a warp's pixels of a subtile

  __device__ __forceinline__ bool adds() const { return adder_ == unit_.part; }
  // The split in whose block a subtile's minima meet.
  __device__ __forceinline__ int writer(int i) const {
    return min(warp_ / 4 * T::kPerConsumer + i, params_.splits - 1);
  }
  // Where a lane finds a part's first vector, and a split's minimum of a pixel.
  __device__ __forceinline__ std::uint32_t sums(int part) const {
    return shared_.stages + (piece_ * params_.parts + part) * kSumsBytes + threadIdx.x % 32 * 16;
  }
  __device__ __forceinline__ std::uint32_t minimum(int i, int split) const {
    const int subtile = (split * kConsumerWarps + warp_) * T::kPerConsumer + i;
    return shared_.stages + params_.landing_minima + subtile * kMinimaBytes + threadIdx.x % 32 / 2 * 8;
  }

  const Params& params_;
  const Shared& shared_;
  const Unit& unit_;
  int warp_;
  int adder_, piece_;  // which part's block adds the warp's sums up, and which of those that it adds they are
};

}  // namespace convmin::sm90::patch
