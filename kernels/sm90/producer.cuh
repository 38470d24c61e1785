// The producer warpgroup: input rows from global memory, converted to the tensor cores' type and swizzled, into the
// ring. A row's loads are issued before its slot is waited for, so that they overlap the consumers' work.
#pragma once

#include "common/load.cuh"
#include "ptx/warpgroup.cuh"
#include "sm90/quads.cuh"
#include "sm90/range.cuh"
#include "sm90/ring.cuh"
#include "sm90/traits.h"

namespace convmin::sm90 {

template <typename T>
class Producer {
 public:
  using Element = typename T::Element;
  using Mma = typename T::Mma;

  __device__ __forceinline__ Producer(const Params& params, SharedStorage<T>& shared, std::uint8_t* ring)
      : params_(params), shared_(shared), ring_(ring), thread_(static_cast<int>(threadIdx.x) % 128) {}

  __device__ __forceinline__ void run() {
    if constexpr (T::kGather == Gather::kPixels) {
      if (params_.quads) return produce_all<true>();
    }
    produce_all<false>();
  }

 private:
  static constexpr int kPacked = 8;  // channels of a 16-byte store
  static constexpr int kPerRow = kChunk / kPacked;
  // Packs that a thread loads before it stores the first: 64 float32 and their addresses are more than the producer has
  // registers for.
  static constexpr int kInFlight = sizeof(Element) == 4 ? kPerRow / 2 : kPerRow;
  struct Pack {
    Element values[kPacked];
  };

  // A row of the image under a strip.
  struct Row {
    const Element* data;  // its first pixel
    bool inside;          // the image; else a row of zeros
    int first_iw;         // column of the strip's first pixel
  };

  template <bool kQuads>
  __device__ __forceinline__ void produce_all() {
    RingCursor cursor;
    for_each_run(params_, [&](const Run& run) {
      const int first = run.first_row - params_.padding_h;
      const int rows = run.rows - 1 + params_.window;
      for (int row = 0; row < rows; ++row) {
        produce<kQuads>(run, first + row, cursor);
        cursor.advance(params_.ring);
      }
    });
  }

  template <bool kQuads>
  __device__ __forceinline__ void produce(const Run& run, int ih, const RingCursor& cursor) {
    Row row;
    row.inside = static_cast<unsigned>(ih) < static_cast<unsigned>(params_.h);
    row.data = static_cast<const Element*>(params_.input) + run.n * params_.input_stride_n +
               (row.inside ? ih : 0) * params_.input_stride_h;
    row.first_iw = run.first_column - params_.padding_w;
    bool outside = false;  // a pixel is outside float16's range
    for (int chunk = 0; chunk < params_.chunks; ++chunk) {
      std::uint8_t* slot = ring_ + (cursor.slot * params_.chunks + chunk) * params_.row_pixels * kRowBytes;
      const auto wait = [&] {
        if (chunk == 0) ptx::mbarrier_wait(ptx::shared_address(&shared_.empty[cursor.slot]), cursor.parity ^ 1);
      };
      if constexpr (kQuads) {
        outside |= produce_quads(row, chunk * kChunk, slot, wait);
      } else {
        outside |= produce_packs(row, chunk * kChunk, slot, wait);
      }
    }
    if constexpr (T::kChecksRange) {
      if (outside) shared_.outside[cursor.slot] = cursor.row;
    }
    ptx::fence_proxy_async();
    ptx::mbarrier_arrive(ptx::shared_address(&shared_.full[cursor.slot]));
  }

