// The Hopper kernel: persistent blocks of one producer and two consumer warpgroups. The weight stays in shared memory;
// each block walks down strips of 128 output pixels, so that an input row is read once and serves all its output rows.
#pragma once

#include "common/dependent_launch.cuh"
#include "ptx/griddepcontrol.cuh"
#include "ptx/hold.cuh"
#include "ptx/named_barrier.cuh"
#include "sm90/epilogue.cuh"
#include "sm90/launch.h"
#include "sm90/mainloop.cuh"
#include "sm90/pack.cuh"
#include "sm90/producer.cuh"

namespace convmin::sm90 {

// The factor that all scaled filters can have, or 0.
__device__ __forceinline__ float common_factor(const Params& params) {
  const float largest = __uint_as_float(params.factor_range[0]), smallest = __uint_as_float(~params.factor_range[1]);
  const bool shared = smallest * kMaxSpread >= largest && smallest >= kLeastCommon && largest <= kLargestCommon;
  return shared ? largest : 0.0f;
}

// What the weights of filter k are multiplied by, for it to have the common factor, 1 / `inverse`: a power of two, and
// the scale's sign.
__device__ __forceinline__ float common_ratio(const Params& params, float inverse, int k) {
  // A filter of zeros can have any.
  const float ratio = k < params.k ? fminf(params.channel_factor[k] * inverse, 1.0f) : 1.0f;
  return params.scale < 0 ? -ratio : ratio;
}

__device__ __forceinline__ uint4 scale_weights(uint4 weights, float ratio) {
  auto* pairs = reinterpret_cast<__half2*>(&weights);
  const __half2 both = __float2half2_rn(ratio);
#pragma unroll
  for (int i = 0; i < 4; ++i) pairs[i] = __hmul2(pairs[i], both);
  return weights;
}

// `common`: the factor of all filters, or 0 where each keeps its own.
template <typename T>
__device__ __forceinline__ void load_weights(const Params& params, SharedStorage<T>& shared, std::uint8_t* weights,
                                             float common) {
  const int vectors = params.r * params.s * params.chunks * params.blocks_n * T::kWeightTileBytes / 16;
  const auto* source = static_cast<const uint4*>(params.packed_weight);
  const float inverse = common > 0 ? 1.0f / common : 1.0f;
  for (int i = static_cast<int>(threadIdx.x); i < vectors; i += kThreads) {
    uint4 vector = source[i];
    if (T::kScalesFilters && common > 0) {
      const int row = i / (kRowBytes / 16), k = row / T::kTileN % params.blocks_n * T::kTileN + row % T::kTileN;
      vector = scale_weights(vector, common_ratio(params, inverse, k));
    }
    reinterpret_cast<uint4*>(weights)[i] = vector;
  }
  for (int k = static_cast<int>(threadIdx.x); k < params.blocks_n * T::kTileN; k += kThreads) {
    const bool real = k < params.k;
    const float factor = real && T::kScalesFilters ? params.channel_factor[k] : 1.0f;
    const float bias = real && params.bias != nullptr
                           ? static_cast<float>(static_cast<const typename T::Element*>(params.bias)[k])
                           : 0.0f;
    shared.factor[k] = params.scale < 0 ? -factor : factor;
    shared.addend[k] = params.scale < 0 ? -bias * inverse : bias * inverse;
  }
}

inline constexpr int kFirstTurnBarrier = 1;  // barrier 0 is __syncthreads
static_assert(kConsumers == 2, "two warpgroups take turns");

// The input rows under an output row, and the next one below once it has been taken.
template <typename T>
class Window {
 public:
  __device__ __forceinline__ Window(const Params& params, SharedStorage<T>& shared)
      : shared_(shared), ring_(ptx::uniform(params.ring)) {
    for (int r = 0; r < params.window; r += params.dilation_h) taps_ |= 1u << r;
  }

  // The ring's slot of the first row.
  __device__ __forceinline__ int slot() const { return first_.slot; }
  // Whether one of the rows has left float16's range; then the tile is the portable kernel's.
  __device__ __forceinline__ bool outside() const { return (outside_ & taps_) != 0; }

