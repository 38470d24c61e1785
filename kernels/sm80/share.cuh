// A block's share of a tile: which blocks of output channels, and which part of their sums. Where several blocks share
// a tile, the one that finishes last combines what all have written, in an order that does not depend on who that is.
#pragma once

#include "ptx/block_index.cuh"
#include "sm80/mainloop.cuh"

namespace convmin::sm80 {

struct Share {
  int tile, split, part;
  int first_block, blocks;  // of output channels, counted over all groups
  int first_stage, stages;  // of each of them
  int* flag;                // in shared memory

  __device__ __forceinline__ Share(const Params& params, std::uint8_t* shared)
      : flag(reinterpret_cast<int*>(shared + params.flag)) {
    const int shares = params.splits * params.parts;
    const unsigned index = ptx::block_index();
    tile = static_cast<int>(index / shares);
    const int rest = static_cast<int>(index - static_cast<unsigned>(tile) * shares);
    split = rest / params.parts;
    part = rest - split * params.parts;
    const auto all = static_cast<std::int64_t>(params.groups) * params.group_blocks;
    first_block = static_cast<int>(all * split / params.splits);
    blocks = static_cast<int>(all * (split + 1) / params.splits) - first_block;
    first_stage = params.stages * part / params.parts;
    stages = params.stages * (part + 1) / params.parts - first_stage;
  }

  // Whether all the other splits of the tile have written their minima. Every thread of the block must call it.
  __device__ __forceinline__ bool is_last_split(const Params& params) const {
    const int tiles = static_cast<int>(gridDim.x / (params.splits * params.parts));
    return is_last(&params.counters[tiles * params.splits + tile], params.splits);
  }

  // Leaves this part's sums in memory; where all the others are there, returns true with the sums of all.
  template <typename T>
  __device__ __forceinline__ bool add_parts(const Params& params,
                                            typename Mainloop<T>::Accumulators& accumulators) const {
    constexpr int kFragments = T::kFragmentsM * T::kFragmentsN;
    const int sums = tile * params.splits + split;
    float4* const first = params.partials + static_cast<std::int64_t>(sums) * params.parts * kFragments * kThreads +
                          static_cast<int>(threadIdx.x);
    float4* const mine = first + part * kFragments * kThreads;
#pragma unroll
    for (int i = 0; i < kFragments; ++i) {
      const float (&d)[4] = accumulators[i / T::kFragmentsN][i % T::kFragmentsN];
      __stcg(mine + i * kThreads, make_float4(d[0], d[1], d[2], d[3]));
    }
    if (!is_last(&params.counters[sums], params.parts)) return false;
    const bool two = params.parts == 2;  // their sum is the same either way: this block's need not be read again
#pragma unroll
    for (int i = 0; i < kFragments; ++i) {
      float (&d)[4] = accumulators[i / T::kFragmentsN][i % T::kFragmentsN];
      d[0] = two ? d[0] : 0.0f, d[1] = two ? d[1] : 0.0f, d[2] = two ? d[2] : 0.0f, d[3] = two ? d[3] : 0.0f;
    }
    const float4* next = first;
    for (int other = 0; other < params.parts; ++other, next += kFragments * kThreads) {
      if (two && other == part) continue;
#pragma unroll
      for (int i = 0; i < kFragments; ++i) {
        float (&d)[4] = accumulators[i / T::kFragmentsN][i % T::kFragmentsN];
        const float4 sum = __ldcg(next + i * kThreads);
        d[0] += sum.x, d[1] += sum.y, d[2] += sum.z, d[3] += sum.w;
      }
    }
    return true;
  }

 private:
  // Threads write, fence and meet; one of them counts. What was written before a count is read after the last.
  __device__ __forceinline__ bool is_last(int* counter, int count) const {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) *flag = atomicAdd(counter, 1);
    __syncthreads();
    const bool last = *flag == count - 1;
    __threadfence();
    return last;
  }
};

// Of a specialized block, where blocks share the output channels of its tiles: the first of its blocks of channels.
// Each row of the grid has an equal share.
__device__ __forceinline__ int first_shared_block(const Params& params) {
  return static_cast<int>(blockIdx.y) * params.split_blocks;
}

}  // namespace convmin::sm80
