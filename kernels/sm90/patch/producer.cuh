// The producer warpgroup: one thread has the copy engine bring the input under a tile, by chunks of channels and in
// each by planes, into the ring's slots as [pixel][128 bytes], swizzled; one streams the weight.
#pragma once

#include "ptx/tensor_copy.cuh"
#include "sm90/patch/shared.cuh"
#include "sm90/patch/traits.h"

namespace convmin::sm90::patch {

// Calls visit(r, s) with the first tap of each plane, in order.
template <typename Visit>
__device__ __forceinline__ void for_each_plane(const Patch& patch, Visit&& visit) {
  for (int r = 0; r < patch.planes_h; ++r) {
    for (int s = 0; s < patch.planes_w; ++s) visit(r, s);
  }
}

// Calls visit(r, s) for each tap, plane by plane.
template <typename Visit>
__device__ __forceinline__ void for_each_tap(const Params& params, Visit&& visit) {
  for_each_plane(params.patch, [&](int first_r, int first_s) {
    for (int r = first_r; r < params.r; r += params.patch.planes_h) {
      for (int s = first_s; s < params.s; s += params.patch.planes_w) visit(r, s);
    }
  });
}

// Of the caller's weight, rows beyond a group's output channels are another's, or zeros: the epilogue leaves them out.
template <typename T>
__device__ __forceinline__ void stream_weight(const Params& params, const Shared& shared) {
  const bool packed = params.packs;
  Cursor cursor;
  for_each_unit<T::kClustered>(params, [&](const Unit& unit) {
    for (int block = unit.first_block; block < unit.end_block(); ++block) {
      const int group = block / params.blocks_n;
      const int k = group * params.group_outputs + (block - group * params.blocks_n) * T::kTileN;
      const int end = unit.end_chunk_of(params, block);
      for (int chunk = unit.first_chunk_of(block); chunk < end; ++chunk) {
        const std::int64_t first = (static_cast<std::int64_t>(block) * params.chunks + chunk) * params.r;
        for_each_tap(params, [&](int r, int s) {
          const std::uint32_t target = shared.stages + cursor.slot * T::kStageBytes;
          cursor.wait_empty(shared.weight);
          ptx::mbarrier_arrive_expect(cursor.full(shared.weight), T::kStageBytes);
          if (packed) {
            const auto* tiles = static_cast<const std::uint8_t*>(params.packed_weight);
            ptx::bulk_copy(target, tiles + ((first + r) * params.s + s) * T::kStageBytes, T::kStageBytes,
                           cursor.full(shared.weight));
          } else {
            ptx::tensor_copy(target, params.filters, chunk * T::kChunk, s, r, k, 0, cursor.full(shared.weight));
          }
          cursor.advance(shared.weight);
        });
      }
    }
  });
}

// Calls visit(unit, group, chunk) for each slot of the input that the block fills, in order.
template <bool kClustered, typename Visit>
__device__ __forceinline__ void for_each_slot(const Params& params, Visit&& visit) {
  for_each_unit<kClustered>(params, [&](const Unit& unit) {
    for (int block = unit.first_block; block < unit.end_block(); ++block) {
      if (params.resident && !unit.opens(params, block)) continue;
      const auto group = static_cast<int>(params.by_blocks_n.divide(block).quotient);
      const int end = unit.end_chunk_of(params, block);
      for (int chunk = unit.first_chunk_of(block); chunk < end; ++chunk) visit(unit, group, chunk);
    }
  });
}

// What lies outside the image, or beyond the group's channels, the engine fills with zeros.
template <typename T>
__device__ __forceinline__ void stream_input(const Params& params, const Shared& shared) {
  const Patch& patch = params.patch;
  const int bytes = patch.subtiles_n * patch.image_pixels * kRowBytes;
  Cursor cursor;
  for_each_slot<T::kClustered>(params, [&](const Unit& unit, int group, int chunk) {
    const Origin origin(params, unit.tile);
    for_each_plane(patch, [&](int r, int s) {
      const int above = r * params.dilation_h - params.padding_h, left = s * params.dilation_w - params.padding_w;
      const std::uint32_t slot = shared.slots + cursor.slot * patch.pixels * kRowBytes;
      cursor.wait_empty(shared.input);
      ptx::mbarrier_arrive_expect(cursor.full(shared.input), bytes);
      if (patch.runs_on) {
        const auto first = static_cast<int>(params.by_pitch.divide(origin.x).quotient);
        for (int row = 0; row < patch.halo_h; ++row) {
          const QuotientRemainder at = params.by_run_rows.divide(first + row);
          ptx::tensor_copy(slot + row * patch.halo_w * kRowBytes, params.input, chunk * T::kChunk, group, left,
                           static_cast<int>(at.remainder) * params.stride_h + above, static_cast<int>(at.quotient),
                           cursor.full(shared.input));
        }
      } else {
        ptx::tensor_copy(slot, params.input, chunk * T::kChunk, group, origin.x * params.stride_w + left,
                         origin.y * params.stride_h + above, origin.n, cursor.full(shared.input));
      }
      cursor.advance(shared.input);
    });
  });
}

}  // namespace convmin::sm90::patch
