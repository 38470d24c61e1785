// The producer warpgroup: input rows from global memory, converted to the tensor cores' type and swizzled, into the
// ring. What a thread has loaded of a chunk is converted, which takes half the registers; then the next chunk's loads,
// or the next row's, are issued, and run under the stores and the consumers' work.
#pragma once

#include "common/load.cuh"
#include "ptx/shared_address.cuh"
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

  __device__ __forceinline__ Producer(const Params& params, SharedStorage<T>& shared, std::uint32_t ring)
      : params_(params), shared_(shared), ring_(ring), thread_(static_cast<int>(threadIdx.x) % 128) {}

  __device__ __forceinline__ void run() {
    if constexpr (T::kGather == Gather::kPixels) {
      if (params_.quads) return produce<QuadShare>();
    }
    produce<PackShare>();
  }

 private:
  static constexpr int kPacked = 8;  // channels of a 16-byte store
  static constexpr int kPerRow = kChunk / kPacked;
  static constexpr int kPixelStep = 128 / kPerRow;  // channels_last: pixels that the threads bring at a time
  struct Pack {
    Element values[kPacked];
  };

  // A chunk of channels, or part of one, of an input row under a strip; and the walk over all of a block's.
  class Source {
   public:
    const Element* data;  // the row's first pixel
    bool inside;          // the image; else a row of zeros
    int first_iw;         // column of the strip's first pixel
    int chunk = 0, part = 0;

    __device__ __forceinline__ explicit Source(const Params& params) : params_(params), runs_(params) { next_run(); }
    // False after the last.
    __device__ __forceinline__ explicit operator bool() const { return rows_ > 0; }
    __device__ __forceinline__ bool opens_row() const { return chunk == 0 && part == 0; }
    __device__ __forceinline__ bool closes_row(int parts) const {
      return chunk == params_.chunks - 1 && part == parts - 1;
    }
    // By one of a chunk's parts.
    __device__ __forceinline__ void advance(int parts) {
      if (++part < parts) return;
      part = 0;
      if (++chunk < params_.chunks) return;
      chunk = 0;
      ++ih_;
      if (--rows_ == 0) {
        next_run();
      } else {
        locate();
      }
    }

   private:
    __device__ __forceinline__ void next_run() {
      Run run;
      if (!runs_.next(run)) return;
      rows_ = run.rows - 1 + params_.window;
      ih_ = run.first_row - params_.padding_h;
      first_iw = run.first_column - params_.padding_w;
      image_ = static_cast<const Element*>(params_.input) + run.n * params_.input_stride_n;
      locate();
    }
    __device__ __forceinline__ void locate() {
      inside = static_cast<unsigned>(ih_) < static_cast<unsigned>(params_.h);
      data = image_ + (inside ? ih_ : 0) * params_.input_stride_h;
    }

    const Params& params_;
    Runs runs_;
    const Element* image_;
    int ih_, rows_ = 0;  // this row; rows left in the run
  };

  // `Share` is what a thread brings of a chunk, in kParts.
  template <typename Share>
  __device__ __forceinline__ void produce() {
    Share share;
    Pack extra[1];
    Source source(params_);
    if (!source) return;
    load_extra<Share>(extra, source);
    share.load(*this, source);
    bool outside = false;  // a pixel of the row is outside float16's range
    for (RingCursor cursor; source;) {
      const int first_iw = source.first_iw;
      const bool opens_row = source.opens_row(), closes_row = source.closes_row(Share::kParts);
      std::uint32_t slot = ring_ + (cursor.slot * params_.chunks + source.chunk) * params_.row_pixels * kRowBytes;
      const int part = source.part;
      const Converted converted_extra(extra[0]);
      const typename Share::Result converted(share);
      source.advance(Share::kParts);
      if (source) {
        if (source.part == 0) load_extra<Share>(extra, source);
        share.load(*this, source);
      }
      if (opens_row) ptx::mbarrier_wait(ptx::shared_address(&shared_.empty[cursor.slot]), cursor.parity ^ 1);
      converted.store(*this, slot, first_iw, part);
      outside |= converted.outside;
      if (part == 0) outside |= store_extra<Share>(converted_extra, slot, first_iw);
      if (!closes_row) continue;
      if constexpr (T::kChecksRange) {
        if (outside) shared_.outside[cursor.slot] = cursor.row;
      }
      outside = false;
      ptx::fence_proxy_async();
      ptx::mbarrier_arrive(ptx::shared_address(&shared_.full[cursor.slot]));
      cursor.advance(params_.ring);
    }
  }

  // Eight channels of a pixel in the tensor cores' type.
  struct Converted {
    uint4 vector;
    float largest = 0.0f;  // magnitude before, where the range is checked

    __device__ __forceinline__ explicit Converted(const Pack& pack) {
      union {
        uint4 vector;
        __half2 halves[4];
        Mma values[kPacked];
      } out;
      if constexpr (sizeof(Element) == 4) {
#pragma unroll
        for (int j = 0; j < 4; ++j) out.halves[j] = __floats2half2_rn(pack.values[2 * j], pack.values[2 * j + 1]);
#pragma unroll
        for (const Element value : pack.values) largest = fmaxf(largest, fabsf(value));
      } else {
#pragma unroll
        for (int j = 0; j < kPacked; ++j) out.values[j] = pack.values[j];
      }
      vector = out.vector;
    }
  };

  // The pixels beyond the strip's own, by packs: kMaxHalo and what quads leave of the strip make no more packs than
  // there are threads.
  __device__ __forceinline__ int extra_pixel(int first_pixel) const { return first_pixel + thread_ / kPerRow; }
  __device__ __forceinline__ int pixels() const { return kTileM + (params_.s - 1) * params_.dilation_w; }
  // Of the warp's extra pixels, whether the strip has one.
  __device__ __forceinline__ bool has_extra(int first_pixel) const {
    return first_pixel + thread_ / 32 * 32 / kPerRow < pixels();
  }
  template <typename Share>
  __device__ __forceinline__ void load_extra(Pack (&extra)[1], const Source& source) const {
    const int first_pixel = Share::pixels_of_strip(source.first_iw);
    if (has_extra(first_pixel)) load(extra, source, extra_pixel(first_pixel), thread_ % kPerRow);
  }
  // True where one is outside float16's range; then it may be one that is not wanted.
  template <typename Share>
  __device__ __forceinline__ bool store_extra(const Converted& extra, std::uint32_t slot, int first_iw) const {
    const int first_pixel = Share::pixels_of_strip(first_iw);
    if (!has_extra(first_pixel)) return false;
    const int pixel = extra_pixel(first_pixel);
    if (pixel < pixels()) store(extra.vector, slot, pixel, thread_ % kPerRow);
    return T::kChecksRange && out_of_range(largest_of_lanes(extra.largest));
  }

  // By quads of pixels: two items of four pixels each.
  struct QuadShare {
    using Q = Quads<T>;
    static constexpr int kItems = 2, kParts = 1;
    Q items[kItems];

    // Of the strip's 128 pixels those that quads bring: the first quad may begin before the strip.
    static __device__ __forceinline__ int before(int first_iw) { return first_iw & (Q::kPixels - 1); }
    static __device__ __forceinline__ int pixels_of_strip(int first_iw) { return kTileM - before(first_iw); }
    static __device__ __forceinline__ int pack_of(int thread, int i) {
      return Q::pack_of(thread) + i * (Q::kPerPixel / kItems);
    }

    __device__ __forceinline__ void load(const Producer& producer, const Source& source) {
      const Params& params = producer.params_;
      const int iw = source.first_iw - before(source.first_iw) + Q::quad_of(producer.thread_) * Q::kPixels;
      const bool inside = source.inside && static_cast<unsigned>(iw) < static_cast<unsigned>(params.w);
#pragma unroll
      for (int i = 0; i < kItems; ++i) {
        const int c = source.chunk * kChunk + pack_of(producer.thread_, i) * kPacked;
        items[i].load(source.data + iw + c * params.input_stride_c, params.input_stride_c, inside, params.c - c);
      }
    }

    struct Result {
      uint4 vectors[kItems][Q::kPixels];
      bool outside = false;  // a pixel is outside float16's range

      __device__ __forceinline__ explicit Result(const QuadShare& share) {
        [[maybe_unused]] Range<Q::kPixels> range;
#pragma unroll
        for (int i = 0; i < kItems; ++i) {
#pragma unroll
          for (int j = 0; j < Q::kPixels; ++j) {
            vectors[i][j] = share.items[i].pack(j);
            if constexpr (T::kChecksRange) range.add(j, vectors[i][j]);
          }
        }
        if constexpr (T::kChecksRange) {
          outside = range.template outside<Q::kFirstLane, Q::kLastLane>([&](int pixel) {
            bool nonzero = false;
#pragma unroll
            for (const Q& item : share.items) {
#pragma unroll
              for (const auto& channel : item.channels) nonzero |= channel.values[pixel] != 0.0f;
            }
            return nonzero;
          });
        }
      }
      __device__ __forceinline__ void store(const Producer& producer, std::uint32_t slot, int first_iw, int) const {
#pragma unroll
        for (int i = 0; i < kItems; ++i) {
#pragma unroll
          for (int j = 0; j < Q::kPixels; ++j) {
            const int pixel = Q::quad_of(producer.thread_) * Q::kPixels - before(first_iw) + j;
            if (pixel >= 0) Producer::store(vectors[i][j], slot, pixel, pack_of(producer.thread_, i));
          }
        }
      }
    };
  };

  // By packs: NCHW, a pixel to itself; channels_last, a pack each of as many pixels.
  struct PackShare {
    static constexpr bool kOnePixel = T::kGather == Gather::kPixels;
    // 64 values of 16 bits have a register each until they are packed, and 64 addresses.
    static constexpr int kParts = kOnePixel && sizeof(Element) == 2 ? 2 : 1, kPacks = kPerRow / kParts;
    static_assert(kParts == 1 || !T::kChecksRange, "of a pixel's channels in a chunk the largest decides");
    Pack packs[kPacks];

    static __device__ __forceinline__ int pixels_of_strip(int) { return kTileM; }

    __device__ __forceinline__ void load(const Producer& producer, const Source& source) {
      const int first = source.part * kPacks;
      producer.load(packs, source, producer.pixel(first), producer.pack(first));
    }

    struct Result {
      uint4 vectors[kPacks];
      bool outside = false;  // a pixel is outside float16's range

      __device__ __forceinline__ explicit Result(const PackShare& share) {
        [[maybe_unused]] Range<kPacks> range;   // of pixels
        [[maybe_unused]] float largest = 0.0f;  // of the one pixel
#pragma unroll
        for (int i = 0; i < kPacks; ++i) {
          const Converted converted(share.packs[i]);
          vectors[i] = converted.vector;
          if constexpr (kOnePixel) {
            largest = fmaxf(largest, converted.largest);
          } else if constexpr (T::kChecksRange) {
            range.add(i, vectors[i]);
          }
        }
        if constexpr (T::kChecksRange && kOnePixel) {
          outside = out_of_range(largest);
        } else if constexpr (T::kChecksRange) {
          outside =
              range.template outside<1, kPerRow / 2>([&](int i) { return Converted(share.packs[i]).largest != 0.0f; });
        }
      }
      __device__ __forceinline__ void store(const Producer& producer, std::uint32_t slot, int, int part) const {
#pragma unroll
        for (int i = 0; i < kPacks; ++i) {
          const int at = part * kPacks + i;
          Producer::store(vectors[i], slot, producer.pixel(at), producer.pack(at));
        }
      }
    };
  };

  // Which (pixel, pack of channels) a thread's i-th load brings. NCHW: neighbouring threads, neighbouring pixels, and a
  // thread holds a whole pixel; channels_last: neighbouring threads, neighbouring packs of a pixel.
  __device__ __forceinline__ int pixel(int i) const {
    return T::kGather == Gather::kPixels ? thread_ : i * kPixelStep + thread_ / kPerRow;
  }
  __device__ __forceinline__ int pack(int i) const { return T::kGather == Gather::kPixels ? i : thread_ % kPerRow; }

  // kPacks packs, a step of memory apart, of as many pixels or of one.
  template <int kPacks>
  __device__ __forceinline__ void load(Pack (&out)[kPacks], const Source& source, int pixel, int pack) const {
    constexpr bool kOnePixel = T::kGather == Gather::kPixels;
    const std::int64_t stride_c = params_.input_stride_c;
    const std::int64_t step = kOnePixel ? kPacked * stride_c : kPixelStep * params_.input_stride_w;
    int iw = source.first_iw + pixel, c = source.chunk * kChunk + pack * kPacked;
    const Element* data = source.data + iw * params_.input_stride_w + c * stride_c;
#pragma unroll
    for (Pack& to : out) {
      const bool inside = source.inside && static_cast<unsigned>(iw) < static_cast<unsigned>(params_.w);
      if constexpr (kOnePixel) {
        if (c + kPacked <= params_.c) {
#pragma unroll
          for (int j = 0; j < kPacked; ++j) to.values[j] = inside ? load_read_only(data + j * stride_c) : Element{};
        } else {
#pragma unroll
          for (int j = 0; j < kPacked; ++j) {
            to.values[j] = inside && c + j < params_.c ? load_read_only(data + j * stride_c) : Element{};
          }
        }
        c += kPacked;
      } else {
        // Channels lie next to each other, aligned, and their number is a multiple of the pack: plan() sees to it.
        constexpr int kVectors = sizeof(Pack) / 16;
        const bool whole = inside && c < params_.c;
        auto* vectors = reinterpret_cast<uint4*>(&to);
#pragma unroll
        for (int v = 0; v < kVectors; ++v) {
          vectors[v] = whole ? __ldg(reinterpret_cast<const uint4*>(data) + v) : uint4{0, 0, 0, 0};
        }
        iw += kPixelStep;
      }
      data += step;
    }
  }

  static __device__ __forceinline__ void store(const uint4& vector, std::uint32_t rows, int pixel, int pack) {
    ptx::store_shared_16(rows + pixel * kRowBytes + ((pack ^ (pixel & 7)) * 16), vector);
  }

  // As Range decides (sm90/range.cuh), of the largest channel before its conversion: where a thread has a whole pixel,
  // or a pixel's lanes hold but one pack each.
  static __device__ __forceinline__ bool out_of_range(float largest) {
    return largest > 65504.0f || (largest != 0.0f && largest < 0x1p-11f);
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
  const std::uint32_t ring_;  // in shared memory
  const int thread_;
};

}  // namespace convmin::sm90
