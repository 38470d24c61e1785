// Shared memory of a block, the two rings in it, and the walk over a block's tiles.
#pragma once

#include "ptx/bulk_copy.cuh"
#include "ptx/mbarrier.cuh"
#include "sm90/patch/params.h"
#include "sm90/patch/tiles.h"

namespace convmin::sm90::patch {

// Slot i of a ring: `full` once filled, `empty` once read.
struct Ring {
  std::uint32_t full, empty;  // addresses of the first slot's barriers
  int size;
};

// A position in a ring, and the parity of the round that it belongs to.
struct Cursor {
  int slot = 0, parity = 0;

  __device__ __forceinline__ void advance(const Ring& ring) {
    if (++slot == ring.size) slot = 0, parity ^= 1;
  }
  // By at most the ring's size.
  __device__ __forceinline__ void rewind(const Ring& ring, int slots) {
    if ((slot -= slots) < 0) slot += ring.size, parity ^= 1;
  }
  __device__ __forceinline__ std::uint32_t full(const Ring& ring) const { return ring.full + 8 * slot; }
  __device__ __forceinline__ std::uint32_t empty(const Ring& ring) const { return ring.empty + 8 * slot; }
  __device__ __forceinline__ void wait_full(const Ring& ring) const { ptx::mbarrier_wait(full(ring), parity); }
  __device__ __forceinline__ bool is_empty(const Ring& ring) const {
    return ptx::mbarrier_test(empty(ring), parity ^ 1);
  }
  __device__ __forceinline__ void wait_empty(const Ring& ring) const { ptx::mbarrier_wait(empty(ring), parity ^ 1); }
};

struct Shared {
  Ring input, weight;
  int* taps;                             // [r * s], plane by plane: where a tap's pixels begin, in descriptors' units
  int* planes;                           // of each the end of its taps
  float* addends;                        // [groups][blocks_n][kTileN]
  float* factors;                        // the same, where filters are scaled
  int* counted;                          // how many others that share a tile were before
  std::uint32_t sums_full, minima_full;  // a barrier for each consumer warp: what a cluster's blocks send it is there
  std::uint32_t stages, slots;

  __device__ __forceinline__ Shared(const Params& params, std::uint8_t* base, int stage_bytes) {
    const std::uint32_t barriers = ptx::shared_address(base);
    input = {barriers, barriers + 8 * kMaxSlots, params.slots};
    weight = {barriers + 16 * kMaxSlots, barriers + 16 * kMaxSlots + 8 * kMaxStages, params.stages};
    sums_full = barriers + 16 * (kMaxSlots + kMaxStages);
    minima_full = sums_full + 8 * kConsumerWarps;
    taps = reinterpret_cast<int*>(base + params.tables.taps);
    planes = reinterpret_cast<int*>(base + params.tables.planes);
    addends = reinterpret_cast<float*>(base + params.tables.addends);
    factors = reinterpret_cast<float*>(base + params.tables.factors);
    counted = reinterpret_cast<int*>(base + params.tables.bytes) - 1;
    stages = (barriers + params.tables.bytes + kSwizzleBytes - 1) / kSwizzleBytes * kSwizzleBytes;
    slots = stages + params.stages * stage_bytes;
  }
};

// The first output pixel of a tile.
struct Origin {
  int n, y, x;

  __device__ __forceinline__ Origin(const Params& params, int tile) {
    const QuotientRemainder by_x = params.by_tiles_x.divide(tile), by_y = params.by_tiles_y.divide(by_x.quotient);
    n = static_cast<int>(by_y.quotient) * params.patch.subtiles_n;
    y = static_cast<int>(by_y.remainder) * params.patch.height;
    x = static_cast<int>(by_x.remainder) * params.patch.width;
  }
};

// A tile, a run of the tiles of output channels over all groups, and from which chunk of the first one's sums to which
// of the last one's. The tile's runs are splits of it.
struct Unit {
  int tile, split, splits, part, first_block, blocks, first_chunk, end_chunk;

