// The portable kernel: implicit GEMM over any strides, padding, dilation and groups, with the minimum over channels
// kept on chip. A block owns kTileM output pixels and walks the output channels of its split, a tile at a time.
#pragma once

#include <iterator>
#include <utility>

#include "common/dependent_launch.cuh"
#include "ptx/griddepcontrol.cuh"
#include "simt/epilogue.cuh"
#include "simt/launch.h"
#include "simt/pack.cuh"

namespace convmin::simt {

// The minimum over one split's output channels of kTileM pixels.
template <typename T>
__device__ __forceinline__ void compute_tile(const Params& params, SharedStorage<T>& shared, std::int64_t first_pixel,
                                             int split) {
  const ThreadTile<T> tile;
  Producer<T> producer(params, shared);
  Epilogue<T> epilogue(params, shared, tile);
  producer.locate_pixels(first_pixel);

  typename Mainloop<T>::Accumulators accumulators;
  const auto blocks = static_cast<std::int64_t>(params.groups) * params.group_blocks;
  const auto end = static_cast<int>(blocks * (split + 1) / params.splits);
  for (auto block = static_cast<int>(blocks * split / params.splits); block < end; ++block) {
    const int group = block / params.group_blocks;
    const int first_output = block % params.group_blocks * T::kTileN;
    producer.select(group, first_output);
    Mainloop<T>::run(params, shared, producer, tile, accumulators);
    epilogue.reduce(accumulators, group, first_output);
  }
  epilogue.write(first_pixel, split);
}

template <typename T>
__global__ void __launch_bounds__(T::kThreads, kBlocksPerSm)
    conv_scale_min_simt(const __grid_constant__ Params params) {
  __shared__ SharedStorage<T> shared;
  const auto first_pixel = static_cast<std::int64_t>(blockIdx.x / params.splits) * T::kTileM;
  compute_tile<T>(params, shared, first_pixel, static_cast<int>(blockIdx.x % params.splits));
}

__device__ __forceinline__ unsigned tile_count(const Params& params, const Fallback& tiles) {
  return *tiles.everything != 0 ? static_cast<unsigned>((params.pixels + kFallbackTile - 1) / kFallbackTile)
                                : static_cast<unsigned>(*tiles.count);
}

template <typename T>
__global__ void __launch_bounds__(T::kThreads, kBlocksPerSm)
    conv_scale_min_simt_tiles(const __grid_constant__ Params params, const __grid_constant__ Fallback tiles) {
  static_assert(T::kTileM == kFallbackTile, "one block, one noted tile");
  __shared__ SharedStorage<T> shared;
  ptx::wait_for_prerequisites();
  // Little is kept across a tile, and read again instead: the mainloop has use for every register.
  for (unsigned i = blockIdx.x; i < tile_count(params, tiles); i += gridDim.x) {
    compute_tile<T>(params, shared, *tiles.everything != 0 ? std::int64_t{i} * T::kTileM : tiles.tiles[i], 0);
    __syncthreads();
  }
}

template <typename Element, Gather kGather, const auto& kTiles, std::size_t kIndex>
void launch_tile(const Params& params, const Plan& plan, cudaStream_t stream) {
  constexpr Tile kTile = kTiles[kIndex];
  using T = Traits<Element, kGather, kTile.m, kTile.n, kTile.thread_m, kTile.thread_n>;
  static_assert(sizeof(SharedStorage<T>) == kTile.shared_memory, "tiles.h states what the kernel uses");
  conv_scale_min_simt<T><<<static_cast<unsigned>(plan.blocks), T::kThreads, 0, stream>>>(params);
}

// Launches the tile of the table that the plan names; false where there is none.
template <typename Element, Gather kGather, const auto& kTiles, std::size_t... kIndex>
bool launch_tiles(const Params& params, const Plan& plan, cudaStream_t stream, std::index_sequence<kIndex...>) {
  return ((plan.tile_m == kTiles[kIndex].m && plan.tile_n == kTiles[kIndex].n &&
           (launch_tile<Element, kGather, kTiles, kIndex>(params, plan, stream), true)) ||
          ...);
}

template <typename Element, Gather kGather>
bool launch_tiles(const Params& params, const Plan& plan, cudaStream_t stream) {
  if constexpr (sizeof(Element) == 8) {
    using Indices = std::make_index_sequence<std::size(kDoubleTiles)>;
    return launch_tiles<Element, kGather, kDoubleTiles>(params, plan, stream, Indices{});
  } else {
    using Indices = std::make_index_sequence<std::size(kFloatTiles)>;
    return launch_tiles<Element, kGather, kFloatTiles>(params, plan, stream, Indices{});
  }
}

// Pack, multiply and, where channels are split, combine.
template <typename Element, Gather kGather>
int launch_element(const Params& params, const Plan& plan, cudaStream_t stream) {
  constexpr int kCombineThreads = 256;
  conv_scale_min_simt_pack<Element><<<pack_blocks(params, {}), kPackThreads, 0, stream>>>(params, Fallback{});
  if (!launch_tiles<Element, kGather>(params, plan, stream)) return static_cast<int>(cudaErrorInvalidValue);
  if (params.splits > 1) {
    const auto blocks = static_cast<unsigned>((params.pixels + kCombineThreads - 1) / kCombineThreads);
    conv_scale_min_simt_combine<Element><<<blocks, kCombineThreads, 0, stream>>>(params);
  }
  return static_cast<int>(cudaGetLastError());
}

template <Gather kGather>
int launch_noted_tiles(const Params& params, const Plan& plan, const Fallback& tiles, cudaStream_t stream) {
  constexpr Tile kTile = kFallbackShape;
  using T = Traits<float, kGather, kTile.m, kTile.n, kTile.thread_m, kTile.thread_n>;
  constexpr auto kPack = conv_scale_min_simt_pack<float>;
  const cudaError_t error =
      launch_dependent(kPack, can_wait(kPack), pack_blocks(params, tiles), kPackThreads, 0, stream, 1, params, tiles);
  if (error != cudaSuccess) return error;
  constexpr auto kKernel = conv_scale_min_simt_tiles<T>;
  return launch_dependent(kKernel, can_wait(kKernel), plan.blocks, T::kThreads, 0, stream, 1, params, tiles);
}

}  // namespace convmin::simt
