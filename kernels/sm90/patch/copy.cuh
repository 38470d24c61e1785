// Input that 16-byte vectors of channels don't fit, or whose float32 is to be float16, is copied once: channels_last, a
// group's channels padded to whole vectors. A block copies 64 pixels x 128 bytes, NCHW through shared memory, read in
// vectors of pixels and written in vectors of channels.
#pragma once

#include "common/float16_range.cuh"
#include "common/load.cuh"
#include "sm90/patch/params.h"
#include "sm90/patch/traits.h"

namespace convmin::sm90::patch {

inline constexpr int kPrepareThreads = 256;

// Where a pixel's word is in the block's tile: [pixel][128 bytes], the vectors of a row in an order that spreads both
// the stores, of one vector of 8 runs of pixels, and the loads, of a pixel's 8 vectors, over all banks.
__host__ __device__ constexpr int copy_place(int pixel, int pack, int run) {
  return pixel * kRowBytes + (pack ^ (run & 7)) * 16;
}

// What a thread of the block loads first of a run: a word of channels of neighbouring pixels. Whatever else it loads is
// of the same pixels, some packs of channels on.
struct CopyItem {
  int pack, word, vector;
};
__host__ __device__ constexpr int copy_rows(int together) { return kCopyPixels / together / 8; }
__host__ __device__ constexpr CopyItem copy_item(int thread, int together) {
  const int rows = copy_rows(together), rest = thread / 32;
  return {rest / rows, thread / 8 % 4, rest % rows * 8 + thread % 8};
}

template <typename T>
class Copier {
 public:
  using Element = typename T::Element;
  using Operand = typename T::Operand;
  struct Shared {
    alignas(16) std::uint8_t tile[kCopyPixels * kRowBytes];
    int faint[kCopyPixels];  // whether a pixel has a channel that is, and not zero
  };

  __device__ __forceinline__ Copier(const Params& params, int block)
      : params_(params), thread_(static_cast<int>(threadIdx.x)) {
    const Source& source = params.source;
    const QuotientRemainder by_chunks = source.by_chunks.divide(block);
    const QuotientRemainder by_group_chunks = source.by_group_chunks.divide(by_chunks.remainder);
    run_ = static_cast<int>(by_chunks.quotient);
    const auto group = static_cast<int>(by_group_chunks.quotient);
    const int first = static_cast<int>(by_group_chunks.remainder) * T::kChunk;
    channels_ = min(params.group_channels - first, T::kChunk);
    input_ = static_cast<const Element*>(source.input) +
             (static_cast<std::int64_t>(group) * params.group_channels + first) * source.stride_c;
    const std::int64_t pixel = static_cast<std::int64_t>(run_) * kCopyPixels;
    copy_ = static_cast<Operand*>(params.copy) + pixel * params.source.pixel_pitch +
            static_cast<std::int64_t>(group) * params.source.group_pitch + first;
    pixels_ = static_cast<int>(min(source.pixels - pixel, std::int64_t{kCopyPixels}));
    const QuotientRemainder by_image = source.image.divide(static_cast<std::uint32_t>(pixel));
    first_n_ = by_image.quotient;
    first_pixel_ = static_cast<int>(by_image.remainder);
  }

  __device__ __forceinline__ void run(Shared& shared) {
    if (params_.source.channels_inside) {
      by_channels();
    } else if (params_.source.together == 4) {
      by_pixels<4>(shared);
    } else if (params_.source.together == 2) {
      by_pixels<2>(shared);
    } else {
      by_pixels<1>(shared);
    }
  }

 private:
  static constexpr int kPerWord = 4 / static_cast<int>(sizeof(Operand));  // channels of a 32-bit word

  __device__ __forceinline__ std::int64_t offset_of(int pixel) const {
    const Source& source = params_.source;
    const auto image = source.image.divide(static_cast<std::uint32_t>(first_pixel_ + pixel));
    const auto row = source.row.divide(image.remainder);
    return (first_n_ + image.quotient) * source.stride_n + row.quotient * source.stride_h +
           row.remainder * source.stride_w;
  }

  static __device__ __forceinline__ std::uint32_t bits(Element value) {
    if constexpr (sizeof(Operand) == 4) {
      return __float_as_uint(value);
    } else if constexpr (T::kScaled) {
      return __half_as_ushort(__float2half_rn(value));
    } else {
      return *reinterpret_cast<const std::uint16_t*>(&value);
    }
  }
  static __device__ __forceinline__ std::uint32_t word_of(const Element* channels) {
    if constexpr (kPerWord == 1) {
      return bits(channels[0]);
    } else {
      return bits(channels[0]) | bits(channels[1]) << 16;
    }
  }

  __device__ __forceinline__ void write(int pixel, int pack, uint4 vector) const {
    if (pixel >= pixels_ || pack * T::kPack >= channels_) return;
    *reinterpret_cast<uint4*>(copy_ + pixel * params_.source.pixel_pitch + pack * T::kPack) = vector;
  }

