// The producer warpgroup: three warps bring the input under a tile, chunk of channels by chunk, into the ring's slots
// as [pixel][128 bytes], swizzled, in 16-byte vectors of channels; a thread of the fourth streams the packed weight.
#pragma once

#include "ptx/bulk_copy.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/mma.cuh"
#include "ptx/named_barrier.cuh"
#include "ptx/warpgroup.cuh"
#include "sm90/patch/shared.cuh"
#include "sm90/patch/traits.h"

namespace convmin::sm90::patch {

template <typename T>
__device__ __forceinline__ void stream_weight(const Params& params, const Shared& shared) {
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

template <typename T>
class Gatherer {
 public:
  using Operand = typename T::Operand;

  __device__ __forceinline__ Gatherer(const Params& params, const Shared& shared)
      : params_(params), shared_(shared), thread_(static_cast<int>(threadIdx.x) % 128) {}

  __device__ __forceinline__ void run() {
    for_each_unit(params_, [&](const Unit& unit) {
      ptx::named_barrier_wait(kBarrier, kGatherers);  // none reads the last tile's offsets any more
      find_offsets(Origin(params_, unit.tile));
      ptx::named_barrier_wait(kBarrier, kGatherers);
      for (int block = unit.first_block; block < unit.end_block(); ++block) {
        if (params_.resident && !unit.opens(params_, block)) continue;
        for (int chunk = unit.first_chunk; chunk < unit.end_chunk; ++chunk) gather(block / params_.blocks_n, chunk);
      }
    });
    if (copies()) finish_copies<0>();
  }

 private:
  static constexpr int kBarrier = 1;  // named barrier of the gatherers

  // What needs no rounding needs no register on its way.
  __device__ __forceinline__ bool copies() const { return sizeof(Operand) == 2 || params_.source.blocks > 0; }

  __device__ __forceinline__ void find_offsets(const Origin& origin) {
    const Patch& patch = params_.patch;
    const int first_h = origin.y * params_.stride_h - params_.padding_h;
    const int first_w = origin.x * params_.stride_w - params_.padding_w, rows = patch.subtiles_n * patch.halo_h;
    for (int i = thread_; i < patch.pixels; i += kGatherers) {
      const int of_all = i / patch.pitch, in_row = i - of_all * patch.pitch;
      const int image = of_all / patch.halo_h, row = of_all - image * patch.halo_h;
      const int plane = in_row / patch.plane, column = in_row - plane * patch.plane;
      const int n = origin.n + image, ih = first_h + row, iw = first_w + column * params_.stride_w + plane;
      const bool inside = of_all < rows && n < params_.n &&
                          static_cast<unsigned>(ih) < static_cast<unsigned>(params_.h) &&
                          static_cast<unsigned>(iw) < static_cast<unsigned>(params_.w);
      shared_.offsets[i] =
          inside ? n * params_.input_stride_n + ih * params_.input_stride_h + iw * params_.input_stride_w : -1;
    }
  }

  __device__ __forceinline__ void gather(int group, int chunk) {
    // The consumers may need the chunk under way before they free this slot.
    if (behind_ != 0 && !cursor_.is_empty(shared_.input)) {
      finish_copies<0>();
      behind_ = 0;
    }
    cursor_.wait_empty(shared_.input);
    const std::uint32_t slot = shared_.slots + cursor_.slot * params_.patch.pixels * kRowBytes;
    const int first = chunk * T::kChunk;
    const int channels = min(params_.group_channels - first, T::kChunk);
    const auto* source =
        static_cast<const Operand*>(params_.input) + static_cast<std::int64_t>(group) * params_.group_pitch + first;
    if (copies()) {
      copy_vectors(source, slot, channels);
      ptx::cp_async_commit();
      finish_copies<1>();
      behind_ = static_cast<int>(cursor_.full(shared_.input));
    } else {
      load_rounded(source, slot, channels);
      ptx::fence_proxy_async();
      ptx::mbarrier_arrive(cursor_.full(shared_.input));
    }
    cursor_.advance(shared_.input);
  }

  // Hands over the slot before the last, whose copies have had a chunk's time to arrive.
  template <int kPending>
  __device__ __forceinline__ void finish_copies() {
    if (behind_ == 0) return;
    ptx::cp_async_wait<kPending>();
    ptx::fence_proxy_async();
    ptx::mbarrier_arrive(static_cast<std::uint32_t>(behind_));
  }

  static __device__ __forceinline__ std::uint32_t place(std::uint32_t slot, int pixel, int pack) {
    return slot + pixel * kRowBytes + (pack ^ (pixel & 7)) * 16;
  }
  // Packs that the tensor cores' steps over so many channels read.
  static __device__ __forceinline__ int packs_of(int channels) {
    return (channels + 2 * T::kPack - 1) / (2 * T::kPack) * 2;
  }

  // Lanes walk a pixel's packs, then pixels.
  __device__ __forceinline__ void copy_vectors(const Operand* source, std::uint32_t slot, int channels) const {
    const int pack = thread_ % T::kPacks;
    if (pack >= packs_of(channels)) return;
    const bool real = pack * T::kPack < channels;
    source += pack * T::kPack;
    for (int pixel = thread_ / T::kPacks; pixel < params_.patch.pixels; pixel += kGatherers / T::kPacks) {
      const std::int64_t offset = shared_.offsets[pixel];
      const bool wanted = real && offset >= 0;
      ptx::cp_async_16(place(slot, pixel, pack), wanted ? source + offset : source, wanted);
    }
  }

  // float32 to TF32.
  __device__ __forceinline__ void load_rounded(const Operand* source, std::uint32_t slot, int channels) const {
    constexpr int kInFlight = 8;
    const int pack = thread_ % T::kPacks, step = kGatherers / T::kPacks;
    if (pack >= packs_of(channels)) return;
    const bool real = pack * T::kPack < channels;
    source += pack * T::kPack;
    for (int first = thread_ / T::kPacks; first < params_.patch.pixels; first += kInFlight * step) {
      float4 vectors[kInFlight];
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const int pixel = first + i * step;
        const std::int64_t offset = pixel < params_.patch.pixels && real ? shared_.offsets[pixel] : -1;
        vectors[i] = offset >= 0 ? __ldg(reinterpret_cast<const float4*>(source + offset)) : float4{};
      }
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const int pixel = first + i * step;
        if (pixel >= params_.patch.pixels) continue;
        ptx::store_shared_16(place(slot, pixel, pack),
                             {ptx::round_to_tf32(vectors[i].x), ptx::round_to_tf32(vectors[i].y),
                              ptx::round_to_tf32(vectors[i].z), ptx::round_to_tf32(vectors[i].w)});
      }
    }
  }

  const Params& params_;
  const Shared& shared_;
  const int thread_;
  Cursor cursor_;
  int behind_ = 0;  // barrier of the slot whose copies are under way
};

}  // namespace convmin::sm90::patch
