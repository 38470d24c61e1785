// The patch kernel: persistent blocks of one producer and two consumer warpgroups. A block's tile is a patch of output
// pixels; the input under it is in shared memory once for all taps, the weight streams past it.
#pragma once

#include "common/dependent_launch.cuh"
#include "ptx/griddepcontrol.cuh"
#include "ptx/named_barrier.cuh"
#include "ptx/warpgroup.cuh"
#include "sm90/epilogue.cuh"
#include "sm90/patch/cluster.cuh"
#include "sm90/patch/launch.h"
#include "sm90/patch/mainloop.cuh"
#include "sm90/patch/pack.cuh"
#include "sm90/patch/producer.cuh"
#include "sm90/patch/share.cuh"

namespace convmin::sm90::patch {

template <int kCount>
__device__ __forceinline__ void init_barriers(std::uint32_t first, int arrivals) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) ptx::mbarrier_init(first + 8 * i, arrivals);
  ptx::mbarrier_init_fence();
}
// All that there may be, by threads of several warps: loops over those that there are take longer, and so do lanes of a
// warp, which wait for each other.
template <bool kClustered>
__device__ __forceinline__ void init_barriers(const Shared& shared) {
  if (threadIdx.x == 0) init_barriers<kMaxSlots>(shared.input.full, 1);
  if (threadIdx.x == 32) init_barriers<kMaxSlots>(shared.input.empty, kConsumers);
  if (threadIdx.x == 64) init_barriers<kMaxStages>(shared.weight.full, 1);
  if (threadIdx.x == 96) init_barriers<kMaxStages>(shared.weight.empty, kConsumers);
  if (kClustered && threadIdx.x == 128) init_barriers<2 * kConsumerWarps>(shared.sums_full, 1);
}

// Of a kernel's rows or columns, dealt to the planes in turn: whose one is, which of that plane's, how many that has,
// and how many the planes before it have.
struct PlanesTaps {
  int plane, index, count, before;

  __device__ __forceinline__ PlanesTaps(int tap, int taps, int planes) {
    index = tap / planes;
    plane = tap - index * planes;
    const int least = taps / planes, longer = taps - least * planes;
    count = least + (plane < longer ? 1 : 0);
    before = plane * least + min(plane, longer);
  }
};

// By the consumers, while the first input is on its way.
template <typename T>
__device__ __forceinline__ void fill_tables(const Params& params, const Shared& shared) {
  const int channels = params.groups * params.blocks_n * T::kTileN, taps = params.r * params.s;
  const auto* bias = static_cast<const typename T::Element*>(params.bias);
  const Patch& patch = params.patch;
  for (int tap = static_cast<int>(threadIdx.x); tap < taps; tap += kConsumerThreads) {
    const PlanesTaps rows(tap / params.s, params.r, patch.planes_h), columns(tap % params.s, params.s, patch.planes_w);
    const int before = rows.before * params.s + rows.count * columns.before;
    const int in_plane = rows.index * columns.count + columns.index;
    shared.taps[before + in_plane] =
        (rows.index * patch.step_h * patch.halo_w + columns.index * patch.step_w) * (kRowBytes / 16);
    if (in_plane == 0) shared.planes[rows.plane * patch.planes_w + columns.plane] = before + rows.count * columns.count;
  }
  for (int i = static_cast<int>(threadIdx.x); i < channels; i += kConsumerThreads) {
    const int block = i / T::kTileN, group = block / params.blocks_n;
    const int k = (block - group * params.blocks_n) * T::kTileN + i % T::kTileN;
    const bool real = bias != nullptr && k < params.group_outputs;
    const float addend = real ? Numeric<typename T::Element>::widen(bias[group * params.group_outputs + k]) : 0.0f;
    shared.addends[i] = params.scale < 0 ? -addend : addend;
    if constexpr (T::kScaled) {
      const float factor = k < params.group_outputs ? params.channel_factor[group * params.group_outputs + k] : 1.0f;
      shared.factors[i] = params.scale < 0 ? -factor : factor;
    }
  }
  ptx::named_barrier_wait(kBarrier, kConsumerThreads);
}