  __device__ __forceinline__ int end_block() const { return first_block + blocks; }
  __device__ __forceinline__ int first_chunk_of(int block) const { return block == first_block ? first_chunk : 0; }
  __device__ __forceinline__ int end_chunk_of(const Params& params, int block) const {
    return block == end_block() - 1 ? end_chunk : params.chunks;
  }
  // Whether it is the unit's first of a group, or the last.
  __device__ __forceinline__ bool opens(const Params& params, int block) const {
    return block == first_block || params.by_blocks_n.divide(block).remainder == 0;
  }
  __device__ __forceinline__ bool closes(const Params& params, int block) const {
    return block == end_block() - 1 || params.by_blocks_n.divide(block + 1).remainder == 0;
  }
};

// Equal shares: of the grains of all tiles' tiles of output channels, one tile's after another's, the first `longer`
// blocks have one more. How many come before a block's, and whose one of them is. A division of 64 bits would be a
// call, after which the compiler no longer takes the walk for the same in all threads, and has each wgmma wait for the
// one before.
__device__ __forceinline__ int before_share(const Params& params, int block) {
  return block * params.share + min(block, params.longer_shares);
}
__device__ __forceinline__ int share_of(const Params& params, int one) {
  const int in_longer = params.longer_shares * (params.share + 1);
  if (one < in_longer) return static_cast<int>(params.by_longer_share.divide(one).quotient);
  return params.longer_shares + static_cast<int>(params.by_share.divide(one - in_longer).quotient);
}

// The unit of so many, counted by tiles, in each by splits, in each by parts.
__device__ __forceinline__ Unit unit_at(const Params& params, int index) {
  const QuotientRemainder by_parts = params.by_parts.divide(index);
  const QuotientRemainder by_splits = params.by_splits.divide(by_parts.quotient);
  const int blocks = params.groups * params.blocks_n;
  Unit unit;
  unit.part = static_cast<int>(by_parts.remainder);
  unit.first_chunk = static_cast<int>(params.by_parts.divide(params.chunks * unit.part).quotient);
  unit.end_chunk = static_cast<int>(params.by_parts.divide(params.chunks * (unit.part + 1)).quotient);
  unit.tile = static_cast<int>(by_splits.quotient);
  unit.split = static_cast<int>(by_splits.remainder);
  unit.splits = params.splits;
  unit.first_block = static_cast<int>(params.by_splits.divide(blocks * unit.split).quotient);
  unit.blocks = static_cast<int>(params.by_splits.divide(blocks * (unit.split + 1)).quotient) - unit.first_block;
  return unit;
}

// Visits the block's units: of each tile in turn, or where shares are equal, of those that its share lies in. A
// cluster's block has one.
template <bool kClustered, typename Visit>
__device__ __forceinline__ void for_each_unit(const Params& params, Visit&& visit) {
  const int blocks = params.groups * params.blocks_n, me = static_cast<int>(blockIdx.x);
  if constexpr (kClustered) {
    visit(unit_at(params, me));
  } else {
    const bool equal = params.grains > 0;
    const int end = equal ? before_share(params, me + 1) : params.tiles * params.splits * params.parts;
    int next = equal ? before_share(params, me) : me;
    while (next < end) {
      Unit unit;
      if (equal) {
        const QuotientRemainder by_grains = params.by_grains.divide(next);
        const QuotientRemainder by_tile = params.by_blocks.divide(by_grains.quotient);
        unit.tile = static_cast<int>(by_tile.quotient);
        unit.first_block = static_cast<int>(by_tile.remainder);
        unit.first_chunk = static_cast<int>(by_grains.remainder);
        const int of_tile = blocks * params.grains, first_of_tile = unit.tile * of_tile;
        const int last = min(first_of_tile + of_tile, end) - 1;
        const QuotientRemainder last_by_grains = params.by_grains.divide(last - first_of_tile);
        unit.blocks = static_cast<int>(last_by_grains.quotient) - unit.first_block + 1;
        unit.end_chunk = params.chunks - (params.grains - 1 - static_cast<int>(last_by_grains.remainder));
        // Of one tile of output channels the minima are wherever its sums are added up.
        const int first = share_of(params, first_of_tile);
        unit.split = blocks > 1 ? me - first : 0;
        unit.splits = blocks > 1 ? share_of(params, first_of_tile + of_tile - 1) - first + 1 : 1;
        unit.part = unit.first_chunk > 0 ? 1 : 0;
        next = last + 1;
      } else {
        unit = unit_at(params, next);
        next += static_cast<int>(gridDim.x);
      }
      visit(unit);
    }
  }
}

}  // namespace convmin::sm90::patch
