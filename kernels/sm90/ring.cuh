// The ring of input rows between the producer and the consumers, and the walk over a block's units.
#pragma once

#include "ptx/mbarrier.cuh"
#include "sm90/params.h"

namespace convmin::sm90 {

// A position in the ring, the parity of the round that it belongs to, and the number of the row that it holds then.
struct RingCursor {
  int slot = 0, parity = 0, row = 1;

  __device__ __forceinline__ void advance(int ring) {
    ++row;
    if (++slot == ring) {
      slot = 0;
      parity ^= 1;
    }
  }
};

// A run of units: `rows` output rows of one strip of one image.
struct Run {
  int n, first_column, first_row, rows;
};

// Visits a block's share of the units, run after run.
template <typename Visit>
__device__ __forceinline__ void for_each_run(const Params& params, Visit&& visit) {
  const auto first_of = [&](unsigned block) {
    return static_cast<int>(static_cast<std::int64_t>(params.units) * block / gridDim.x);
  };
  int unit = first_of(blockIdx.x);
  int share = first_of(blockIdx.x + 1) - unit;
  while (share > 0) {
    const int strip = unit / params.oh;
    Run run;
    run.first_row = unit - strip * params.oh;
    run.n = strip / params.strips;
    run.first_column = (strip - run.n * params.strips) * kTileM;
    run.rows = min(params.oh - run.first_row, share);
    visit(run);
    unit += run.rows;
    share -= run.rows;
  }
}

}  // namespace convmin::sm90
