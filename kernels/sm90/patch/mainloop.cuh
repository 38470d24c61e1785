// The consumers' multiplication: chunks of input channels x planes x their taps x steps of 32 bytes. A tap is a shift
// of its plane's start address; the groups of 8 output pixels under a descriptor lie a row of the plane apart.
#pragma once

#include "ptx/hold.cuh"
#include "ptx/wgmma.cuh"
#include "sm90/patch/shared.cuh"
#include "sm90/patch/traits.h"

namespace convmin::sm90::patch {

template <typename T>
class Mainloop {
 public:
  using Accumulators = float[T::kPerConsumer][T::kTileN / 2];

  // `first_subtile` of the warpgroup's.
  __device__ __forceinline__ Mainloop(const Params& params, const Shared& shared, int first_subtile)
      : params_(params), shared_(shared), leader_(threadIdx.x % 128 == 0) {
    const Patch& patch = params.patch;
    const int stride = patch.subtile_w == kSubtile ? 8 : patch.halo_w;
    high_ = ptx::wgmma_descriptor_high(ptx::uniform<std::uint32_t>(stride * kRowBytes));
#pragma unroll
    for (int i = 0; i < T::kPerConsumer; ++i) {
      const int subtile = first_subtile + i, x = subtile % patch.subtiles_x, rest = subtile / patch.subtiles_x;
      const int y = rest % patch.subtiles_y, n = rest / patch.subtiles_y;
      subtile_[i] =
          ptx::uniform((n * patch.image_pixels + y * patch.subtile_h * patch.halo_w + x * patch.subtile_w) * kRowUnits);
    }
  }

  // One tile of output channels of a unit. The input's slots are read for the first time, or the last, of a patch.
  __device__ __forceinline__ void run(const Unit& unit, int block, Accumulators& accumulators) {
    const bool first = unit.opens(params_, block), last = unit.closes(params_, block);
    int accumulate = 0;
    // A patch that runs on begins with a whole row.
    const auto start = params_.patch.runs_on
                           ? static_cast<int>(params_.by_pitch.divide(unit.tile * params_.patch.width).remainder)
                           : 0;
    std::uint32_t read_stage = 0, read_slot = 0;  // barriers to arrive at once the multiplications before are done
    const int planes = params_.patch.planes;
    const int end_chunk = unit.end_chunk_of(params_, block);
    for (int chunk = unit.first_chunk_of(block); chunk < end_chunk; ++chunk) {
      const int channels = min(params_.group_channels - chunk * T::kChunk, T::kChunk);
      const int steps = (channels + T::kChunk / T::kSteps - 1) / (T::kChunk / T::kSteps);
      int tap = 0;
      for (int plane = 0; plane < planes; ++plane) {
        if (first || !params_.resident) input_.wait_full(shared_.input);
        const std::uint32_t slot = ptx::wgmma_descriptor(
            ptx::uniform(shared_.slots + (input_.slot * params_.patch.pixels + start) * kRowBytes));
        for (const int end = shared_.planes[plane]; tap < end; ++tap) {
          weight_.wait_full(shared_.weight);
          const std::uint32_t a = slot + ptx::uniform(shared_.taps[tap]);
          const std::uint32_t b = ptx::wgmma_descriptor(ptx::uniform(shared_.stages + weight_.slot * T::kStageBytes));
          multiply<T::kSteps>(accumulators, a, b, steps, accumulate);
          accumulate = 1;
          ptx::wgmma_wait<1>();
          release(read_stage), release(read_slot);
          read_stage = weight_.empty(shared_.weight);
          weight_.advance(shared_.weight);
        }
        if (last || !params_.resident) read_slot = input_.empty(shared_.input);
        input_.advance(shared_.input);
      }
    }
    ptx::wgmma_wait<0>();
#pragma unroll
    for (auto& subtile : accumulators) ptx::wgmma_hold(subtile);
    release(read_stage), release(read_slot);
    if (params_.resident && !last) input_.rewind(shared_.input, params_.chunks * planes);
  }

 private:
  static constexpr int kRowUnits = kRowBytes / 16;  // descriptors count 16 bytes

  // A tap's `steps`, at most kSteps, as one group of multiplications. Each number of them has its own commit: behind a
  // branch, ptxas ends the group where the branch does, and commits an empty one after it, so that to wait for all
  // groups but one is to wait for this one too.
  template <int kSteps>
  __device__ __forceinline__ void multiply(Accumulators& accumulators, std::uint32_t a, std::uint32_t b, int steps,
                                           int accumulate) const {
    if constexpr (kSteps > 1) {
      if (steps < kSteps) return multiply<kSteps - 1>(accumulators, a, b, steps, accumulate);
    }
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int i = 0; i < T::kPerConsumer; ++i) {
        ptx::Wgmma<typename T::Operand, T::kTileN>::multiply(accumulators[i], a + subtile_[i] + step * 2, b + step * 2,
                                                             accumulate | step, high_);
      }
    }
    ptx::wgmma_commit();
  }

  __device__ __forceinline__ void release(std::uint32_t& barrier) const {
    if (barrier != 0 && leader_) ptx::mbarrier_arrive(barrier);
    barrier = 0;
  }

  const Params& params_;
  const Shared& shared_;
  const bool leader_;
  Cursor input_, weight_;
  std::uint32_t high_;                      // of the input's descriptors
  std::uint32_t subtile_[T::kPerConsumer];  // where they begin in a slot
};

}  // namespace convmin::sm90::patch
