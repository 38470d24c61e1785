// Four pixels at a time: an item is four neighbours in a row of NCHW, of four or eight channels. A vector load brings
// the four of a channel; they are transposed in registers and stored pixel by pixel. A 16-byte vector of shared memory
// takes two loads so, where loads of single values would be eight.
#pragma once

#include "sm80/pack.cuh"
#include "sm80/patch.cuh"

namespace convmin::sm80 {

template <typename T>
struct Quads {
  using Element = typename T::Element;
  using Operand = typename T::Operand;
  static constexpr int kPixels = kQuad, kChannels = 16 / static_cast<int>(sizeof(Element));
  static constexpr int kBytes = kChannels * static_cast<int>(sizeof(Operand));  // of a pixel
  static constexpr int kWords = kBytes / 4;
  static constexpr int kParts = kStepBytes / kBytes;  // of a pixel's step
  static constexpr int kTogether = quads_together(sizeof(Element));

  // Which quad of the patch, and which part of its channels, an item is. Lanes whose stores go together, 128 bytes of
  // them, have all parts of an even and of an odd quad: 64 bytes of a pixel, and 64 of the one four on. That lies an
  // odd number of 64 bytes on, so they meet all 32 banks once; where quads are of different rows, some twice. Of 16-bit
  // elements eight lanes load eight quads of a row, every two of them in other channels, so that they meet different
  // banks of L1. float32 gains nothing by that: its lanes have two quads, 32 bytes of each channel.
  static __device__ __forceinline__ int quad_of(unsigned item) {
    return item / (kTogether * kParts) * kTogether + item % kTogether;
  }
  static __device__ __forceinline__ int part_of(unsigned item) {
    const unsigned part = item / kTogether % kParts;
    if constexpr (kTogether == 2) return part;
    return (part / 2 + part % 2 * (kParts / 2)) ^ item % kTogether / 2;
  }
  static_assert(T::kLoading % (kTogether * kParts) == 0, "a thread's items are of one part");
  static_assert(kQuad * kPixelBytes % 128 == 64, "neighbouring quads are half of the banks apart");

  // `source` points to the quad's first pixel in the first of `count` channels.
  __device__ __forceinline__ void load(const char* source, std::int64_t stride_c, int count) {
    if (count >= kChannels) {
#pragma unroll
      for (int c = 0; c < kChannels; ++c, source += stride_c) channels_[c] = read(source);
    } else {
#pragma unroll
      for (int c = 0; c < kChannels; ++c, source += stride_c) channels_[c] = c < count ? read(source) : Vector{};
    }
  }

  // The channels of pixel j as the tensor cores take them.
  __device__ __forceinline__ void pixel(int j, std::uint32_t (&words)[kWords]) const {
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      if constexpr (sizeof(Operand) == 4) {
        words[i] = operand_bits<Operand>(value(i, j));
      } else if constexpr (sizeof(Element) == 4) {
        words[i] = operand_pair<Operand>(value(2 * i, j), value(2 * i + 1, j));
      } else {
        words[i] = __byte_perm(word(2 * i, j / 2), word(2 * i + 1, j / 2), j % 2 == 0 ? 0x5410 : 0x7632);
      }
    }
  }
  // Of float32.
  __device__ __forceinline__ bool nonzero(int j) const {
    bool result = false;
#pragma unroll
    for (int c = 0; c < kChannels; ++c) result |= value(c, j) != 0.0f;
    return result;
  }

 private:
  // Whole words until they are stored: taken apart into 16-bit values they would be so as soon as they arrive, and the
  // thread wait for that.
  using Vector = std::conditional_t<sizeof(Element) == 4, uint4, uint2>;
  static_assert(sizeof(Vector) == kQuad * sizeof(Element), "one load a channel");

  static __device__ __forceinline__ Vector read(const char* source) {
    return __ldg(reinterpret_cast<const Vector*>(source));
  }
  __device__ __forceinline__ std::uint32_t word(int channel, int i) const {
    const Vector& vector = channels_[channel];
    if constexpr (sizeof(Element) == 4) {
      return i == 0 ? vector.x : i == 1 ? vector.y : i == 2 ? vector.z : vector.w;
    } else {
      return i == 0 ? vector.x : vector.y;
    }
  }
  __device__ __forceinline__ float value(int channel, int j) const { return __uint_as_float(word(channel, j)); }

  Vector channels_[kChannels];
};

}  // namespace convmin::sm80
