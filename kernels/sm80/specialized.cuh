// The mma.sync kernel for large problems: warps of their own load, the others multiply, and nobody meets at a barrier
// of the block. Persistent: a block takes one tile after another, with all of its output channels or an equal share of
// them where tiles are few, and what it loads runs ahead over their boundaries.
//
// Two rings in shared memory hand over: patches of the input, one for each stage, and steps of the weight. A slot has
// two mbarriers. `full` counts the threads that load, each when its part is there; `empty` counts the warps that
// multiply, each when it has read the slot: one lane arrives for all, or every lane (Params::arrivals).
//
// The order that the loading warps work in can't lock up. They wait for nothing but an empty slot, and while they wait
// for one in the ring of patches, they fill whatever empties in that of the weight; so what the multiplying warps need
// next, a patch or a step, is always brought: its slot is empty, since they have read all that came before it. The
// loading warps meet only between two tiles. Who is there first has found the last patch's slot empty, and so all slots
// before it: the others need nothing of the multiplying warps to get there.
#pragma once

#include "ptx/griddepcontrol.cuh"
#include "ptx/warpgroup.cuh"
#include "sm80/producer.cuh"
#include "sm80/range.cuh"
#include "sm80/ring.cuh"
#include "sm80/specialized_mainloop.cuh"

namespace convmin::sm80 {

// The part of a loading warp.
template <typename T>
class Loader {
 public:
  __device__ __forceinline__ Loader(const Params& params, std::uint8_t* shared)
      : params_(params),
        producer_(params, shared),
        patch_ring_(Ring::of_patches(params, shared)),
        weight_ring_(Ring::of_weights(params, shared)),
        tile_steps_(params.split_blocks * params.steps),
        next_tile_(blockIdx.x) {}

  __device__ __forceinline__ void run() {
    const int stages = params_.split_blocks * params_.stages;
    for (unsigned index = blockIdx.x; index < params_.tiles; index += gridDim.x) {
      {
        const BlockTile tile(params_, index);
        ptx::named_barrier_wait(kLoadersBarrier, T::kLoading);  // of the table before
        producer_.begin_tile(tile);
        ptx::named_barrier_wait(kLoadersBarrier, T::kLoading);
      }
      for (int stage = 0; stage < stages; ++stage) {
        bring_weights();
        while (!is_empty(patches_, patch_ring_)) {
          __nanosleep(kNap);
          bring_weights();
        }
        bring_patch();
      }
      if constexpr (T::kScaled) {
        ptx::named_barrier_wait(kLoadersBarrier, T::kLoading);  // all parts have been counted
        producer_.note_range(BlockTile(params_, index));
      }
    }
    while (next_tile_ < params_.tiles) {
      bring_weights();
      __nanosleep(kNap);
    }
    // Before the thread ends.
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
  }

 private:
  static constexpr unsigned kNap = 64;  // nanoseconds; a step takes about 400

  // The same answer in all lanes, which go on together.
  static __device__ __forceinline__ bool is_empty(const RingCursor& at, const Ring& ring) {
    return __all_sync(0xffffffffu, ptx::mbarrier_test(at.empty(ring), at.parity() ^ 1)) != 0;
  }

  // As many steps as there is room for now. A multiplying warp needs one every 800 cycles or so, about as long as the
  // loads of a batch take to arrive: so this comes between its loads and its stores, and again after these.
  __device__ __forceinline__ void bring_weights() {
    while (next_tile_ < params_.tiles && is_empty(weights_, weight_ring_)) {
      producer_.load_weight(weights_.slot() * T::kWeightBytes);
      ptx::cp_async_arrive(weights_.full(weight_ring_));
      weights_.advance(weight_ring_);
      if (++step_ < tile_steps_) continue;
      step_ = 0;
      next_tile_ += gridDim.x;
      producer_.rewind_weight();
    }
  }

  __device__ __forceinline__ void bring_patch() {
    while (producer_.has_batch()) {
      producer_.load();
      bring_weights();
      producer_.store();
      bring_weights();
    }
    ptx::mbarrier_arrive(patches_.full(patch_ring_));
    patches_.advance(patch_ring_);
    producer_.next_stage();
  }

  const Params& params_;
  Producer<T> producer_;
  const Ring patch_ring_, weight_ring_;
  RingCursor patches_, weights_;
  const int tile_steps_;
  int step_ = 0;        // of the weight, within a tile
  unsigned next_tile_;  // that the next step of the weight is for
};

// On Hopper, of the 168 that each thread has at first, by whole warpgroups.
inline constexpr int kMultiplyingRegisters = 200, kLoadingRegisters = 104;

template <typename T>
__global__ void __launch_bounds__(T::kThreads, T::kTile.blocks_per_sm)
    conv_scale_min_sm80_specialized(const __grid_constant__ Params params) {
  extern __shared__ __align__(16) std::uint8_t shared[];
  ptx::wait_for_prerequisites();
  if constexpr (T::kScaled) {
    if (leaves_everything<T>(params)) return;
  }
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    for (const Ring& ring : {Ring::of_patches(params, shared), Ring::of_weights(params, shared)}) {
      for (int i = 0; i < ring.slots; ++i) {
        ptx::mbarrier_init(ring.barriers + 8 * i, T::kLoading);
        ptx::mbarrier_init(ring.barriers + 8 * (ring.slots + i), T::kMultiplying / 32 * params.arrivals);
      }
    }
    for (int row = 0; row < T::kWarpsM; ++row) {
      const Handover handover = Handover::of_row(params, shared, row);
      ptx::mbarrier_init(handover.left, 32);
      ptx::mbarrier_init(handover.taken, 32);
    }
  }
  int* offsets = reinterpret_cast<int*>(shared + params.offsets);
  for (int tap = thread; tap < params.taps; tap += T::kThreads) offsets[tap] = tap_offset(params, tap);
  [[maybe_unused]] const Epilogue<T> epilogue(params, shared);  // clears the minima
  if constexpr (T::kScaled) {
    auto* faint_parts = reinterpret_cast<unsigned*>(shared + params.faint_parts);
    for (int e = thread; e < params.patch_bytes / kPixelBytes; e += T::kThreads) faint_parts[e] = 0;
  }
  __syncthreads();
  if (thread < T::kMultiplying) {
    if constexpr (ptx::kHandsOverRegisters) ptx::take_registers<kMultiplyingRegisters>();
    multiply_tiles<T>(params, shared);
  } else {
    if constexpr (ptx::kHandsOverRegisters) ptx::give_registers<kLoadingRegisters>();
    Loader<T>(params, shared).run();
  }
}

}  // namespace convmin::sm80
