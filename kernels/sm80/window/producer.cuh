// What a block stages once: the weight in the order of the multiplication's fragments, where each element of the window
// lies in a patch, and the bias. Then one patch of the input after the other: the next one's first elements are on
// their way, in registers, while a tile is multiplied.
#pragma once

#include <type_traits>

#include "common/load.cuh"
#include "sm80/operand.cuh"
#include "sm80/window/params.h"
#include "sm80/window/traits.h"

namespace convmin::sm80::window {

// An element of the window.
struct WindowElement {
  int c, r, s;
};
__device__ __forceinline__ WindowElement window_element(const Params& params, int e) {
  const QuotientRemainder inner = params.by_window_inner.divide(e);
  const QuotientRemainder middle = params.by_window_middle.divide(inner.quotient);
  const auto first = static_cast<int>(middle.quotient), second = static_cast<int>(middle.remainder);
  const auto third = static_cast<int>(inner.remainder);
  return params.channels_inside ? WindowElement{third, first, second} : WindowElement{first, second, third};
}

// The weight in the order of the multiplication's fragments, several vectors at a time. Output channels that don't
// exist repeat the last one, so that none has to be left out of the minimum. kInOrder: a filter lies in memory as the
// reduction runs.
template <typename T, bool kInOrder>
__device__ __forceinline__ void stage_weight(const Params& params, char* shared) {
  using Element = typename T::Element;
  constexpr int kVectors = 4 / T::kWord;  // of 4 * T::kWord loads each
  auto* const fragments = reinterpret_cast<uint4*>(shared);
  const int count = params.passes * params.steps * T::kPairs * 32;
  for (int first = static_cast<int>(threadIdx.x); first < count; first += kVectors * kThreads) {
    std::uint32_t words[kVectors][4];
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      const int i = min(first + j * kThreads, count - 1);
      const int lane = i % 32, pair = i / 32 % T::kPairs;
      const QuotientRemainder at = params.by_steps.divide(i / 32 / T::kPairs);
      const int k = static_cast<int>(at.quotient) * T::kWidth + pair * 16 + lane / 4;
      const int word = static_cast<int>(at.remainder) * 8 + lane % 4;
      const auto* const filter = static_cast<const Element*>(params.weight);
      const auto* const low = filter + min(k, params.outputs - 1) * params.weight_stride_k;
      const auto* const high = filter + min(k + 8, params.outputs - 1) * params.weight_stride_k;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        words[j][half] = 0, words[j][2 + half] = 0;
#pragma unroll
        for (int n = 0; n < T::kWord; ++n) {
          const int e = (word + half * 4) * T::kWord + n;
          std::int64_t offset = min(e, params.reduction - 1);
          if constexpr (!kInOrder) {
            const WindowElement in = window_element(params, static_cast<int>(offset));
            offset = in.c * params.weight_stride_c + in.r * params.weight_stride_r + in.s * params.weight_stride_s;
          }
          const std::uint32_t mask = e < params.reduction ? 0xffffffffu : 0u;
          words[j][half] |= (operand_bits<Element>(load_read_only(low + offset)) & mask) << n * 16;
          words[j][2 + half] |= (operand_bits<Element>(load_read_only(high + offset)) & mask) << n * 16;
        }
      }
    }
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      const int i = first + j * kThreads;
      if (i < count) fragments[i] = {words[j][0], words[j][1], words[j][2], words[j][3]};
    }
  }
}

// Where an element of the patch lies: beside the tile's first pixel in memory, in elements; its row and its column.
struct alignas(8) Place {
  int offset;
  std::uint16_t row, column;
};
static_assert(sizeof(Place) == kPlaceEntry, "tiles.h states what the kernel uses");

// Places of the patch's elements. A barrier must follow.
__device__ __forceinline__ void stage_places(const Params& params, char* shared) {
  for (int e = static_cast<int>(threadIdx.x); e < params.patch_elements; e += kThreads) {
    const QuotientRemainder inner = params.by_inner.divide(e);
    const QuotientRemainder middle = params.by_middle.divide(inner.quotient);
    const std::uint32_t first = middle.quotient, second = middle.remainder, third = inner.remainder;
    const std::uint32_t channel = params.channels_inside ? third : first;
    const std::uint32_t row = params.channels_inside ? first : second, column = params.channels_inside ? second : third;
    const std::int64_t offset =
        channel * params.input_stride_c + row * params.input_stride_h + column * params.input_stride_w;
    reinterpret_cast<Place*>(shared + params.places)[e] = {static_cast<int>(offset), static_cast<std::uint16_t>(row),
                                                           static_cast<std::uint16_t>(column)};
  }
}

