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
  int* taps;       // [r * s] where a tap's pixels begin, in descriptors' units
  float* addends;  // [groups][blocks_n][kTileN]
  float* factors;  // the same, where filters are scaled
  int* is_last;    // whether the others that share a tile have finished
  std::uint32_t stages, slots;

  __device__ __forceinline__ Shared(const Params& params, std::uint8_t* base, int stage_bytes) {
    const std::uint32_t barriers = ptx::shared_address(base);
    input = {barriers, barriers + 8 * kMaxSlots, params.slots};
    weight = {barriers + 16 * kMaxSlots, barriers + 16 * kMaxSlots + 8 * kMaxStages, params.stages};
    taps = reinterpret_cast<int*>(base + params.tables.taps);
    addends = reinterpret_cast<float*>(base + params.tables.addends);
    factors = reinterpret_cast<float*>(base + params.tables.factors);
    is_last = reinterpret_cast<int*>(base + params.tables.bytes) - 1;
    stages = (barriers + params.tables.bytes + kSwizzleBytes - 1) / kSwizzleBytes * kSwizzleBytes;
    slots = stages + params.stages * stage_bytes;
  }
};

// The first output pixel of a tile.
struct Origin {
  int n, y, x;

  __device__ __forceinline__ Origin(const Params& params, int tile) {
    const int by_rows = tile / params.tiles_x;
    n = by_rows / params.tiles_y;
    y = (by_rows - n * params.tiles_y) * params.patch.height;
    x = (tile - by_rows * params.tiles_x) * params.patch.width;
    n *= params.patch.subtiles_n;
  }
};

// A tile, a run of the tiles of output channels over all groups, and which chunks of their sums. The tile's runs are
// splits of it.
struct Unit {
  int tile, split, splits, part, first_block, blocks, first_chunk, end_chunk;

  __device__ __forceinline__ int end_block() const { return first_block + blocks; }
  // Whether it is the unit's first of a group, or the last.
  __device__ __forceinline__ bool opens(const Params& params, int block) const {
    return block == first_block || block % params.blocks_n == 0;
  }
  __device__ __forceinline__ bool closes(const Params& params, int block) const {
    return block == end_block() - 1 || (block + 1) % params.blocks_n == 0;
  }
};

// Equal shares: of all tiles' tiles of output channels, one tile's after another's, the first `longer` blocks have one
// more. How many come before a block's, and whose one of them is. No division of 64 bits: that would be a call, after
// which the compiler no longer takes the walk for the same in all threads, and has wgmma wait for each other.
__device__ __forceinline__ int before_share(const Params& params, int block) {
  return block * params.share + min(block, params.longer_shares);
}
__device__ __forceinline__ int share_of(const Params& params, int one) {
  const int in_longer = params.longer_shares * (params.share + 1);
  return one < in_longer ? one / (params.share + 1) : params.longer_shares + (one - in_longer) / params.share;
}

// Visits the block's units: of each tile in turn, or where shares are equal, of those that its share lies in.
template <typename Visit>
__device__ __forceinline__ void for_each_unit(const Params& params, Visit&& visit) {
  const int blocks = params.groups * params.blocks_n, me = static_cast<int>(blockIdx.x);
  const bool equal = params.share > 0;
  const int end = equal ? before_share(params, me + 1) : params.tiles * params.splits * params.parts;
  int next = equal ? before_share(params, me) : me;
  while (next < end) {
    Unit unit;
    if (equal) {
      unit.tile = next / blocks;
      unit.first_block = next - unit.tile * blocks;
      unit.blocks = min(blocks - unit.first_block, end - next);
      const int first = share_of(params, unit.tile * blocks);
      unit.split = me - first;
      unit.splits = share_of(params, unit.tile * blocks + blocks - 1) - first + 1;
      unit.part = 0, unit.first_chunk = 0, unit.end_chunk = params.chunks;
      next += unit.blocks;
    } else {
      const int sums = next / params.parts;
      unit.part = next - sums * params.parts;
      unit.first_chunk = params.chunks * unit.part / params.parts;
      unit.end_chunk = params.chunks * (unit.part + 1) / params.parts;
      unit.tile = sums / params.splits;
      unit.split = sums - unit.tile * params.splits;
      unit.splits = params.splits;
      unit.first_block = blocks * unit.split / params.splits;
      unit.blocks = blocks * (unit.split + 1) / params.splits - unit.first_block;
      next += static_cast<int>(gridDim.x);
    }
    visit(unit);
  }
}

}  // namespace convmin::sm90::patch