  // Whether the next row below has come; the same answer in all lanes.
  __device__ __forceinline__ bool next_is_there() const {
    return __all_sync(0xffffffffu, ptx::mbarrier_test(full(), next_.parity)) != 0;
  }
  __device__ __forceinline__ void wait_for_next() const { ptx::mbarrier_wait(full(), next_.parity); }
  __device__ __forceinline__ void take_next() {
    if constexpr (T::kChecksRange) {
      outside_ = outside_ << 1 | static_cast<unsigned>(shared_.outside[next_.slot] == next_.row);
    }
    next_.advance(ring_);
  }

  // One of the warpgroup's threads lets the first rows go.
  __device__ __forceinline__ void move_down(int rows, bool lets_go) {
#pragma unroll 1
    do {
      if (lets_go) ptx::mbarrier_arrive(ptx::shared_address(&shared_.empty[first_.slot]));
      first_.advance(ring_);
    } while (--rows > 0);
  }

 private:
  __device__ __forceinline__ std::uint32_t full() const { return ptx::shared_address(&shared_.full[next_.slot]); }

  SharedStorage<T>& shared_;
  const int ring_;
  RingCursor first_, next_;
  unsigned outside_ = 0, taps_ = 0;  // a bit a row, the lowest for the last
};

template <typename T>
__device__ __forceinline__ void consume(const Params& params, SharedStorage<T>& shared, std::uint32_t weights,
                                        std::uint32_t ring, int warpgroup, float common) {
  const int thread = static_cast<int>(threadIdx.x) % 128;
  const int first_pixel = warpgroup * 64;
  const int column = first_pixel + thread / 32 * 16 + thread % 32 / 4 + 8 * Epilogue<T>::pixel_of_lane();
  if (warpgroup == 1) ptx::named_barrier_arrive(kFirstTurnBarrier, 128 * kConsumers);  // the first turn is the other's
  typename Epilogue<T>::Affine affine;
  affine.load(shared.addend);
  Window<T> window(params, shared);
  const int k = ptx::uniform(params.k), blocks_n = ptx::uniform(params.blocks_n),
            rows_under = ptx::uniform(params.window);
  Runs runs(params);
  for (Run run; runs.next(run);) {
    int missing = rows_under;  // rows to wait for before the next output row
    const bool writes = Epilogue<T>::lane_writes() && run.first_column + column < params.ow;
    std::int64_t at =
        (static_cast<std::int64_t>(run.n) * params.oh + run.first_row) * params.ow + run.first_column + column;
    for (int row = 0; row < run.rows; ++row, at += params.ow) {
#pragma unroll 1
      for (; missing > 0; --missing) {
        window.wait_for_next();
        window.take_next();
      }
      const bool outside = T::kChecksRange && thread == 0 && warpgroup == 0 && window.outside();
      // The window moves down by a row, and past the end of a run by all of it.
      const bool ends_run = row == run.rows - 1;
      missing = 1;
      typename Epilogue<T>::Min best[2];
      for (int block_n = 0; block_n < blocks_n; ++block_n) {
        typename Mainloop<T>::Accumulators accumulators;
        // Turns: one warpgroup's epilogue runs under the other's multiplication.
        ptx::named_barrier_wait(kFirstTurnBarrier + warpgroup, 128 * kConsumers);
        Mainloop<T>::run(params, weights, ring, window.slot(), first_pixel * kRowBytes, block_n, accumulators);
        ptx::wgmma_wait<1>();
        ptx::named_barrier_arrive(kFirstTurnBarrier + 1 - warpgroup, 128 * kConsumers);
        // Under the multiplications that are left.
        const bool last_block = block_n == blocks_n - 1;
        if (last_block && !ends_run && window.next_is_there()) {
          window.take_next();
          missing = 0;
        }
        ptx::wgmma_wait<0>();
        ptx::wgmma_hold(accumulators);
        if (last_block) {
          if (outside) params.fallback.tiles[atomicAdd(params.fallback.count, 1)] = at - column;
          window.move_down(ends_run ? rows_under : 1, thread == 0);
        }
        const int first_channel = block_n * T::kTileN;
        if (blocks_n > 1) affine.load(&shared.addend[first_channel]);
        if constexpr (T::kScalesFilters) {
          if (common == 0) Epilogue<T>::scale(&shared.factor[first_channel], accumulators);
        }
        Epilogue<T>::reduce(affine, first_channel, k - first_channel, accumulators, best);
      }
      auto result = Epilogue<T>::reduce_quad(best);
      if constexpr (T::kScalesFilters) result.value *= common > 0 ? common : 1.0f;
      if (writes) Epilogue<T>::write(params, at, result);
    }
  }
}

// Whether the weight is one that float16 can't stand in for TF32 with; the answer is the same in all blocks.
template <typename T>
__device__ __forceinline__ bool leaves_everything(const Params& params) {
  bool leaves = *params.fallback.everything != 0;
  for (int c = static_cast<int>(threadIdx.x); c < params.c; c += kThreads) {
    leaves |= __uint_as_float(params.channel_peak[c]) < kFaintestPeak;
  }
  return __syncthreads_or(leaves) != 0;
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 1) conv_scale_min_sm90(const __grid_constant__ Params params) {
  extern __shared__ __align__(16) std::uint8_t dynamic[];
  static_assert(sizeof(SharedStorage<T>) == kStorageBytes, "tiles.h states what the kernel uses");
  auto& shared = *reinterpret_cast<SharedStorage<T>*>(dynamic);
  const auto begin = reinterpret_cast<std::uintptr_t>(dynamic) + sizeof(SharedStorage<T>);
  auto* weights = reinterpret_cast<std::uint8_t*>((begin + kSwizzleBytes - 1) / kSwizzleBytes * kSwizzleBytes);
  std::uint8_t* ring = weights + params.r * params.s * params.chunks * params.blocks_n * T::kWeightTileBytes;

  if (threadIdx.x == 0) {
    for (int i = 0; i < params.ring; ++i) {
      ptx::mbarrier_init(ptx::shared_address(&shared.full[i]), 128);
      ptx::mbarrier_init(ptx::shared_address(&shared.empty[i]), kConsumers);
      shared.outside[i] = 0;
    }
    ptx::mbarrier_init_fence();
  }
  ptx::wait_for_prerequisites();
  if constexpr (T::kChecksRange) {
    if (leaves_everything<T>(params)) {
      if (blockIdx.x == 0 && threadIdx.x == 0) *params.fallback.everything = 1;
      return;
    }
  }
  float common = 0;
  if constexpr (T::kScalesFilters) common = common_factor(params);
  load_weights<T>(params, shared, weights, common);
  ptx::fence_proxy_async();
  __syncthreads();

  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  if (warpgroup == kConsumers) {
    ptx::give_registers<T::kProducerRegisters>();
    Producer<T>(params, shared, ptx::shared_address(ring)).run();
  } else {
    ptx::take_registers<T::kConsumerRegisters>();
    consume<T>(params, shared, ptx::shared_address(weights), ptx::shared_address(ring), warpgroup, common);
  }
}

template <typename T>
cudaError_t launch_variant(const Params& params, const Plan& plan, cudaStream_t stream) {
  conv_scale_min_sm90_pack<T><<<params.blocks_n * T::kTileN, kPackThreads, 0, stream>>>(params);
  return launch_dependent(conv_scale_min_sm90<T>, true, plan.blocks, kThreads, plan.shared_memory, stream, 1, params);
}

template <typename Element, Gather kGather, int kTileN>
cudaError_t launch_tile(const Params& params, const Plan& plan, cudaStream_t stream) {
  return params.indices != nullptr ? launch_variant<Traits<Element, kGather, kTileN, true>>(params, plan, stream)
                                   : launch_variant<Traits<Element, kGather, kTileN, false>>(params, plan, stream);
}

template <typename Element, Gather kGather>
int launch_element(const Params& params, const Plan& plan, cudaStream_t stream) {
  return static_cast<int>(plan.tile_n == 64 ? launch_tile<Element, kGather, 64>(params, plan, stream)
                                            : launch_tile<Element, kGather, 128>(params, plan, stream));
}

}  // namespace convmin::sm90