// The window's elements in a patch, and what each output channel adds. A barrier must follow.
template <typename T>
__device__ __forceinline__ void stage_tables(const Params& params, char* shared) {
  const auto thread = static_cast<int>(threadIdx.x);
  // Of each step and lane % 4: the elements of its two words.
  for (int i = thread; i < params.steps * 4 * 2 * T::kWord; i += kThreads) {
    const int element = i % T::kWord, half = i / T::kWord % 2, step = i / T::kWord / 2 / 4, q = i / T::kWord / 2 % 4;
    const int e = (step * 8 + half * 4 + q) * T::kWord + element;
    int offset = 0;  // what is no element is masked
    if (e < params.reduction) {
      const WindowElement at = window_element(params, e);
      offset = at.c * params.patch_stride_c + at.r * params.dilation_h * params.patch_stride_h +
               at.s * params.dilation_w * params.patch_stride_w;
    }
    reinterpret_cast<int*>(shared + params.offsets)[(step * 4 + q) * (kOffsetEntry / 4) + half * T::kWord + element] =
        offset;
  }
  const float sign = params.scale < 0 ? -1.0f : 1.0f;
  for (int i = thread; i < params.passes * T::kWidth; i += kThreads) {
    using Element = typename T::Element;
    float addend = 0.0f;
    if (params.bias != nullptr) {
      addend = Numeric<Element>::widen(
          load_read_only(static_cast<const Element*>(params.bias) + min(i, params.outputs - 1)));
    }
    reinterpret_cast<float*>(shared + params.addends)[i] = sign * addend;
  }
}

// A block's output pixels.
struct Tile {
  int n, oh, ow;  // the first one

  __device__ __forceinline__ Tile(const Params& params, int index) {
    const QuotientRemainder column = params.by_tiles_w.divide(index);
    const QuotientRemainder row = params.by_tiles_h.divide(column.quotient);
    n = static_cast<int>(row.quotient);
    oh = static_cast<int>(row.remainder) * params.tile_rows;
    ow = static_cast<int>(column.remainder) * params.tile_columns;
  }
};

template <typename T>
class Producer {
 public:
  using Element = typename T::Element;

  __device__ __forceinline__ Producer(const Params& params, char* shared)
      : params_(params),
        places_(reinterpret_cast<const Place*>(shared + params.places)),
        patch_(reinterpret_cast<Bits*>(shared + params.patch)) {}

  // The first elements of a tile's patch, into registers.
  __device__ __forceinline__ void load(const Tile& tile) {
    const Corner corner(params_, tile);
#pragma unroll
    for (int i = 0; i < kAhead; ++i) ahead_[i] = read(corner, static_cast<int>(threadIdx.x) + i * kThreads);
  }

  // The patch, into shared memory: those elements, and the rest.
  __device__ __forceinline__ void store(const Tile& tile) const {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int e = static_cast<int>(threadIdx.x) + i * kThreads;
      if (e < params_.patch_elements) patch_[e] = static_cast<Bits>(operand_bits<Element>(ahead_[i]));
    }
    if (params_.patch_elements <= kAhead * kThreads) return;
    const Corner corner(params_, tile);
    for (int first = static_cast<int>(threadIdx.x) + kAhead * kThreads; first < params_.patch_elements;
         first += kTogether * kThreads) {
      Element values[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) values[i] = read(corner, first + i * kThreads);
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const int e = first + i * kThreads;
        if (e < params_.patch_elements) patch_[e] = static_cast<Bits>(operand_bits<Element>(values[i]));
      }
    }
  }

 private:
  using Bits = std::conditional_t<sizeof(Element) == 4, std::uint32_t, std::uint16_t>;

  // The patch's first pixel, which may be outside the image.
  struct Corner {
    int ih, iw;
    const Element* input;

    __device__ __forceinline__ Corner(const Params& params, const Tile& tile)
        : ih(tile.oh * params.stride_h - params.padding_h),
          iw(tile.ow * params.stride_w - params.padding_w),
          input(static_cast<const Element*>(params.input) + tile.n * params.input_stride_n +
                ih * params.input_stride_h + iw * params.input_stride_w) {}
  };

  // Zero outside the image, and beyond the patch's last element. One predicate, no branches: the loads go out together.
  __device__ __forceinline__ Element read(const Corner& corner, int e) const {
    const Place place = places_[min(e, params_.patch_elements - 1)];
    const bool inside = (e < params_.patch_elements) &
                        (static_cast<unsigned>(corner.ih + place.row) < static_cast<unsigned>(params_.h)) &
                        (static_cast<unsigned>(corner.iw + place.column) < static_cast<unsigned>(params_.w));
    return inside ? load_read_only(corner.input + place.offset) : Element{};
  }

  const Params& params_;
  const Place* const places_;
  Bits* const patch_;
  Element ahead_[kAhead];
};

}  // namespace convmin::sm80::window
