// The patch kernel: persistent blocks of one producer and two consumer warpgroups. A block's tile is a patch of output
// pixels; the input under it is in shared memory once for all taps, the weight streams past it.
#pragma once

#include "sm90/epilogue.cuh"
#include "sm90/patch/launch.h"
#include "sm90/patch/mainloop.cuh"
#include "sm90/patch/pack.cuh"
#include "sm90/patch/producer.cuh"

namespace convmin::sm90::patch {

template <typename T>
__device__ __forceinline__ void fill_tables(const Params& params, const Shared& shared) {
  const int channels = params.groups * params.blocks_n * T::kTileN, taps = params.r * params.s;
  const auto* bias = static_cast<const typename T::Element*>(params.bias);
  for (int i = static_cast<int>(threadIdx.x); i < channels; i += kThreads) {
    const int block = i / T::kTileN, group = block / params.blocks_n;
    const int k = (block - group * params.blocks_n) * T::kTileN + i % T::kTileN;
    const bool real = bias != nullptr && k < params.group_outputs;
    const float addend = real ? Numeric<typename T::Element>::widen(bias[group * params.group_outputs + k]) : 0.0f;
    shared.addends[i] = params.scale < 0 ? -addend : addend;
  }
  for (int tap = static_cast<int>(threadIdx.x); tap < taps; tap += kThreads) {
    const int r = tap / params.s, column = (tap - r * params.s) * params.dilation_w;
    const int plane = column % params.stride_w, pixel = r * params.dilation_h * params.patch.pitch +
                                                        plane * params.patch.plane + column / params.stride_w;
    shared.taps[tap] = pixel * kRowBytes / 16;
  }
  if (threadIdx.x == 0) {
    for (int i = 0; i < params.slots; ++i) {
      ptx::mbarrier_init(shared.input.full + 8 * i, kGatherers);
      ptx::mbarrier_init(shared.input.empty + 8 * i, kConsumers);
    }
    for (int i = 0; i < params.stages; ++i) {
      ptx::mbarrier_init(shared.weight.full + 8 * i, 1);
      ptx::mbarrier_init(shared.weight.empty + 8 * i, kConsumers);
    }
    ptx::mbarrier_init_fence();
  }
}

template <typename T>
__device__ __forceinline__ void consume(const Params& params, const Shared& shared, int warpgroup) {
  const Patch& patch = params.patch;
  const int thread = static_cast<int>(threadIdx.x) % 128;
  const int blocks = params.groups * params.blocks_n;
  Mainloop<T> mainloop(params, shared, warpgroup * T::kPerConsumer);
  for (int tile = static_cast<int>(blockIdx.x); tile < params.tiles; tile += static_cast<int>(gridDim.x)) {
    typename Epilogue<T>::Min best[T::kPerConsumer][2];
    for (int block = 0; block < blocks; ++block) {
      const int group = block / params.blocks_n, block_n = block - group * params.blocks_n;
      typename Mainloop<T>::Accumulators accumulators;
      mainloop.run(block_n == 0, block_n == params.blocks_n - 1, accumulators);
      typename Epilogue<T>::Affine affine;
      affine.load(&shared.addends[block * T::kTileN], nullptr);
#pragma unroll
      for (int i = 0; i < T::kPerConsumer; ++i) {
        Epilogue<T>::reduce(affine, group * params.group_outputs + block_n * T::kTileN,
                            params.group_outputs - block_n * T::kTileN, accumulators[i], best[i]);
      }
    }
    const Origin origin(params, tile);
#pragma unroll
    for (int i = 0; i < T::kPerConsumer; ++i) {
      const int subtile = warpgroup * T::kPerConsumer + i;
      const int rest = subtile / patch.subtiles_x, column = (subtile - rest * patch.subtiles_x) * patch.subtile_w;
      const int n = origin.n + rest / patch.subtiles_y, row = rest % patch.subtiles_y * patch.subtile_h;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int pixel = thread / 32 * 16 + thread % 32 / 4 + 8 * half;
        const int y = origin.y + row + pixel / patch.subtile_w, x = origin.x + column + pixel % patch.subtile_w;
        const bool inside = n < params.n && y < params.oh && x < params.ow;
        const std::int64_t at = (static_cast<std::int64_t>(n) * params.oh + y) * params.ow + x;
        Epilogue<T>::write(params, at, inside, best[i][half]);
      }
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 1) conv_scale_min_sm90_patch(const __grid_constant__ Params params) {
  extern __shared__ __align__(16) std::uint8_t dynamic[];
  const Shared shared(params, dynamic, T::kStageBytes);
  fill_tables<T>(params, shared);
  __syncthreads();

  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  if (warpgroup == kConsumers) {
    ptx::give_registers<T::kProducerRegisters>();
    const int thread = static_cast<int>(threadIdx.x) % 128;
    if (thread < kGatherers) {
      Gatherer<T>(params, shared).run();
    } else if (thread == kGatherers) {
      stream_weight<T>(params, shared);
    }
  } else {
    ptx::take_registers<T::kConsumerRegisters>();
    consume<T>(params, shared, warpgroup);
  }
}

template <typename T>
cudaError_t launch_variant(const Params& params, const Plan& plan, cudaStream_t stream) {
  const dim3 rows(params.groups * params.blocks_n * T::kTileN, params.chunks);
  conv_scale_min_sm90_patch_pack<T><<<rows, kPackThreads, 0, stream>>>(params);
  const auto kernel = conv_scale_min_sm90_patch<T>;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, plan.shared_memory);
  if (error != cudaSuccess) return error;
  kernel<<<static_cast<unsigned>(plan.blocks), kThreads, plan.shared_memory, stream>>>(params);
  return cudaGetLastError();
}

template <typename Element, int kTileN, int kPerConsumer>
cudaError_t launch_tile(const Params& params, const Plan& plan, cudaStream_t stream) {
  return params.indices != nullptr ? launch_variant<Traits<Element, kTileN, kPerConsumer, true>>(params, plan, stream)
                                   : launch_variant<Traits<Element, kTileN, kPerConsumer, false>>(params, plan, stream);
}

template <typename Element>
int launch_element(const Params& params, const Plan& plan, cudaStream_t stream) {
  const bool one = plan.tile_m == kSubtile * kConsumers, narrow = plan.tile_n == 64;
  const auto launch = one ? (narrow ? launch_tile<Element, 64, 1> : launch_tile<Element, 128, 1>)
                          : (narrow ? launch_tile<Element, 64, 2> : launch_tile<Element, 128, 2>);
  return static_cast<int>(launch(params, plan, stream));
}

}  // namespace convmin::sm90::patch
