// The producer warpgroup: three warps bring the input under a tile, chunk of channels by chunk, into the ring's slots as
// [pixel][128 bytes], swizzled; a thread of the fourth streams the packed weight.
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
  const int per_tile = params.groups * params.blocks_n * params.chunks * params.r * params.s;
  for (int tile = static_cast<int>(blockIdx.x); tile < params.tiles; tile += static_cast<int>(gridDim.x)) {
    const auto* source = static_cast<const std::uint8_t*>(params.packed_weight);
    for (int i = 0; i < per_tile; ++i, source += T::kStageBytes) {
      cursor.wait_empty(shared.weight);
      ptx::mbarrier_arrive_expect(cursor.full(shared.weight), T::kStageBytes);
      ptx::bulk_copy(shared.stages + cursor.slot * T::kStageBytes, source, T::kStageBytes, cursor.full(shared.weight));
      cursor.advance(shared.weight);
    }
  }
}

template <typename T>
class Gatherer {
 public:
  using Element = typename T::Element;

  __device__ __forceinline__ Gatherer(const Params& params, const Shared& shared)
      : params_(params), shared_(shared), thread_(static_cast<int>(threadIdx.x) % 128) {}

  __device__ __forceinline__ void run() {
    for (int tile = static_cast<int>(blockIdx.x); tile < params_.tiles; tile += static_cast<int>(gridDim.x)) {
      ptx::named_barrier_wait(kBarrier, kGatherers);  // none reads the last tile's offsets any more
      find_offsets(Origin(params_, tile));
      ptx::named_barrier_wait(kBarrier, kGatherers);
      for (int group = 0; group < params_.groups; ++group) {
        const int passes = params_.resident ? 1 : params_.blocks_n;
        for (int pass = 0; pass < passes; ++pass) {
          for (int chunk = 0; chunk < params_.chunks; ++chunk) gather(group, chunk);
        }
      }
    }
    if (copies()) finish_copies<0>();
  }

 private:
  static constexpr int kBarrier = 1;  // named barrier of the gatherers
  struct alignas(16) Pack {
    Element values[T::kPack];
  };

  // 16-bit channels that 16-byte loads fit need no register on their way.
  __device__ __forceinline__ bool copies() const { return sizeof(Element) == 2 && params_.vectors; }

  __device__ __forceinline__ void find_offsets(const Origin& origin) const {
    const Patch& patch = params_.patch;
    const int first_h = origin.y * params_.stride_h - params_.padding_h;
    const int first_w = origin.x * params_.stride_w - params_.padding_w;
    for (int pixel = thread_; pixel < patch.pixels; pixel += kGatherers) {
      const int image = pixel / patch.image_pixels, in_image = pixel - image * patch.image_pixels;
      const int row = in_image / patch.pitch, in_row = in_image - row * patch.pitch;
      const int plane = in_row / patch.plane, column = in_row - plane * patch.plane;
      const int n = origin.n + image, ih = first_h + row, iw = first_w + column * params_.stride_w + plane;
      const bool inside = image < patch.subtiles_n && n < params_.n &&
                          static_cast<unsigned>(ih) < static_cast<unsigned>(params_.h) &&
                          static_cast<unsigned>(iw) < static_cast<unsigned>(params_.w);
      shared_.offsets[pixel] =
          inside ? n * params_.input_stride_n + ih * params_.input_stride_h + iw * params_.input_stride_w : -1;
    }
  }

  __device__ __forceinline__ void gather(int group, int chunk) {
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
      } else {
        load_elements(source, slot, channels);
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
  static __device__ __forceinline__ int packs_of(int channels) { return (channels + 2 * T::kPack - 1) / (2 * T::kPack) * 2; }

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

  // Lanes walk pixels: NCHW, and whatever vectors don't fit.
  __device__ __forceinline__ void load_elements(const Element* source, std::uint32_t slot, int channels) const {
    constexpr int kInFlight = 16 / T::kPack;  // packs; their addresses take most of the registers
    for (int first = thread_; first < params_.patch.pixels; first += kGatherers) {
      const std::int64_t offset = shared_.offsets[first];
      const int packs = packs_of(channels);
      for (int pack = 0; pack < packs; pack += kInFlight) {
        Pack loaded[kInFlight];
#pragma unroll
        for (int i = 0; i < kInFlight; ++i) {
#pragma unroll
          for (int j = 0; j < T::kPack; ++j) {
            const int c = (pack + i) * T::kPack + j;
            loaded[i].values[j] =
                offset >= 0 && c < channels ? __ldg(source + offset + c * params_.input_stride_c) : Element{};
          }
        }
#pragma unroll
        for (int i = 0; i < kInFlight; ++i) {
          if (pack + i < packs) store(place(slot, first, pack + i), loaded[i]);
        }
      }
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
  int behind_ = 0;  // barrier of the slot whose copies are under way
};

}  // namespace convmin::sm90::patch
