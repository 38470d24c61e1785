// The producer warpgroup: one thread has the copy engine bring the input under a tile, chunk of channels by chunk, into
// the ring's slots as [pixel][128 bytes], swizzled; one streams the weight. float32 that is to multiply as TF32 is
// rounded in its slot, by two warps.
#pragma once

#include "ptx/mma.cuh"
#include "ptx/tensor_copy.cuh"
#include "ptx/warpgroup.cuh"
#include "sm90/patch/shared.cuh"
#include "sm90/patch/traits.h"

namespace convmin::sm90::patch {

// The caller's weight. Rows beyond a group's output channels are another's, or zeros: the epilogue leaves them out.
template <typename T>
__device__ __forceinline__ void stream_filters(const Params& params, const Shared& shared) {
  ptx::prefetch(params.filters);
  Cursor cursor;
  for_each_unit(params, [&](const Unit& unit) {
    for (int block = unit.first_block; block < unit.end_block(); ++block) {
      const int group = block / params.blocks_n;
      const int k = group * params.group_outputs + (block - group * params.blocks_n) * T::kTileN;
      for (int chunk = unit.first_chunk; chunk < unit.end_chunk; ++chunk) {
        for (int r = 0; r < params.r; ++r) {
          for (int s = 0; s < params.s; ++s) {
            cursor.wait_empty(shared.weight);
            ptx::mbarrier_arrive_expect(cursor.full(shared.weight), T::kStageBytes);
            ptx::tensor_copy(shared.stages + cursor.slot * T::kStageBytes, params.filters, chunk * T::kChunk, s, r, k,
                             0, cursor.full(shared.weight));
            cursor.advance(shared.weight);
          }
        }
      }
    }
  });
}

template <typename T>
__device__ __forceinline__ void stream_weight(const Params& params, const Shared& shared) {
  if (!params.packs) return stream_filters<T>(params, shared);
  Cursor cursor;
  const int taps = params.r * params.s;
  for_each_unit(params, [&](const Unit& unit) {
    // A unit of more than one block has all their chunks.
    const int tiles = unit.blocks * (unit.end_chunk - unit.first_chunk) * taps;
    const auto* source =
        static_cast<const std::uint8_t*>(params.packed_weight) +
        (static_cast<std::int64_t>(unit.first_block) * params.chunks + unit.first_chunk) * taps * T::kStageBytes;
    for (int i = 0; i < tiles; ++i, source += T::kStageBytes) {
      cursor.wait_empty(shared.weight);
      ptx::mbarrier_arrive_expect(cursor.full(shared.weight), T::kStageBytes);
      ptx::bulk_copy(shared.stages + cursor.slot * T::kStageBytes, source, T::kStageBytes, cursor.full(shared.weight));
      cursor.advance(shared.weight);
    }
  });
}

// Calls visit(unit, group, chunk) for each slot of the input that the block fills, in order.
template <typename Visit>
__device__ __forceinline__ void for_each_slot(const Params& params, Visit&& visit) {
  for_each_unit(params, [&](const Unit& unit) {
    for (int block = unit.first_block; block < unit.end_block(); ++block) {
      if (params.resident && !unit.opens(params, block)) continue;
      for (int chunk = unit.first_chunk; chunk < unit.end_chunk; ++chunk) visit(unit, block / params.blocks_n, chunk);
    }
  });
}

// What lies outside the image, or beyond the group's channels, the engine fills with zeros.
template <typename T>
__device__ __forceinline__ void stream_input(const Params& params, const Shared& shared) {
  const Patch& patch = params.patch;
  const int bytes = patch.planes * patch.subtiles_n * patch.image_pixels * kRowBytes;
  ptx::prefetch(params.input);
  Cursor cursor;
  for_each_slot(params, [&](const Unit& unit, int group, int chunk) {
    const Origin origin(params, unit.tile);
    const int h = origin.y * params.stride_h - params.padding_h, w = origin.x * params.stride_w - params.padding_w;
    const std::uint32_t slot = shared.slots + cursor.slot * patch.pixels * kRowBytes;
    const std::uint32_t barrier = params.rounds ? shared.arrived + 8 * cursor.slot : cursor.full(shared.input);
    cursor.wait_empty(shared.input);
    ptx::mbarrier_arrive_expect(barrier, bytes);
    for (int plane = 0; plane < patch.planes; ++plane) {
      ptx::tensor_copy(slot + plane * patch.plane_pixels * kRowBytes, params.input, chunk * T::kChunk, group, w + plane,
                       h, origin.n, barrier);
    }
    cursor.advance(shared.input);
  });
}

// float32 to TF32, in place: kCount vectors of a thread, whose loads are all under way before the first is stored.
template <int kCount>
__device__ __forceinline__ void round_vectors(std::uint32_t first) {
  const auto rounded = [](std::uint32_t bits) { return ptx::round_to_tf32(__uint_as_float(bits)); };
  uint4 v[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) v[i] = ptx::load_shared_16(first + i * kRounders * 16);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    ptx::store_shared_16(first + i * kRounders * 16,
                         {rounded(v[i].x), rounded(v[i].y), rounded(v[i].z), rounded(v[i].w)});
  }
}

template <typename T>
__device__ __forceinline__ void round_input(const Params& params, const Shared& shared, int thread) {
  constexpr int kAhead = 8;
  static_assert(8 * kRowBytes / 16 == kRounders, "a patch's groups of 8 pixels are a vector of each thread");
  Cursor cursor;
  for_each_slot(params, [&](const Unit&, int, int) {
    ptx::mbarrier_wait(shared.arrived + 8 * cursor.slot, cursor.parity);
    std::uint32_t at = shared.slots + cursor.slot * params.patch.pixels * kRowBytes + thread * 16;
    int left = params.patch.pixels / 8;
    for (; left >= kAhead; left -= kAhead, at += kAhead * kRounders * 16) round_vectors<kAhead>(at);
    for (; left > 0; --left, at += kRounders * 16) round_vectors<1>(at);
    ptx::fence_proxy_async();
    ptx::mbarrier_arrive(cursor.full(shared.input));
    cursor.advance(shared.input);
  });
}

}  // namespace convmin::sm90::patch
