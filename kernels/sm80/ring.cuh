// The rings in shared memory between the warps of a specialized block that load and those that multiply.
#pragma once

#include "ptx/mbarrier.cuh"
#include "ptx/shared_address.cuh"
#include "sm80/params.h"

namespace convmin::sm80 {

// The mbarriers of a ring, first all that say full, then all that say empty.
struct Ring {
  std::uint32_t barriers;
  int slots;

  static __device__ __forceinline__ Ring of_patches(const Params& params, const std::uint8_t* shared) {
    return {ptx::shared_address(shared + params.flag), params.patch_slots};
  }
  static __device__ __forceinline__ Ring of_weights(const Params& params, const std::uint8_t* shared) {
    return {ptx::shared_address(shared + params.flag) + 16 * params.patch_slots, params.weight_stages};
  }
};

// A position in a ring, and the parity of its round. The ring is what a constant and the parameters make it, wherever
// it is needed.
class RingCursor {
 public:
  RingCursor() = default;
  explicit __device__ __forceinline__ RingCursor(int state) : state_(state) {}
  __device__ __forceinline__ int state() const { return state_; }

  __device__ __forceinline__ int slot() const { return state_ >> 1; }
  __device__ __forceinline__ int parity() const { return state_ & 1; }
  __device__ __forceinline__ std::uint32_t full(const Ring& ring) const { return ring.barriers + slot() * 8; }
  __device__ __forceinline__ std::uint32_t empty(const Ring& ring) const { return full(ring) + ring.slots * 8; }

  __device__ __forceinline__ void advance(const Ring& ring) {
    state_ += 2;
    if (slot() == ring.slots) state_ = parity() ^ 1;
  }

 private:
  int state_ = 0;
};

// A position in each of both, and the tap of the patch. kPacked: all in one register.
template <bool kPacked>
class RingCursors {
 public:
  __device__ __forceinline__ RingCursor patches() const { return RingCursor(all_ >> (kTapBits + kWeightBits)); }
  __device__ __forceinline__ RingCursor weights() const {
    return RingCursor(all_ >> kTapBits & ((1 << kWeightBits) - 1));
  }
  __device__ __forceinline__ int tap() const { return kPacked ? all_ & ((1 << kTapBits) - 1) : tap_; }

  // Whether this step is the last of its patch's `taps`.
  __device__ __forceinline__ bool ends_patch(int taps) const { return tap() + 1 == taps; }
  // To the next step; whether that has another patch.
  __device__ __forceinline__ bool advance(const Ring& patch_ring, const Ring& weight_ring, int taps) {
    RingCursor patches = this->patches(), weights = this->weights();
    int tap = this->tap() + 1;
    const bool ends_patch = tap == taps;
    if (ends_patch) tap = 0;
    weights.advance(weight_ring);
    if (ends_patch) patches.advance(patch_ring);
    all_ = patches.state() << (kTapBits + kWeightBits) | weights.state() << kTapBits | (kPacked ? tap : 0);
    tap_ = kPacked ? 0 : tap;
    return ends_patch;
  }

 private:
  static constexpr int kTapBits = kPacked ? 16 : 0, kWeightBits = 8;
  int all_ = 0, tap_ = 0;
};

// Where two warps that share pixels, a row of warps, hand over: an mbarrier each for what one leaves, and for what the
// other has taken. Every lane arrives, for what it has written or read itself.
struct Handover {
  std::uint32_t left, taken;

  static __device__ __forceinline__ Handover of_row(const Params& params, const std::uint8_t* shared, int row) {
    const std::uint32_t first =
        ptx::shared_address(shared + params.flag) + 16 * (params.patch_slots + params.weight_stages + row);
    return {first, first + 8};
  }
};

}  // namespace convmin::sm80
