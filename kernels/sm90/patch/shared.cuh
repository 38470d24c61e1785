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

// A tile, a run of the tiles of output channels over all groups, and which chunks of their sums.
struct Unit {
  int tile, split, part, first_block, blocks, first_chunk, end_chunk;

  __device__ __forceinline__ int end_block() const { return first_block + blocks; }
  // Whether it is the unit's first of a group, or the last.
  __device__ __forceinline__ bool opens(const Params& params, int block) const {
    return block == first_block || block % params.blocks_n == 0;
  }
  __device__ __forceinline__ bool closes(const Params& params, int block) const {
    return block == end_block() - 1 || (block + 1) % params.blocks_n == 0;
  }
};

// Visits the block's units.
template <typename Visit>
__device__ __forceinline__ void for_each_unit(const Params& params, Visit&& visit) {
  const int blocks = params.groups * params.blocks_n, units = params.tiles * params.splits * params.parts;
  for (int i = static_cast<int>(blockIdx.x); i < units; i += static_cast<int>(gridDim.x)) {
    Unit unit;
    const int sums = i / params.parts;
    unit.part = i - sums * params.parts;
    unit.first_chunk = params.chunks * unit.part / params.parts;
    unit.end_chunk = params.chunks * (unit.part + 1) / params.parts;
    unit.tile = sums / params.splits;
    unit.split = sums - unit.tile * params.splits;
    unit.first_block = blocks * unit.split / params.splits;
    unit.blocks = blocks * (unit.split + 1) / params.splits - unit.first_block;
    visit(unit);
  }
}

}  // namespace convmin::sm90::patch
