// NCHW rows, four pixels at a time: an item is four neighbouring pixels of eight channels, loaded by eight vector
// loads, transposed in registers and stored as four 16-byte packs. Per value that is a quarter of a load, half a
// conversion and an eighth of a store, where loads of single values would cost some ten instructions, which draw the
// tensor cores' power.
#pragma once

#include "sm90/traits.h"

namespace convmin::sm90 {

template <typename T>
struct Quads {
  static constexpr int kPixels = 4, kChannels = 8;
  static constexpr int kPerStrip = kTileM / kPixels, kPerPixel = kChunk / kChannels;
  using Element = typename T::Element;
  struct alignas(kPixels * sizeof(Element)) Vector {
    Element values[kPixels];
  };

  Vector channels[kChannels];

  // Of which quad and pack of channels a thread's first item is; its second is kPerPixel / 2 packs on. A warp has four
  // packs of eight quads. Eight neighbouring lanes, whose accesses go together, have eight quads, 16 bytes of float32
  // each, from all of the cache's banks; and every two of them another pack, so that the swizzle spreads their stores
  // over all banks too.
  static __device__ __forceinline__ int quad_of(int thread) { return thread / 32 * 8 + thread % 8; }
  static __device__ __forceinline__ int pack_of(int thread) { return (thread / 8 ^ thread / 2) % 4; }
  // The bits of a lane's number in which those of one quad differ.
  static constexpr int kFirstLane = 8, kLastLane = 16;

  // `source` points to the quad's first pixel in the first of `count` channels; outside the image all are zeros.
  __device__ __forceinline__ void load(const Element* source, std::int64_t stride_c, bool inside, int count) {
    if (inside && count >= kChannels) {
#pragma unroll
      for (int j = 0; j < kChannels; ++j, source += stride_c) channels[j] = read(source);
    } else {
#pragma unroll
      for (int j = 0; j < kChannels; ++j, source += stride_c) {
        channels[j] = Vector{};
        if (inside && j < count) channels[j] = read(source);
      }
    }
  }

  // The eight channels of pixel i, in the tensor cores' type.
  __device__ __forceinline__ uint4 pack(int i) const {
    std::uint32_t words[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const Element first = channels[2 * j].values[i], second = channels[2 * j + 1].values[i];
      if constexpr (sizeof(Element) == 4) {
        words[j] = bits(__floats2half2_rn(first, second));
      } else {
        words[j] = raw(first) | static_cast<std::uint32_t>(raw(second)) << 16;
      }
    }
    return {words[0], words[1], words[2], words[3]};
  }

 private:
  static __device__ __forceinline__ Vector read(const Element* source) {
    using Word = std::conditional_t<sizeof(Vector) == 16, uint4, uint2>;
    static_assert(sizeof(Word) == sizeof(Vector), "one load a vector");
    const Word word = __ldg(reinterpret_cast<const Word*>(source));
    return *reinterpret_cast<const Vector*>(&word);
  }
  static __device__ __forceinline__ std::uint32_t bits(__half2 pair) {
    return *reinterpret_cast<std::uint32_t*>(&pair);
  }
  static __device__ __forceinline__ std::uint16_t raw(Element value) {
    return *reinterpret_cast<const std::uint16_t*>(&value);
  }
};

}  // namespace convmin::sm90