  // The pixels beyond the strip's own, by packs: loaded with the others, stored after them. kMaxHalo and what quads
  // leave of the strip make no more packs than there are threads.
  __device__ __forceinline__ int extra_pixel(int first_pixel) const { return first_pixel + thread_ / kPerRow; }
  __device__ __forceinline__ int pixels() const { return kTileM + (params_.s - 1) * params_.dilation_w; }
  // Of the warp's extra pixels, whether the strip has one.
  __device__ __forceinline__ bool has_extra(int first_pixel) const {
    return first_pixel + thread_ / 32 * 32 / kPerRow < pixels();
  }
  __device__ __forceinline__ void load_extra(Pack& extra, const Row& row, int first_channel, int first_pixel) const {
    if (has_extra(first_pixel)) load(extra, row, extra_pixel(first_pixel), first_channel, thread_ % kPerRow);
  }
  // True where one is outside float16's range; then it may be one that is not wanted.
  __device__ __forceinline__ bool store_extra(const Pack& extra, std::uint8_t* slot, int first_pixel) const {
    if (!has_extra(first_pixel)) return false;
    const int pixel = extra_pixel(first_pixel);
    if (pixel < pixels()) store(extra, slot, pixel, thread_ % kPerRow);
    return T::kChecksRange && out_of_range(largest_of_lanes(magnitude(extra)));
  }

