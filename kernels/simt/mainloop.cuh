// Multiplies the shared-memory tiles into a register tile, one step of the reduction ahead of the producer's loads.
#pragma once

#include "simt/producer.cuh"

namespace convmin::simt {

// Where a thread's register tile lies in the block's tile.
template <typename T>
struct ThreadTile {
  int warp_m, warp_n, lane_m, lane_n;

  __device__ __forceinline__ ThreadTile() {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    warp_m = warp % T::kWarpsM;
    warp_n = warp / T::kWarpsM;
    lane_m = lane / T::kLanesN;
    lane_n = lane % T::kLanesN;
  }

  // The i-th of the thread's kThreadM pixels, the j-th of its kThreadN channels. Both ascend.
  __device__ __forceinline__ int m(int i) const {
    return warp_m * T::kWarpTileM + (i / T::kVectorM * T::kLanesM + lane_m) * T::kVectorM + i % T::kVectorM;
  }
  __device__ __forceinline__ int n(int j) const {
    return warp_n * T::kWarpTileN + (j / T::kVectorN * T::kLanesN + lane_n) * T::kVectorN + j % T::kVectorN;
  }
};

template <typename T>
class Mainloop {
 public:
  using Accum = typename T::Accum;
  using Accumulators = Accum[T::kThreadM][T::kThreadN];

  // Sums the whole reduction of the producer's selection. Every thread of the block must call it.
  static __device__ __forceinline__ void run(const Params& params, SharedStorage<T>& shared, Producer<T>& producer,
                                             const ThreadTile<T>& tile, Accumulators& accumulators) {
    clear(accumulators);
    Accumulators part;
    const int steps = (params.reduction + T::kTileK - 1) / T::kTileK;
    producer.locate_taps(0);
    producer.locate_taps(1);
    __syncthreads();
    producer.fetch(0);
    producer.store(0);
    __syncthreads();
    for (int step = 0; step < steps; ++step) {
      const bool more = step + 1 < steps;
      if (more) producer.fetch(step + 1);
      // The taps of `step` were last read before the barrier that ended the previous iteration.
      producer.locate_taps(step + 2);
      if constexpr (T::kPartSteps == 0) {
        multiply(shared.input[step % 2], shared.weight[step % 2], tile, accumulators);
      } else {
        if (step % T::kPartSteps == 0) clear(part);
        multiply(shared.input[step % 2], shared.weight[step % 2], tile, part);
        if (!more || step % T::kPartSteps == T::kPartSteps - 1) add(part, accumulators);
      }
      if (more) producer.store(step + 1);
      __syncthreads();
    }
  }

 private:
  static __device__ __forceinline__ void clear(Accumulators& accumulators) {
#pragma unroll
    for (int i = 0; i < T::kThreadM; ++i)
#pragma unroll
      for (int j = 0; j < T::kThreadN; ++j) accumulators[i][j] = Accum{0};
  }

  static __device__ __forceinline__ void add(const Accumulators& part, Accumulators& accumulators) {
#pragma unroll
    for (int i = 0; i < T::kThreadM; ++i)
#pragma unroll
      for (int j = 0; j < T::kThreadN; ++j) accumulators[i][j] += part[i][j];
  }

  static __device__ __forceinline__ void multiply(const Accum (&input)[T::kTileK][T::kRowM],
                                                  const Accum (&weight)[T::kTileK][T::kRowN], const ThreadTile<T>& tile,
                                                  Accumulators& accumulators) {
    using VectorM = Vector<Accum, T::kVectorM>;
    using VectorN = Vector<Accum, T::kVectorN>;
    constexpr int kVectorsM = T::kThreadM / T::kVectorM, kVectorsN = T::kThreadN / T::kVectorN;
#pragma unroll
    for (int k = 0; k < T::kTileK; ++k) {
      VectorM a[kVectorsM];
      VectorN b[kVectorsN];
#pragma unroll
      for (int v = 0; v < kVectorsM; ++v) a[v] = *reinterpret_cast<const VectorM*>(&input[k][tile.m(v * T::kVectorM)]);
#pragma unroll
      for (int v = 0; v < kVectorsN; ++v) b[v] = *reinterpret_cast<const VectorN*>(&weight[k][tile.n(v * T::kVectorN)]);
#pragma unroll
      for (int i = 0; i < T::kThreadM; ++i)
#pragma unroll
        for (int j = 0; j < T::kThreadN; ++j)
          accumulators[i][j] += a[i / T::kVectorM].values[i % T::kVectorM] * b[j / T::kVectorN].values[j % T::kVectorN];
    }
  }
};

}  // namespace convmin::simt
