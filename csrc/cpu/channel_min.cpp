#include "cpu/channel_min.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

// One body, compiled for each instruction set and chosen when the library loads.
#if defined(__x86_64__) && defined(__gnu_linux__)
#define CONVMIN_TARGET_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CONVMIN_TARGET_CLONES
#endif
#define CONVMIN_INLINE inline __attribute__((always_inline))

// Vectors never cross a call that is not inlined, so their calling convention is of no concern.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace convmin {
namespace {

// One AVX2 register; AVX-512 gains nothing where memory is the limit, and wider vectors spill without it.
constexpr int kVectorBytes = 32;

// GNU vectors: arithmetic, comparison (all-ones masks) and selection lane by lane, on any target.
template <typename T>
struct Simd {
  static constexpr int kLanes = kVectorBytes / sizeof(T);
  using Index = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  typedef T Values __attribute__((vector_size(kVectorBytes)));
  typedef Index Indices __attribute__((vector_size(kVectorBytes)));

  static CONVMIN_INLINE Values load(const T* from) {
    Values values;
    std::memcpy(&values, from, sizeof values);
    return values;
  }

  // The vector with its halves, then quarters, ... exchanged: log2(kLanes) of them meet every lane with every other.
  template <int kDistance, typename Vector>
  static CONVMIN_INLINE Vector exchange(const Vector& v) {
    if constexpr (kLanes == 8) {
      return __builtin_shufflevector(v, v, 0 ^ kDistance, 1 ^ kDistance, 2 ^ kDistance, 3 ^ kDistance, 4 ^ kDistance,
                                     5 ^ kDistance, 6 ^ kDistance, 7 ^ kDistance);
    } else {
      static_assert(kLanes == 4, "float or double");
      return __builtin_shufflevector(v, v, 0 ^ kDistance, 1 ^ kDistance, 2 ^ kDistance, 3 ^ kDistance);
    }
  }
};

// Takes `value` where it is NaN or less, unless NaN is there already: the first of the smallest, in ascending channels.
template <typename T, bool kWithIndices>
struct Best {
  using S = Simd<T>;
  typename S::Values value;
  typename S::Indices channel;

  CONVMIN_INLINE void offer(const typename S::Values& other, const typename S::Indices& other_channel) {
    const typename S::Indices take = ~(other >= value) & (value == value);
    value = take ? other : value;
    if constexpr (kWithIndices) channel = take ? other_channel : channel;
  }

