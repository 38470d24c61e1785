// The part of a specialized block's multiplying warps. With three warps to a scheduler a thread has 168 registers, of
// which the sums take 128: too few for fragments half a step ahead. Of the weight there are the pair that is multiplied
// and the next, and a fragment of the pixels is loaded into the registers of the one before it, as soon as that has met
// the half's last pair. Its latency runs under the multiplications of the other fragments. Everything else is packed,
// or made anew.
#pragma once

#include "ptx/block_index.cuh"
#include "ptx/hold.cuh"
#include "ptx/warpgroup.cuh"
#include "sm80/epilogue.cuh"
#include "sm80/ring.cuh"

namespace convmin::sm80 {

// The tile that a lane is at, and which of the block's output channels.
struct Progress {
  unsigned tile;
  int block;
};

// What a multiplying warp keeps in shared memory: where its pixels' windows start in the first patch, in 16 bytes; and,
// where registers are few, its progress, a copy for each lane, so that none waits for another.
template <typename T>
struct WarpState {
  std::uint16_t windows[T::kWarpM];
  Progress progress[32];

  static __device__ __forceinline__ WarpState& mine(const Params& params, std::uint8_t* shared) {
    static_assert(sizeof(WarpState) * T::kMultiplying / 32 == kWarpStateBytes, "tiles.h states what the kernel uses");
    return reinterpret_cast<WarpState*>(shared + params.warp_states)[ptx::thread_index() / 32];
  }

  // The whole warp calls it.
  __device__ __forceinline__ void fill_windows(const Params& params, std::uint8_t* shared, const BlockTile& tile) {
    const int warp = static_cast<int>(ptx::thread_index()) / 32, lane = static_cast<int>(ptx::thread_index()) % 32;
    const std::uint32_t patches = ptx::shared_address(shared + params.patches);
    __syncwarp();
    for (int m = lane; m < T::kWarpM; m += 32) {
      const int window = tile.window(params, warp % T::kWarpsM * T::kWarpM + m);
      windows[m] = static_cast<std::uint16_t>((patches + window) / 16);
    }
    __syncwarp();
  }
};

// A lane's progress, in registers where there are enough.
template <typename T>
struct KeptProgress {
  const Params& params;
  std::uint8_t* const shared;
  Progress here;

  __device__ __forceinline__ Progress& operator()() {
    if constexpr (ptx::kHandsOverRegisters) return here;
    return WarpState<T>::mine(params, shared).progress[ptx::thread_index() % 32];
  }
};

// A warp's multiplication with a block of output channels.
template <typename T>
class SpecializedMainloop {
 public:
  using Accumulators = typename Mainloop<T>::Accumulators;
  using Pixels = typename Mainloop<T>::Pixels;
  static constexpr int kPairs = T::kFragmentsN / 2;

  __device__ __forceinline__ SpecializedMainloop(const Params& params, std::uint8_t* shared)
      : params_(params), shared_(shared) {
    const int warp = static_cast<int>(ptx::thread_index()) / 32, lane = static_cast<int>(ptx::thread_index()) % 32;
    weight_ = ptx::shared_address(shared) + (warp / T::kWarpsM * (T::kWarpN / 16) * 32 + lane) * 16;
    if constexpr (kKeepsWindows) {
#pragma unroll
      for (int m = 0; m < T::kFragmentsM; m += 2) windows_[m / 2] = window_of(m) | window_of(m + 1) << 16;
    }
  }

  // In each half of a step: of the windows there is this much in registers, and no more.
  __device__ __forceinline__ void hold() {
    if constexpr (kKeepsWindows) {
#pragma unroll
      for (std::uint32_t& window : windows_) ptx::hold(window);
    }
  }

  // `patch` is the tap's offset in the ring of patches.
  template <int kHalf>
  __device__ __forceinline__ void load_fragment(int patch, int m, Pixels& a) const {
    std::uint32_t window;
    if constexpr (kKeepsWindows) {
      window = m % 2 == 0 ? windows_[m / 2] & 0xffff : windows_[m / 2] >> 16;
    } else {
      window = window_of(m);
    }
    ptx::ldmatrix_x4(a[m], window * 16 + patch + kHalf * 32);
  }
  // A pair of fragments of the weight; `weight` is the step's offset in its ring.
  template <int kHalf>
  __device__ __forceinline__ uint4 load_pair(int weight, int n) const {
    return ptx::load_shared_16(weight_ + weight + (kHalf * (T::kTileN / 16) + n) * 32 * 16);
  }