  // A chunk of a row by quads of pixels. `wait` returns when the slot is free.
  template <typename Wait>
  __device__ __forceinline__ bool produce_quads(const Row& row, int first_channel, std::uint8_t* slot, Wait&& wait) {
    using Q = Quads<T>;
    constexpr int kItems = 2;
    const int before = row.first_iw & (Q::kPixels - 1);  // pixels of the first quad that lie before the strip
    const int quad = Q::quad_of(thread_), iw = row.first_iw - before + quad * Q::kPixels;
    const bool inside = row.inside && static_cast<unsigned>(iw) < static_cast<unsigned>(params_.w);
    Pack extra;
    load_extra(extra, row, first_channel, kTileM - before);
    Q items[kItems];
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const int c = first_channel + (Q::pack_of(thread_) + i * Q::kPerPixel / kItems) * kPacked;
      items[i].load(row.data + iw + c * params_.input_stride_c, params_.input_stride_c, inside, params_.c - c);
    }
    wait();
    Range<Q::kPixels> range;
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
#pragma unroll
      for (int j = 0; j < Q::kPixels; ++j) {
        const int pixel = quad * Q::kPixels - before + j;
        const uint4 vector = items[i].pack(j);
        if constexpr (T::kChecksRange) range.add(j, vector);
        if (pixel >= 0) store_pack(vector, slot, pixel, Q::pack_of(thread_) + i * Q::kPerPixel / kItems);
      }
    }
    bool outside = store_extra(extra, slot, kTileM - before);
    if constexpr (T::kChecksRange) {
      outside |= range.template outside<2, 4>([&](int pixel) {
        bool nonzero = false;
#pragma unroll
        for (const Q& item : items) {
#pragma unroll
          for (const auto& channel : item.channels) nonzero |= channel.values[pixel] != 0.0f;
        }
        return nonzero;
      });
    }
    return outside;
  }

  // A chunk of a row by packs of a pixel's channels.
  template <typename Wait>
  __device__ __forceinline__ bool produce_packs(const Row& row, int first_channel, std::uint8_t* slot, Wait&& wait) {
    bool outside = false;
    Pack extra;
    float largest = 0.0f;  // of this thread's pixel, where it has one to itself
#pragma unroll 1           // or the second half's loads would be moved up to the first's
    for (int first = 0; first < kPerRow; first += kInFlight) {
      Pack packs[kInFlight];
      [[maybe_unused]] Range<kInFlight> range;
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) load(packs[i], row, pixel(first + i), first_channel, pack(first + i));
      if (first == 0) {
        load_extra(extra, row, first_channel, kTileM);
        wait();
      }
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        [[maybe_unused]] const uint4 stored = store(packs[i], slot, pixel(first + i), pack(first + i));
        if constexpr (T::kChecksRange && T::kGather == Gather::kPixels) {
          largest = fmaxf(largest, magnitude(packs[i]));
        } else if constexpr (T::kChecksRange) {
          range.add(i, stored);
        }
      }
      if constexpr (T::kChecksRange && T::kGather == Gather::kChannels) {
        outside |= range.template outside<1, kPerRow / 2>([&](int i) { return magnitude(packs[i]) != 0.0f; });
      }
    }
    outside |= store_extra(extra, slot, kTileM);
    if constexpr (T::kChecksRange) outside |= out_of_range(largest);
    return outside;
  }

  // Which (pixel, pack of channels) a thread's i-th load brings. NCHW: neighbouring threads, neighbouring pixels, and a
  // thread holds a whole pixel; channels_last: neighbouring threads, neighbouring packs of a pixel.
  __device__ __forceinline__ int pixel(int i) const {
    return T::kGather == Gather::kPixels ? thread_ : i * (128 / kPerRow) + thread_ / kPerRow;
  }
  __device__ __forceinline__ int pack(int i) const { return T::kGather == Gather::kPixels ? i : thread_ % kPerRow; }

  __device__ __forceinline__ void load(Pack& out, const Row& row, int pixel, int first_channel, int pack) const {
    const int iw = row.first_iw + pixel, c = first_channel + pack * kPacked;
    const bool inside = row.inside && static_cast<unsigned>(iw) < static_cast<unsigned>(params_.w);
    const Element* source = row.data + iw * params_.input_stride_w + c * params_.input_stride_c;
    if constexpr (T::kGather == Gather::kPixels) {
      if (c + kPacked <= params_.c) {
#pragma unroll
        for (int j = 0; j < kPacked; ++j) {
          out.values[j] = inside ? load_read_only(source + j * params_.input_stride_c) : Element{};
        }
      } else {
#pragma unroll
        for (int j = 0; j < kPacked; ++j) {
          out.values[j] = inside && c + j < params_.c ? load_read_only(source + j * params_.input_stride_c) : Element{};
        }
      }
    } else {
      // Channels lie next to each other, aligned, and their number is a multiple of the pack: plan() sees to it.
      constexpr int kVectors = sizeof(Pack) / 16;
      const bool whole = inside && c < params_.c;
      auto* vectors = reinterpret_cast<uint4*>(&out);
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        vectors[v] = whole ? __ldg(reinterpret_cast<const uint4*>(source) + v) : uint4{0, 0, 0, 0};
      }
    }
  }

  static __device__ __forceinline__ uint4 store(const Pack& pack, std::uint8_t* rows, int pixel, int pack_index) {
    union {
      uint4 vector;
      __half2 halves[4];
      Mma values[kPacked];
    } out;
    if constexpr (sizeof(Element) == 4) {
#pragma unroll
      for (int j = 0; j < 4; ++j) out.halves[j] = __floats2half2_rn(pack.values[2 * j], pack.values[2 * j + 1]);
    } else {
#pragma unroll
      for (int j = 0; j < kPacked; ++j) out.values[j] = pack.values[j];
    }
    store_pack(out.vector, rows, pixel, pack_index);
    return out.vector;
  }
  static __device__ __forceinline__ void store_pack(const uint4& vector, std::uint8_t* rows, int pixel, int pack) {
    *reinterpret_cast<uint4*>(rows + pixel * kRowBytes + ((pack ^ (pixel & 7)) * 16)) = vector;
  }

  // As Range decides (sm90/range.cuh), of the largest channel before its conversion: where a thread has a whole pixel,
  // or a pixel's lanes hold but one pack each.
  static __device__ __forceinline__ bool out_of_range(float largest) {
    return largest > 65504.0f || (largest != 0.0f && largest < 0x1p-11f);
  }

  static __device__ __forceinline__ float magnitude(const Pack& pack) {
    float largest = 0.0f;
#pragma unroll
    for (int j = 0; j < kPacked; ++j) largest = fmaxf(largest, fabsf(pack.values[j]));
    return largest;
  }

  // Over the neighbouring lanes that hold one pixel. The whole warp must call it.
  static __device__ __forceinline__ float largest_of_lanes(float largest) {
#pragma unroll
    for (int offset = 1; offset < kPerRow; offset *= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, offset));
    }
    return largest;
  }

  const Params& params_;
  SharedStorage<T>& shared_;
  std::uint8_t* ring_;
  const int thread_;
};

}  // namespace convmin::sm90
