// The producer warpgroup: three warps bring the input under a tile, chunk of channels by chunk, into the ring's slots
// as [pixel][128 bytes], swizzled; a thread of the fourth streams the packed weight.
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
  const int per_block = params.chunks * params.r * params.s;
  for_each_unit(params, [&](const Unit& unit) {
    const auto* source = static_cast<const std::uint8_t*>(params.packed_weight) +
                         static_cast<std::int64_t>(unit.first_block) * per_block * T::kStageBytes;
    for (int i = 0; i < unit.blocks * per_block; ++i, source += T::kStageBytes) {
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
  using Element = typename T::Element;

  __device__ __forceinline__ Gatherer(const Params& params, const Shared& shared)
      : params_(params), shared_(shared), thread_(static_cast<int>(threadIdx.x) % 128) {}

  __device__ __forceinline__ void run() {
    for_each_unit(params_, [&](const Unit& unit) {
      ptx::named_barrier_wait(kBarrier, kGatherers);  // none reads the last tile's offsets any more
      find_offsets(Origin(params_, unit.tile));
      ptx::named_barrier_wait(kBarrier, kGatherers);
      for (int block = unit.first_block; block < unit.end_block(); ++block) {
        if (params_.resident && !unit.opens(params_, block)) continue;
        for (int chunk = 0; chunk < params_.chunks; ++chunk) gather(block / params_.blocks_n, chunk);
      }
    });
    if (copies()) finish_copies<0>();
  }

 private:
  static constexpr int kBarrier = 1;  // named barrier of the gatherers
  struct alignas(16) Pack {
    Element values[T::kPack];
  };

  // 16-bit channels that 16-byte loads fit need no register on their way.
  __device__ __forceinline__ bool copies() const { return sizeof(Element) == 2 && params_.vectors; }

  // Of the patch's pixels, where vectors of channels are read; else of its rows.
  __device__ __forceinline__ void find_offsets(const Origin& origin) {
    const Patch& patch = params_.patch;
    const int first_h = origin.y * params_.stride_h - params_.padding_h;
    first_w_ = origin.x * params_.stride_w - params_.padding_w;
    const int per_row = params_.vectors ? patch.pitch : 1, rows = patch.subtiles_n * patch.halo_h;
    for (int i = thread_; i < (params_.vectors ? patch.pixels : rows); i += kGatherers) {
      const int of_all = i / per_row, in_row = i - of_all * per_row;
      const int image = of_all / patch.halo_h, row = of_all - image * patch.halo_h;
      const int plane = in_row / patch.plane, column = in_row - plane * patch.plane;
      const int n = origin.n + image, ih = first_h + row, iw = first_w_ + column * params_.stride_w + plane;
      const bool row_inside =
          of_all < rows && n < params_.n && static_cast<unsigned>(ih) < static_cast<unsigned>(params_.h);
      const std::int64_t offset = n * params_.input_stride_n + ih * params_.input_stride_h;
      if (params_.vectors) {
        const bool inside = row_inside && static_cast<unsigned>(iw) < static_cast<unsigned>(params_.w);
        shared_.offsets[i] = inside ? offset + iw * params_.input_stride_w : -1;
      } else {
        shared_.offsets[i] = row_inside ? offset : -1;
      }
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
    const auto* source = static_cast<const Element*>(params_.input) +
                         (static_cast<std::int64_t>(group) * params_.group_channels + first) * params_.input_stride_c;
    if (copies()) {
      copy_vectors(source, slot, channels);
      ptx::cp_async_commit();
      finish_copies<1>();
      behind_ = static_cast<int>(cursor_.full(shared_.input));
    } else {
      if (params_.vectors) {
        load_vectors(source, slot, channels);
      } else if (params_.together == 4) {
        load_pixels<4>(source, slot, channels);
      } else if (params_.together == 2) {
        load_pixels<2>(source, slot, channels);
      } else {
        load_pixels<1>(source, slot, channels);
      }
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
  __device__ __forceinline__ void copy_vectors(const Element* source, std::uint32_t slot, int channels) const {
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

  __device__ __forceinline__ void load_vectors(const Element* source, std::uint32_t slot, int channels) const {
    constexpr int kInFlight = 8;
    const int pack = thread_ % T::kPacks, step = kGatherers / T::kPacks;
    if (pack >= packs_of(channels)) return;
    const bool real = pack * T::kPack < channels;
    source += pack * T::kPack;
    for (int first = thread_ / T::kPacks; first < params_.patch.pixels; first += kInFlight * step) {
      Pack packs[kInFlight];
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const int pixel = first + i * step;
        const std::int64_t offset = pixel < params_.patch.pixels && real ? shared_.offsets[pixel] : -1;
        const uint4 vector = offset >= 0 ? __ldg(reinterpret_cast<const uint4*>(source + offset)) : uint4{0, 0, 0, 0};
        packs[i] = *reinterpret_cast<const Pack*>(&vector);
      }
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const int pixel = first + i * step;
        if (pixel < params_.patch.pixels) store(place(slot, pixel, pack), packs[i]);
      }
    }
  }

  // NCHW, and whatever vectors of channels don't fit: kPixels neighbouring pixels of a row by one load for each
  // channel, transposed in registers. The 8 lanes whose stores go together hold kPixels packs of 8 / kPixels
  // neighbouring vectors, which the swizzle spreads over all banks.
  template <int kPixels>
  __device__ __forceinline__ void load_pixels(const Element* source, std::uint32_t slot, int channels) const {
    constexpr int kTogether = 8 / kPixels;
    constexpr int kInFlight = kPixels == 4 ? 2 : 4;  // items of a pack; registers allow no more
    struct alignas(kPixels * sizeof(Element)) Vector {
      Element values[kPixels];
    };
    const Patch& patch = params_.patch;
    const int before = first_w_ & (kPixels - 1);  // pixels of a row's first vector that lie before the patch
    const int columns = patch.pitch, per_row = (columns + before + kPixels - 1) / kPixels;
    const int groups = (patch.subtiles_n * patch.halo_h * per_row + kTogether - 1) / kTogether;
    const int packs = packs_of(channels), items = (packs + kPixels - 1) / kPixels * groups * 8;
    for (int first = thread_; first < items; first += kGatherers * kInFlight) {
      Vector loaded[kInFlight][T::kPack];
      int packs_at[kInFlight], rows_at[kInFlight], columns_at[kInFlight];
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const int item = first + i * kGatherers, by_groups = item / 8 / groups;
        const int vector = (item / 8 - by_groups * groups) * kTogether + item % kTogether;
        const int row = vector / per_row, column = (vector - row * per_row) * kPixels - before;
        const int pack = by_groups * kPixels + item % 8 / kTogether;
        const bool any = item < items && row < patch.subtiles_n * patch.halo_h && pack < packs;
        packs_at[i] = any ? pack : -1, rows_at[i] = row, columns_at[i] = column;
        const std::int64_t offset = any ? shared_.offsets[row] : -1;
        const int iw = first_w_ + column;
        const bool inside = offset >= 0 && static_cast<unsigned>(iw) < static_cast<unsigned>(params_.w);
        const Element* from = source + offset + iw * params_.input_stride_w + pack * T::kPack * params_.input_stride_c;
#pragma unroll
        for (int j = 0; j < T::kPack; ++j, from += params_.input_stride_c) {
          loaded[i][j] = Vector{};
          if (inside && pack * T::kPack + j < channels) loaded[i][j] = read<Vector>(from);
        }
      }
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        if (packs_at[i] < 0) continue;
#pragma unroll
        for (int pixel = 0; pixel < kPixels; ++pixel) {
          const int column = columns_at[i] + pixel;
          if (column < 0 || column >= columns) continue;
          const int along = column / params_.stride_w, plane = column - along * params_.stride_w;
          Pack pack;
#pragma unroll
          for (int j = 0; j < T::kPack; ++j) pack.values[j] = loaded[i][j].values[pixel];
          store(place(slot, rows_at[i] * patch.pitch + plane * patch.plane + along, packs_at[i]), pack);
        }
      }
    }
  }

  template <typename Vector>
  static __device__ __forceinline__ Vector read(const Element* source) {
    if constexpr (sizeof(Vector) == 16) {
      const uint4 word = __ldg(reinterpret_cast<const uint4*>(source));
      return *reinterpret_cast<const Vector*>(&word);
    } else if constexpr (sizeof(Vector) == 8) {
      const uint2 word = __ldg(reinterpret_cast<const uint2*>(source));
      return *reinterpret_cast<const Vector*>(&word);
    } else if constexpr (sizeof(Vector) == 4) {
      const unsigned word = __ldg(reinterpret_cast<const unsigned*>(source));
      return *reinterpret_cast<const Vector*>(&word);
    } else {
      const unsigned short word = __ldg(reinterpret_cast<const unsigned short*>(source));
      return *reinterpret_cast<const Vector*>(&word);
    }
  }

  static __device__ __forceinline__ void store(std::uint32_t address, Pack pack) {
    uint4 vector = *reinterpret_cast<const uint4*>(&pack);
    if constexpr (sizeof(Element) == 4) {
      vector.x = ptx::round_to_tf32(__uint_as_float(vector.x));
      vector.y = ptx::round_to_tf32(__uint_as_float(vector.y));
      vector.z = ptx::round_to_tf32(__uint_as_float(vector.z));
      vector.w = ptx::round_to_tf32(__uint_as_float(vector.w));
    }
    ptx::store_shared_16(address, vector);
  }

  const Params& params_;
  const Shared& shared_;
  const int thread_;
  Cursor cursor_;
  int first_w_ = 0;  // column of the image under the patch's first
  int behind_ = 0;   // barrier of the slot whose copies are under way
};

}  // namespace convmin::sm90::patch