  // Every lane ends with the minimum over lanes and the lowest channel that attains it.
  template <int kDistance = S::kLanes / 2>
  CONVMIN_INLINE void reduce_lanes() {
    const typename S::Values other = S::template exchange<kDistance>(value);
    if constexpr (kWithIndices) {
      const typename S::Indices other_channel = S::template exchange<kDistance>(channel);
      const typename S::Indices nan = value != value, other_nan = other != other;
      const typename S::Indices same = (value == other) | (nan & other_nan);
      const typename S::Indices take = (same & (other_channel < channel)) | (~same & ~nan & ~(other >= value));
      value = take ? other : value;
      channel = take ? other_channel : channel;
    } else {
      offer(other, channel);
    }
    if constexpr (kDistance > 1) reduce_lanes<kDistance / 2>();
  }
};

template <typename T>
CONVMIN_INLINE bool precedes(T value, std::int64_t channel, T best, std::int64_t best_channel) {
  const bool nan = value != value, best_nan = best != best;
  if (nan || best_nan) return nan && (!best_nan || channel < best_channel);
  return value < best || (value == best && channel < best_channel);
}

// Channels next to each other: vectors run along channels, and each pixel ends with a reduction over the lanes.
template <typename T, bool kWithIndices>
CONVMIN_INLINE void min_of_rows(const T* conv, std::int64_t channels, T scale, std::int64_t begin, std::int64_t end,
                                T* values, std::int32_t* indices) {
  using S = Simd<T>;
  typename S::Indices lane;
  for (int i = 0; i < S::kLanes; ++i) lane[i] = i;
  for (std::int64_t pixel = begin; pixel < end; ++pixel) {
    const T* row = conv + pixel * channels;
    T best_value = row[0] * scale;
    std::int64_t best_channel = 0;
    std::int64_t channel = 0;
    if (channels >= S::kLanes) {
      Best<T, kWithIndices> best{S::load(row) * scale, lane};
      for (channel = S::kLanes; channel + S::kLanes <= channels; channel += S::kLanes) {
        best.offer(S::load(row + channel) * scale, lane + static_cast<typename S::Index>(channel));
      }
      best.reduce_lanes();
      best_value = best.value[0];
      best_channel = best.channel[0];
    }
    for (; channel < channels; ++channel) {
      const T value = row[channel] * scale;
      if (precedes<T>(value, channel, best_value, best_channel)) {
        best_value = value;
        best_channel = channel;
      }
    }
    values[pixel] = best_value;
    if constexpr (kWithIndices) indices[pixel] = static_cast<std::int32_t>(best_channel);
  }
}

// Pixels next to each other: vectors run along pixels, the loop over channels, with the best ones in registers.
template <typename T, bool kWithIndices>
CONVMIN_INLINE void min_of_planes(const T* conv, std::int64_t pixels, std::int64_t channels, T scale,
                                  std::int64_t begin, std::int64_t end, T* values, std::int32_t* indices) {
  using S = Simd<T>;
  for (std::int64_t pixel = begin; pixel < end;) {
    const std::int64_t image = pixel / pixels, offset = pixel - image * pixels;
    const T* plane = conv + image * channels * pixels + offset;
    const std::int64_t left = std::min(end - pixel, pixels - offset);
    if (left >= S::kLanes) {
      Best<T, kWithIndices> best{S::load(plane) * scale, {}};
      for (std::int64_t channel = 1; channel < channels; ++channel) {
        best.offer(S::load(plane + channel * pixels) * scale,
                   typename S::Indices{} + static_cast<typename S::Index>(channel));
      }
      std::memcpy(values + pixel, &best.value, sizeof best.value);
      if constexpr (kWithIndices) {
        for (int i = 0; i < S::kLanes; ++i) indices[pixel + i] = static_cast<std::int32_t>(best.channel[i]);
      }
      pixel += S::kLanes;
      continue;
    }
    T best_value = plane[0] * scale;
    std::int64_t best_channel = 0;
    for (std::int64_t channel = 1; channel < channels; ++channel) {
      const T value = plane[channel * pixels] * scale;
      if (precedes<T>(value, channel, best_value, best_channel)) {
        best_value = value;
        best_channel = channel;
      }
    }
    values[pixel] = best_value;
    if constexpr (kWithIndices) indices[pixel] = static_cast<std::int32_t>(best_channel);
    ++pixel;
  }
}

template <typename T>
CONVMIN_INLINE void dispatch(const T* conv, bool channels_last, std::int64_t pixels, std::int64_t channels,
                             double scale, std::int64_t begin, std::int64_t end, T* values, std::int32_t* indices) {
  const T factor = static_cast<T>(scale);
  if (channels_last) {
    if (indices != nullptr) return min_of_rows<T, true>(conv, channels, factor, begin, end, values, indices);
    return min_of_rows<T, false>(conv, channels, factor, begin, end, values, indices);
  }
  if (indices != nullptr) return min_of_planes<T, true>(conv, pixels, channels, factor, begin, end, values, indices);
  return min_of_planes<T, false>(conv, pixels, channels, factor, begin, end, values, indices);
}

}  // namespace

CONVMIN_TARGET_CLONES void channel_min(const float* conv, bool channels_last, std::int64_t pixels,
                                       std::int64_t channels, double scale, std::int64_t begin, std::int64_t end,
                                       float* values, std::int32_t* indices) {
  dispatch(conv, channels_last, pixels, channels, scale, begin, end, values, indices);
}

CONVMIN_TARGET_CLONES void channel_min(const double* conv, bool channels_last, std::int64_t pixels,
                                       std::int64_t channels, double scale, std::int64_t begin, std::int64_t end,
                                       double* values, std::int32_t* indices) {
  dispatch(conv, channels_last, pixels, channels, scale, begin, end, values, indices);
}

}  // namespace convmin
