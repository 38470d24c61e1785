// The mma.sync kernel: implicit GEMM over patches of the input in shared memory, with the minimum over channels kept on
// chip. A block owns a tile of output pixels and walks the output channels of its split, a tile at a time.
#pragma once

#include <iterator>
#include <type_traits>
#include <utility>

#include "common/dependent_launch.cuh"
#include "ptx/griddepcontrol.cuh"
#include "sm80/epilogue.cuh"
#include "sm80/launch.h"
#include "sm80/pack.cuh"
#include "sm80/producer.cuh"
#include "sm80/range.cuh"
#include "sm80/specialized.cuh"

namespace convmin::sm80 {

template <typename T>
__global__ void __launch_bounds__(kThreads, T::kTile.blocks_per_sm)
    conv_scale_min_sm80(const __grid_constant__ Params params) {
  extern __shared__ __align__(16) std::uint8_t shared[];
  const Share share(params, shared);
  // Of a block of output channels, and of all; what is still to do counts down.
  const int block_stages = T::kTile.shares_sums ? share.stages : params.stages;
  const int stages = share.blocks * block_stages, steps = stages * params.taps;

  Producer<T> producer(params, shared, share);
  const Mainloop<T> mainloop(params, shared, BlockTile(params, share.tile));
  __syncthreads();  // the tables

  if constexpr (T::kCopies) {
    for (int stage = 0; stage < params.patch_slots; ++stage) {
      if (stage < stages) producer.copy_patch();
      producer.next_stage();
    }
  } else {
    producer.fill_patch();
    producer.next_stage();
  }
  // Until here nothing was needed of what the launch before writes: it may still be packing.
  ptx::wait_for_prerequisites();
  if constexpr (T::kScaled) {
    if (leaves_everything<T>(params)) return;
  }
  const Epilogue<T> epilogue(params, shared);
#pragma unroll
  for (int step = 0; step < kWeightStages - 1; ++step) {
    if (step < steps) producer.load_weight(step * T::kWeightBytes);
    ptx::cp_async_commit();
  }
  ptx::cp_async_wait<kWeightStages - 2>();
  __syncthreads();
  if constexpr (!T::kCopies) {
    // What comes before the first step is its windows before the barrier.
    for (int window = 0; window < T::kWindows; ++window) {
      if (window > 0) producer.end_window();
      if (stages > 1) producer.begin_window();
    }
  }

  typename Mainloop<T>::Accumulators accumulators = {};
  typename Mainloop<T>::Pixels first_half, second_half;
  typename Mainloop<T>::Weights first_weight, second_weight;
  // Where blocks share the sums: whether this one has found those of all. Shares are made anew, rather than kept over
  // the loop in registers.
  [[maybe_unused]] const auto add_parts = [&] {
    if constexpr (T::kScaled) producer.leave_range(Share(params, shared));
    if (!Share(params, shared).template add_parts<T>(params, accumulators)) return false;
    if constexpr (T::kScaled) producer.take_ranges(Share(params, shared));
    return true;
  };
  const int* offsets = reinterpret_cast<const int*>(shared + params.offsets);
  const auto tap_offset_of = [&](int tap) { return T::kGather == Gather::kTaps ? 0 : offsets[tap]; };
  int patch = 0, weight = 0, tap = 0, block = share.first_block;
  int stages_left = stages, left_after_block = stages - block_stages;
  int at = tap_offset_of(0);
  mainloop.template load<0>(at, first_half);
  mainloop.template load<0, 0, T::kPairsAhead>(weight, first_weight);
  for (int steps_left = steps; steps_left > 0; --steps_left) {
    mainloop.template load<1>(at, second_half);
    mainloop.template load<0, T::kPairsAhead>(weight, first_weight);
    mainloop.template load<1, 0, T::kPairsAhead>(weight, second_weight);
    mainloop.multiply(first_half, first_weight, accumulators);
    if constexpr (!T::kCopies) producer.end_window();

    // The next step's weight and patch are there, and of this step's patch nothing is needed any more.
    ptx::cp_async_wait<kWeightStages - 3>();
    __syncthreads();
    if (steps_left > kWeightStages - 1) producer.load_weight(weight - T::kWeightBytes);
    const bool ends_stage = ++tap == params.taps;
    if (ends_stage) {
      tap = 0;
      --stages_left;
      patch = patch == (params.patch_slots - 1) * params.patch_bytes ? 0 : patch + params.patch_bytes;
      if constexpr (T::kCopies) {
        if (stages_left > params.patch_slots - 1) producer.copy_patch();
      }
      producer.next_stage();
    }
    ptx::cp_async_commit();
    if constexpr (!T::kCopies) {
      if (stages_left > 1) producer.begin_window();
    }

    at = patch + tap_offset_of(tap);
    const bool ends_block = ends_stage && stages_left == left_after_block;
    if (!ends_block) mainloop.template load<0>(at, first_half);
    mainloop.template load<1, T::kPairsAhead>(weight, second_weight);
    weight = weight == (kWeightStages - 1) * T::kWeightBytes ? 0 : weight + T::kWeightBytes;
    mainloop.template load<0, 0, T::kPairsAhead>(weight, first_weight);
    mainloop.multiply(second_half, second_weight, accumulators);
    if constexpr (!T::kCopies && T::kWindows == 2) {
      producer.end_window();
      if (stages_left > 1) producer.begin_window();
    }
    if (!ends_block) continue;
    if constexpr (T::kTile.shares_sums) {
      if (params.parts > 1) {  // there was one block of channels
        if constexpr (T::kAddsPartsLast) break;
        if (!add_parts()) return;
      }
    }
    epilogue.reduce(block++, accumulators);
    left_after_block -= params.stages;
#pragma unroll
    for (auto& row : accumulators)
#pragma unroll
      for (auto& fragment : row)
#pragma unroll
        for (float& value : fragment) value = 0.0f;
    mainloop.template load<0>(at, first_half);  // after the last step, of some patch, for nothing
  }
  if constexpr (T::kAddsPartsLast) {
    if (params.parts > 1) {
      if (!add_parts()) return;
      epilogue.reduce(share.first_block, accumulators);
    }
  }
  const Share again(params, shared);  // rather than over the loop in registers
  const BlockTile tile(params, again.tile);
  if constexpr (T::kScaled) {
    if (again.split == 0) producer.note_range(tile);
  }
  epilogue.write(again, tile);
}

template <typename T>
int multiply(const Params& params, const Plan& plan, cudaStream_t stream) {
  constexpr auto kKernel = [] {
    if constexpr (T::kSpecialized) {
      return conv_scale_min_sm80_specialized<T>;
    } else {
      return conv_scale_min_sm80<T>;
    }
  }();
  const auto blocks = static_cast<unsigned>(plan.blocks), splits = static_cast<unsigned>(plan.splits);
  const dim3 grid = T::kSharesChannels ? dim3(blocks / splits, splits) : dim3(blocks);
  return launch_dependent(kKernel, can_wait(kKernel), grid, T::kThreads, plan.shared_memory, stream, 1, params);
}

template <typename Element, typename Operand, Gather kGather, int kTile>
int launch_tile(const Params& params, const Plan& plan, cudaStream_t stream) {
  using T = Traits<Element, Operand, kGather, kTile>;
  pack<T>(params, stream);
  if constexpr (T::kSpecialized) {
    if (plan.splits > 1) return multiply<Traits<Element, Operand, kGather, kTile, true>>(params, plan, stream);
  }
  return multiply<T>(params, plan, stream);
}

// Launches the tile of the table that the plan names.
template <typename Element, typename Operand, Gather kGather, std::size_t... kTile>
int launch_tiles(const Params& params, const Plan& plan, cudaStream_t stream, std::index_sequence<kTile...>) {
  int error = static_cast<int>(cudaErrorInvalidValue);
  const auto try_tile = [&](auto tile) {
    constexpr int kIndex = decltype(tile)::value;
    constexpr bool kMultiplies = std::is_same_v<Element, Operand> || kTiles[kIndex].scaled;
    constexpr bool kLoads = !kTiles[kIndex].specialized || (sizeof(Operand) == 2 && kGather != Gather::kTaps);
    if constexpr (kMultiplies && kLoads) {
      if (plan.tile_m != kTiles[kIndex].m || plan.tile_n != kTiles[kIndex].n) return;
      error = launch_tile<Element, Operand, kGather, kIndex>(params, plan, stream);
    }
  };
  (try_tile(std::integral_constant<int, kTile>{}), ...);
  return error;
}

template <typename Element, typename Operand, Gather kGather>
int launch_element(const Params& params, const Plan& plan, cudaStream_t stream) {
  using Indices = std::make_index_sequence<std::size(kTiles)>;
  return launch_tiles<Element, Operand, kGather>(params, plan, stream, Indices{});
}

}  // namespace convmin::sm80
