// The producer warpgroup: one thread has the copy engine bring the input under a tile, chunk of channels by chunk, into
// the ring's slots as [pixel][128 bytes], swizzled; one streams the weight.
#pragma once

#include "ptx/tensor_copy.cuh"
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
      const auto group = static_cast<int>(params.by_blocks_n.divide(block).quotient);
      for (int chunk = unit.first_chunk; chunk < unit.end_chunk; ++chunk) visit(unit, group, chunk);
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
    cursor.wait_empty(shared.input);
    ptx::mbarrier_arrive_expect(cursor.full(shared.input), bytes);
    if (patch.runs_on) {
      const auto first = static_cast<int>(params.by_pitch.divide(origin.x).quotient);
      for (int row = 0; row < patch.halo_h; ++row) {
        const QuotientRemainder at = params.by_run_rows.divide(first + row);
        ptx::tensor_copy(slot + row * patch.halo_w * kRowBytes, params.input, chunk * T::kChunk, group,
                         -params.padding_w, static_cast<int>(at.remainder) - params.padding_h,
                         static_cast<int>(at.quotient), cursor.full(shared.input));
      }
    }
    // Not an else, with which the loops are laid out so that deep layers of few pixels take 2 % longer.
    for (int plane = 0; plane < patch.planes && !patch.runs_on; ++plane) {
      ptx::tensor_copy(slot + plane * patch.plane_pixels * kRowBytes, params.input, chunk * T::kChunk, group, w + plane,
                       h, origin.n, cursor.full(shared.input));
    }
    cursor.advance(shared.input);
  });
}

}  // namespace convmin::sm90::patch
