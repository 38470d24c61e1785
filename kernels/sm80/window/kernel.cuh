// The kernel for few input channels: the reduction runs over the elements of the window, channels and taps alike, so
// that three channels fill a multiplication as well as sixty-four. As many blocks as fit take one tile after another.
#pragma once

#include "common/start.cuh"
#include "sm80/window/epilogue.cuh"
#include "sm80/window/launch.h"

namespace convmin::sm80::window {

template <typename T>
__global__ void __launch_bounds__(kThreads, blocks_per_sm(T::kWidth))
    conv_scale_min_sm80_window(const __grid_constant__ Params params) {
  extern __shared__ __align__(16) char shared[];
  Producer<T> producer(params, shared);
  auto index = static_cast<int>(blockIdx.x);
  stage_places(params, shared);
  __syncthreads();
  Tile tile(params, index);
  producer.load(tile);
  if (params.weight_in_order) {
    stage_weight<T, true>(params, shared);
  } else {
    stage_weight<T, false>(params, shared);
  }
  stage_tables<T>(params, shared);
  const Mainloop<T> mainloop(params, shared);
  Epilogue<T> epilogue(params, shared);
  while (index < params.tiles) {
    producer.store(tile);
    __syncthreads();
    index += static_cast<int>(gridDim.x);
    const Tile next(params, min(index, params.tiles - 1));
    if (index < params.tiles) producer.load(next);
    epilogue.begin();
    for (int pass = 0; pass < params.passes; ++pass) {
      typename Mainloop<T>::Accumulators sums = {};
      mainloop.multiply(pass, sums);
      epilogue.reduce(pass, sums);
    }
    epilogue.write(tile);
    tile = next;
    __syncthreads();  // the next patch takes this one's place
  }
}

template <typename Element, int kWidth>
int launch_width(const Params& params, const Plan& plan, cudaStream_t stream) {
  const auto kernel = conv_scale_min_sm80_window<Traits<Element, kWidth>>;
  return start(kernel, plan.blocks, kThreads, plan.shared_memory, params, stream);
}

template <typename Element>
int launch_element(const Params& params, const Plan& plan, cudaStream_t stream) {
  switch (plan.tile_n) {
    case 16: return launch_width<Element, 16>(params, plan, stream);
    case 32: return launch_width<Element, 32>(params, plan, stream);
    case 64: return launch_width<Element, 64>(params, plan, stream);
    default: return static_cast<int>(cudaErrorInvalidValue);
  }
}

}  // namespace convmin::sm80::window
