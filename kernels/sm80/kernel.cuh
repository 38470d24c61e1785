// The mma.sync kernel: implicit GEMM over patches of the input in shared memory, with the minimum over channels kept on
// chip. A block owns a tile of output pixels and walks the output channels of its split, a tile at a time.
#pragma once

#include <algorithm>
#include <iterator>
#include <utility>

#include "sm80/epilogue.cuh"
#include "sm80/launch.h"
#include "sm80/pack.cuh"
#include "sm80/producer.cuh"

namespace convmin::sm80 {

template <typename T>
__global__ void __launch_bounds__(kThreads, T::kTile.blocks_per_sm)
    conv_scale_min_sm80(const __grid_constant__ Params params) {
  extern __shared__ __align__(16) std::uint8_t shared[];
  const Share share(params, shared);
  const BlockTile tile(params, share.tile);
  const int stages = share.blocks * share.stages, steps = stages * params.taps;

  Producer<T> producer(params, shared, tile, share);
  const Mainloop<T> mainloop(params, shared, tile);
  const Epilogue<T> epilogue(params, shared);
  __syncthreads();  // the tables

  // Stages brought before the first is multiplied: cp.async completes kWeightStages - 1 steps after it was asked for.
  constexpr bool kCopies = T::kGather == Gather::kChannels;
  const int ahead = params.patch_slots - 1;
  if constexpr (kCopies) {
    for (int stage = 0; stage < min(ahead, stages); ++stage) {
      producer.copy_patch();
      producer.next_stage();
    }
  } else {
    for (int batch = 0; batch < params.taps * T::kHalves; ++batch) {
      producer.load(batch);
      producer.store();
    }
    producer.next_stage();
  }
#pragma unroll
  for (int step = 0; step < kWeightStages - 1; ++step) {
    if (step < steps) producer.load_weight();
    ptx::cp_async_commit();
  }

  typename Mainloop<T>::Accumulators accumulators = {};
  const int* offsets = reinterpret_cast<const int*>(shared + params.offsets);
  int patch = 0, weight = 0, tap = 0, stage = 0, next_epilogue = share.stages;
  for (int step = 0; step < steps; ++step) {
    ptx::cp_async_wait<kWeightStages - 2>();
    __syncthreads();  // the step's weight and patch are there, and all threads are done with the step before
    if (step + kWeightStages - 1 < steps) producer.load_weight();
    const bool more = stage + ahead < stages;
    if constexpr (kCopies) {
      if (tap == 0 && more) {
        producer.copy_patch();
        producer.next_stage();
      }
    }
    ptx::cp_async_commit();

    const int at = patch + (T::kGather == Gather::kTaps ? 0 : offsets[tap]);
    const auto half = [&](auto which) {
      if constexpr (!kCopies) {
        if (more) producer.load(tap * T::kHalves + decltype(which)::value);
      }
      mainloop.template multiply<decltype(which)::value>(at, weight, accumulators);
      if constexpr (!kCopies) {
        if (more) producer.store();
      }
    };
    half(std::integral_constant<int, 0>{});
    half(std::integral_constant<int, 1>{});

    weight = weight == (kWeightStages - 1) * T::kWeightBytes ? 0 : weight + T::kWeightBytes;
    if (++tap < params.taps) continue;
    tap = 0;
    patch = patch == ahead * params.patch_bytes ? 0 : patch + params.patch_bytes;
    if constexpr (!kCopies) producer.next_stage();
    if (++stage < next_epilogue) continue;
    if constexpr (T::kTile.shares_sums) {
      if (params.parts > 1) break;  // there was one block of channels
    }
    epilogue.reduce(share.first_block + next_epilogue / share.stages - 1, accumulators);
    next_epilogue += share.stages;
#pragma unroll
    for (auto& row : accumulators)
#pragma unroll
      for (auto& fragment : row)
#pragma unroll
        for (float& value : fragment) value = 0.0f;
  }
  if constexpr (T::kTile.shares_sums) {
    if (params.parts > 1) {
      if (!share.add_parts<T>(params, accumulators)) return;
      epilogue.reduce(share.first_block, accumulators);
    }
  }
  epilogue.write(share, tile);
}

// Pack and multiply.
template <typename Element, Gather kGather, int kTile>
int launch_tile(const Params& params, const Plan& plan, cudaStream_t stream) {
  using T = Traits<Element, kGather, kTile>;
  const std::int64_t vectors =
      static_cast<std::int64_t>(params.groups) * params.group_blocks * params.steps * T::kWeightVectors;
  const std::int64_t threads = std::max<std::int64_t>(vectors, params.counter_count);
  conv_scale_min_sm80_pack<T>
      <<<static_cast<unsigned>((threads + kPackThreads - 1) / kPackThreads), kPackThreads, 0, stream>>>(params);
  const auto kernel = conv_scale_min_sm80<T>;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, plan.shared_memory);
  if (error != cudaSuccess) return static_cast<int>(error);
  kernel<<<static_cast<unsigned>(plan.blocks), kThreads, plan.shared_memory, stream>>>(params);
  return static_cast<int>(cudaGetLastError());
}

// Launches the tile of the table that the plan names.
template <typename Element, Gather kGather, std::size_t... kTile>
int launch_tiles(const Params& params, const Plan& plan, cudaStream_t stream, std::index_sequence<kTile...>) {
  int error = static_cast<int>(cudaErrorInvalidValue);
  const bool found = ((plan.tile_m == kTiles[kTile].m && plan.tile_n == kTiles[kTile].n &&
                       (error = launch_tile<Element, kGather, kTile>(params, plan, stream), true)) ||
                      ...);
  return found ? error : static_cast<int>(cudaErrorInvalidValue);
}

template <typename Element, Gather kGather>
int launch_element(const Params& params, const Plan& plan, cudaStream_t stream) {
  return launch_tiles<Element, kGather>(params, plan, stream, std::make_index_sequence<std::size(kTiles)>{});
}

}  // namespace convmin::sm80