template <typename T>
__device__ __forceinline__ void consume(const Params& params, const Shared& shared, int warpgroup) {
  Mainloop<T> mainloop(params, shared, warpgroup * T::kPerConsumer);
  for_each_unit<T::kClustered>(params, [&](const Unit& unit) {
    const Cluster<T> cluster(params, shared, unit);
    typename Epilogue<T>::Min best[T::kPerConsumer][2];
    bool finished = T::kClustered;
    for (int block = unit.first_block; block < unit.end_block(); ++block) {
      const QuotientRemainder by_group = params.by_blocks_n.divide(block);
      const auto group = static_cast<int>(by_group.quotient), block_n = static_cast<int>(by_group.remainder);
      typename Mainloop<T>::Accumulators accumulators;
      mainloop.run(unit, block, accumulators);
      if constexpr (T::kClustered) {
        if (block == unit.end_block() - 1) cluster.open();
        if (params.parts > 1) cluster.add_parts(accumulators);  // a unit of one block
      } else {
        const Sum sum = sum_of<T>(params, unit, block);
        if (sum.parts > 1 && !add_parts<T>(shared, sum, accumulators)) continue;
        finished = true;
      }
      if constexpr (T::kScaled) {
#pragma unroll
        for (auto& sums : accumulators) Epilogue<T>::scale(&shared.factors[block * T::kTileN], sums);
      }
      typename Epilogue<T>::Affine affine;
      affine.load(&shared.addends[block * T::kTileN], !T::kScaled && params.scale < 0 ? -1.0f : 1.0f);
#pragma unroll
      for (int i = 0; i < T::kPerConsumer; ++i) {
        Epilogue<T>::reduce(affine, group * params.group_outputs + block_n * T::kTileN,
                            params.group_outputs - block_n * T::kTileN, accumulators[i], best[i]);
      }
    }
    // Where shares are equal all that have some of a tile meet, even if others finish all of it.
    if (!finished && (params.grains == 0 || unit.splits == 1)) return;
    const Pixels pixels{params, Origin(params, unit.tile), warpgroup * T::kPerConsumer};
    typename Epilogue<T>::Min result[T::kPerConsumer];
#pragma unroll
    for (int i = 0; i < T::kPerConsumer; ++i) result[i] = Epilogue<T>::reduce_quad(best[i]);
    if constexpr (T::kClustered) {
      if (unit.splits > 1) cluster.combine_splits(result);
    } else {
      if (unit.splits > 1 && !combine_splits<T>(params, shared, unit, pixels, result)) return;
    }
#pragma unroll
    for (int i = 0; i < T::kPerConsumer; ++i) {
      const std::int64_t at = pixels.at(i, Epilogue<T>::pixel_of_lane());
      const bool writes = !T::kClustered || cluster.writes(i);
      if (Epilogue<T>::lane_writes() && at >= 0 && writes) Epilogue<T>::write(params, at, result[i]);
    }
  });
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 1) conv_scale_min_sm90_patch(const __grid_constant__ Params params) {
  extern __shared__ __align__(16) std::uint8_t dynamic[];
  const Shared shared(params, dynamic, T::kStageBytes);
  init_barriers<T::kClustered>(shared);
  __syncthreads();

  const int warpgroup = ptx::uniform(static_cast<int>(threadIdx.x) / 128);
  if (warpgroup == kConsumers) {
    ptx::give_registers<T::kProducerRegisters>();
    const int thread = static_cast<int>(threadIdx.x) % 128;
    if (thread == kNoters) {
      ptx::prefetch(params.input);
      if (params.source.blocks > 0) ptx::wait_for_prerequisites();
      stream_input<T>(params, shared);
    } else if (thread == kNoters + 32) {
      if (params.packs) {
        ptx::wait_for_prerequisites();
      } else {
        ptx::prefetch(params.filters);
      }
      stream_weight<T>(params, shared);
    } else if (thread < kNoters) {
      if constexpr (T::kScaled) {
        ptx::wait_for_prerequisites();
        note_fallback(params, thread, kNoters);
      }
    }
  } else {
    ptx::take_registers<T::kConsumerRegisters>();
    if constexpr (T::kScaled) ptx::wait_for_prerequisites();  // for the filters' factors
    fill_tables<T>(params, shared);
    if constexpr (!T::kScaled) ptx::wait_for_prerequisites();
    consume<T>(params, shared, warpgroup);
  }
}

template <typename T>
cudaError_t launch_variant(const Params& params, const Plan& plan, cudaStream_t stream) {
  // The same for all variants of a type and a width: one instance for them.
  using Prepared = Traits<typename T::Element, typename T::Operand, T::kTileN, 1, false, false>;
  const int blocks = filter_blocks<Prepared>(params) + params.source.blocks;
  if (blocks > 0) conv_scale_min_sm90_patch_prepare<Prepared><<<blocks, kPrepareThreads, 0, stream>>>(params);
  return launch_dependent(conv_scale_min_sm90_patch<T>, blocks > 0, plan.blocks, kThreads, plan.shared_memory, stream,
                          plan.cluster, params);
}

template <typename Element, typename Operand, int kTileN, int kPerConsumer, bool kWithIndices>
cudaError_t launch_sharing(const Params& params, const Plan& plan, cudaStream_t stream) {
  return plan.cluster > 1
             ? launch_variant<Traits<Element, Operand, kTileN, kPerConsumer, kWithIndices, true>>(params, plan, stream)
             : launch_variant<Traits<Element, Operand, kTileN, kPerConsumer, kWithIndices, false>>(params, plan,
                                                                                                   stream);
}

template <typename Element, typename Operand, int kTileN, int kPerConsumer>
cudaError_t launch_tile(const Params& params, const Plan& plan, cudaStream_t stream) {
  return params.indices != nullptr
             ? launch_sharing<Element, Operand, kTileN, kPerConsumer, true>(params, plan, stream)
             : launch_sharing<Element, Operand, kTileN, kPerConsumer, false>(params, plan, stream);
}

template <typename Element, typename Operand = Element>
int launch_element(const Params& params, const Plan& plan, cudaStream_t stream) {
  const bool one = plan.tile_m == kSubtile * kConsumers, narrow = plan.tile_n == 64;
  const auto launch = one ? (narrow ? launch_tile<Element, Operand, 64, 1> : launch_tile<Element, Operand, 128, 1>)
                          : (narrow ? launch_tile<Element, Operand, 64, 2> : launch_tile<Element, Operand, 128, 2>);
  return static_cast<int>(launch(params, plan, stream));
}

}  // namespace convmin::sm90::patch