  // One pair with all pixels. `done(m)` is called when fragment m is needed no more.
  template <typename Done>
  static __device__ __forceinline__ void multiply_pair(int n, const Pixels& a, const uint4& b,
                                                       Accumulators& accumulators, Done&& done) {
#pragma unroll
    for (int m = 0; m < T::kFragmentsM; ++m) {
      ptx::Mma<typename T::Operand>::multiply(accumulators[m][2 * n], a[m], b.x, b.y);
      ptx::Mma<typename T::Operand>::multiply(accumulators[m][2 * n + 1], a[m], b.z, b.w);
      done(m);
    }
  }

 private:
  static constexpr bool kKeepsWindows = ptx::kHandsOverRegisters;

  // Of fragment m, of this lane's row of it and half of its 32 bytes, in 16 bytes.
  __device__ __forceinline__ std::uint32_t window_of(int m) const {
    const unsigned lane = ptx::thread_index() % 32;
    return WarpState<T>::mine(params_, shared_).windows[m * 16 + lane % 16] + lane / 16;
  }

  const Params& params_;
  std::uint8_t* const shared_;
  std::uint32_t weight_;
  std::uint32_t windows_[kKeepsWindows ? T::kFragmentsM / 2 : 1];  // of two fragments each
};

// The warps of the second half of the channels begin later, by about half of the weight's ring after the first loads
// have come, and stay behind: one half's epilogue then runs under the other's multiplications.
inline constexpr unsigned kLag = 3000;  // nanoseconds

template <typename T>
__device__ __forceinline__ void multiply_tiles(const Params& params, std::uint8_t* shared) {
  using M = SpecializedMainloop<T>;
  constexpr int kPairs = M::kPairs;
  static_assert(kPairs % 2 == 0, "pairs take turns in two places");
  // Whether there are registers to find the next step in the middle of one, so that it is known at the end.
  constexpr bool kLooksAhead = ptx::kHandsOverRegisters;
  const Ring patch_ring = Ring::of_patches(params, shared), weight_ring = Ring::of_weights(params, shared);
  const int* offsets = reinterpret_cast<const int*>(shared + params.offsets);
  const auto warp = [] { return static_cast<int>(ptx::thread_index()) / 32; };
  const auto speaks = [&] {
    return static_cast<std::uint32_t>(static_cast<int>(ptx::thread_index() % 32) < params.arrivals);
  };
  const auto handover = [&] { return Handover::of_row(params, shared, warp() % T::kWarpsM); };
  // Of a tile in the order of this block's.
  const auto parity_of = [](unsigned index) { return static_cast<int>(index / gridDim.x % 2); };
  using Cursors = RingCursors<!ptx::kHandsOverRegisters>;
  Cursors cursors;
  // Until the next step's patch and weight are there.
  const auto wait_for_patch = [&] {
    const RingCursor patches = cursors.patches();
    ptx::mbarrier_wait(patches.full(patch_ring), patches.parity());
  };
  const auto wait_for_weight = [&] {
    const RingCursor weights = cursors.weights();
    ptx::mbarrier_wait(weights.full(weight_ring), weights.parity());
  };
  if (warp() >= T::kWarpsM) __nanosleep(kLag);
  const auto state = [&]() -> WarpState<T>& { return WarpState<T>::mine(params, shared); };
  KeptProgress<T> progress{params, shared};
  const auto index = [&]() -> unsigned& { return progress().tile; };
  const auto block = [&]() -> int& { return progress().block; };
  for (index() = ptx::block_index(); index() < params.tiles; index() += gridDim.x) {
    // Within an image, windows lie alike in all patches, and the first tile has all of its rows.
    const bool alike = params.tiles_per_image > 0;
    if (!alike || index() == ptx::block_index()) {
      state().fill_windows(params, shared, BlockTile(params, alike ? 0 : index()));
    }
    for (block() = 0; block() < params.split_blocks; ++block()) {
      M mainloop(params, shared);
      typename M::Accumulators accumulators = {};
      typename M::Pixels pixels;
      uint4 pairs[2];
      wait_for_patch();
      wait_for_weight();
      int at = cursors.patches().slot() * params.patch_bytes + offsets[0];
#pragma unroll
      for (int m = 0; m < T::kFragmentsM; ++m) mainloop.template load_fragment<0>(at, m, pixels);
      pairs[0] = mainloop.template load_pair<0>(cursors.weights().slot() * T::kWeightBytes, 0);
      for (int steps_left = params.steps; steps_left > 0; --steps_left) {
        mainloop.hold();
        const int weight = cursors.weights().slot() * T::kWeightBytes;
#pragma unroll
        for (int n = 0; n < kPairs; ++n) {
          const bool last = n == kPairs - 1;
          pairs[(n + 1) % 2] =
              last ? mainloop.template load_pair<1>(weight, 0) : mainloop.template load_pair<0>(weight, n + 1);
          M::multiply_pair(n, pixels, pairs[n % 2], accumulators, [&](int m) {
            if (last) mainloop.template load_fragment<1>(at, m, pixels);
          });
        }
        mainloop.hold();
        const Cursors before = cursors;
        bool ends_stage, there = false;
        // As it is written, and with the tap by itself, `at` comes to be in a uniform register, which ldmatrix adds to
        // its addresses for nothing: 3 % of the kernel's time.
        const auto find_next = [&] {
          ends_stage = cursors.advance(patch_ring, weight_ring, params.taps);
          at = cursors.patches().slot() * params.patch_bytes + offsets[cursors.tap()];
        };
        if constexpr (kLooksAhead) {
          find_next();
          there = ptx::mbarrier_test(cursors.weights().full(weight_ring), cursors.weights().parity());
        }
#pragma unroll
        for (int n = 0; n < kPairs - 1; ++n) {
          pairs[(n + 1) % 2] = mainloop.template load_pair<1>(weight, n + 1);
          M::multiply_pair(n, pixels, pairs[n % 2], accumulators, [](int) {});
        }

        // All of this step has been read.
        if constexpr (!kLooksAhead) ends_stage = cursors.ends_patch(params.taps);
        __syncwarp();
        ptx::mbarrier_arrive_if(speaks(), before.weights().empty(weight_ring));
        if (ends_stage) ptx::mbarrier_arrive_if(speaks(), before.patches().empty(patch_ring));
        if constexpr (!kLooksAhead) find_next();
        if (steps_left > 1) {
          if (ends_stage) wait_for_patch();
          if (!there) wait_for_weight();
          pairs[0] = mainloop.template load_pair<0>(cursors.weights().slot() * T::kWeightBytes, 0);
          M::multiply_pair(kPairs - 1, pixels, pairs[1], accumulators,
                           [&](int m) { mainloop.template load_fragment<0>(at, m, pixels); });
        } else {
          M::multiply_pair(kPairs - 1, pixels, pairs[1], accumulators, [](int) {});
        }
      }
      // The second of the warps that share pixels has taken what the first left of the tile before.
      if (block() == 0 && index() != ptx::block_index() && warp() < T::kWarpsM) {
        ptx::mbarrier_wait(handover().taken, parity_of(index()) ^ 1);
      }
      const int channels = block() + (T::kSharesChannels ? first_shared_block(params) : 0);
      Epilogue<T>(params, shared, AfterMultiplication{}).reduce(channels, accumulators);
    }
    if (warp() < T::kWarpsM) {
      ptx::mbarrier_arrive(handover().left);
    } else {
      __syncwarp();
      ptx::mbarrier_wait(handover().left, parity_of(index()));
      Epilogue<T>(params, shared, AfterMultiplication{}).write_row(index());
      ptx::mbarrier_arrive(handover().taken);
      __syncwarp();
    }
  }
}

}  // namespace convmin::sm80
