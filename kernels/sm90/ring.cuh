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

// A block's share of the units, run after run.
class Runs {
 public:
  __device__ __forceinline__ explicit Runs(const Params& params) : params_(params), unit_(first_of(blockIdx.x)) {
    share_ = first_of(blockIdx.x + 1) - unit_;
  }

  // False after the last.
  __device__ __forceinline__ bool next(Run& run) {
    if (share_ <= 0) return false;
    const int strip = unit_ / params_.oh;
    run.first_row = unit_ - strip * params_.oh;
    run.n = strip / params_.strips;
    run.first_column = (strip - run.n * params_.strips) * kTileM;
    run.rows = min(params_.oh - run.first_row, share_);
    unit_ += run.rows;
    share_ -= run.rows;
    return true;
  }

 private:
  __device__ __forceinline__ int first_of(unsigned block) const {
    return static_cast<int>(static_cast<std::int64_t>(params_.units) * block / gridDim.x);
  }

  const Params& params_;
  int unit_, share_;
};

}  // namespace convmin::sm90