  template <int kPixels>
  __device__ __forceinline__ void by_pixels(Shared& shared) const {
    constexpr int kItems = 32 * (kCopyPixels / kPixels) / kPrepareThreads, kPackStep = T::kPacks / kItems;
    static_assert(kPackStep * copy_rows(kPixels) * 32 == kPrepareThreads, "a thread's items are of the same pixels");
    struct alignas(kPixels * sizeof(Element)) Vector {
      Element values[kPixels];
    };
    if constexpr (T::kScaled) {
      if (thread_ < kCopyPixels) shared.faint[thread_] = 0;
      __syncthreads();
    }
    const CopyItem item = copy_item(thread_, kPixels);
    const int pixel = item.vector * kPixels, channel = item.pack * T::kPack + item.word * kPerWord;
    const int channels = pixel < pixels_ ? channels_ : 0;
    const Element* from = input_ + channel * params_.source.stride_c;
    if (pixel < pixels_) from += offset_of(pixel);
    Vector loaded[kItems][kPerWord];
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
#pragma unroll
      for (int j = 0; j < kPerWord; ++j) {
        const int on = i * kPackStep * T::kPack + j;
        loaded[i][j] = Vector{};
        if (channel + on < channels) loaded[i][j] = load_streaming<Vector>(from + on * params_.source.stride_c);
      }
    }
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
#pragma unroll
      for (int p = 0; p < kPixels; ++p) {
        std::uint32_t word;
        if constexpr (sizeof(Element) == 2 && kPixels > 1) {  // of words of two pixels each, by one instruction
          const auto *a = reinterpret_cast<const std::uint32_t*>(&loaded[i][0]),
                     *b = reinterpret_cast<const std::uint32_t*>(&loaded[i][1]);
          word = __byte_perm(a[p / 2], b[p / 2], p % 2 == 0 ? 0x5410 : 0x7632);
        } else {
          Element values[kPerWord];
#pragma unroll
          for (int j = 0; j < kPerWord; ++j) {
            values[j] = loaded[i][j].values[p];
            if constexpr (T::kScaled) {
              if (values[j] != 0.0f && fabsf(values[j]) < kFaintestInput) atomicOr(&shared.faint[pixel + p], 1);
            }
          }
          word = word_of(values);
        }
        const int place = copy_place(pixel + p, item.pack + i * kPackStep, item.vector) + item.word * 4;
        *reinterpret_cast<std::uint32_t*>(shared.tile + place) = word;
      }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kCopyPixels * 8 / kPrepareThreads; ++i) {
      const int item = thread_ + i * kPrepareThreads, pixel = item / 8, pack = item % 8;
      const uint4 vector = *reinterpret_cast<const uint4*>(shared.tile + copy_place(pixel, pack, pixel / kPixels));
      write(pixel, pack, vector);
      if constexpr (T::kScaled) {
        const auto* halves = reinterpret_cast<const __half*>(&vector);
        float largest = 0.0f;
#pragma unroll
        for (int j = 0; j < T::kPack; ++j) largest = fmaxf(largest, fabsf(__half2float(halves[j])));
        largest = of_pixel(largest);
        note(largest > kLargestInput || (largest < kFaintestInput && shared.faint[pixel] != 0));
      }
    }
  }

  __device__ __forceinline__ void by_channels() const {
#pragma unroll
    for (int i = 0; i < kCopyPixels * 8 / kPrepareThreads; ++i) {
      const int item = thread_ + i * kPrepareThreads, pixel = item / 8, pack = item % 8;
      Element channels[T::kPack] = {};
      if (pixel < pixels_) {
        const Element* from = input_ + offset_of(pixel) + pack * T::kPack * params_.source.stride_c;
        constexpr int kVector = 16 / static_cast<int>(sizeof(Element));
        if (params_.source.vectors) {
#pragma unroll
          for (int j = 0; j < T::kPack; j += kVector) {
            if (pack * T::kPack + j >= channels_) continue;
            *reinterpret_cast<uint4*>(&channels[j]) = load_streaming<uint4>(from + j);
          }
        } else {
#pragma unroll
          for (int j = 0; j < T::kPack; ++j) {
            if (pack * T::kPack + j < channels_) channels[j] = from[j * params_.source.stride_c];
          }
        }
      }
      write(pixel, pack,
            {word_of(&channels[0]), word_of(&channels[kPerWord]), word_of(&channels[2 * kPerWord]),
             word_of(&channels[3 * kPerWord])});
      if constexpr (T::kScaled) {
        float largest = 0.0f;
#pragma unroll
        for (int j = 0; j < T::kPack; ++j) largest = fmaxf(largest, fabsf(channels[j]));
        largest = of_pixel(largest);
        note(largest > kLargestInput || (largest < kFaintestInput && largest != 0.0f));
      }
    }
  }

  // The largest of the eight lanes that have a pixel's channels. NaN passes, since it stays NaN.
  static __device__ __forceinline__ float of_pixel(float largest) {
#pragma unroll
    for (int offset = 1; offset < 8; offset *= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, offset));
    }
    return largest;
  }
  __device__ __forceinline__ void note(bool outside) const {
    if (outside) params_.run_outside[run_] = 1;
  }

  const Params& params_;
  const int thread_;
  int run_, channels_, pixels_;
  int first_pixel_;  // in its image
  std::int64_t first_n_;
  const Element* input_;
  Operand* copy_;
};

}  // namespace convmin::sm90::patch
