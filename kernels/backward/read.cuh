// What a gradient kernel reads of an output pixel: its winning channel, and the gradient times the scale.
#pragma once

#include <climits>

#include "backward/params.h"
#include "common/convert.cuh"

namespace convmin::backward {

struct PixelPlace {
  std::int64_t n;
  int h, w;
};

// A pixel's number taken apart. A division of 64 bits takes about 100 instructions, one of 32 bits 20.
__device__ __forceinline__ PixelPlace place_of(std::int64_t pixel, int height, int width) {
  const std::int64_t plane = static_cast<std::int64_t>(height) * width;
  if (pixel < INT_MAX && plane < INT_MAX) {
    const auto at = static_cast<unsigned>(pixel), area = static_cast<unsigned>(plane);
    const unsigned n = at / area, rest = at - n * area, h = rest / static_cast<unsigned>(width);
    return {n, static_cast<int>(h), static_cast<int>(rest - h * static_cast<unsigned>(width))};
  }
  const std::int64_t n = pixel / plane, rest = pixel - n * plane, h = rest / width;
  return {n, static_cast<int>(h), static_cast<int>(rest - h * width)};
}

// Where a pixel lies, in elements.
struct OutputPixel {
  std::int64_t grad, index;
};

__device__ __forceinline__ OutputPixel locate(const Params& params, std::int64_t n, int oh, int ow) {
  return {n * params.grad_output_stride_n + oh * params.grad_output_stride_h + ow * params.grad_output_stride_w,
          n * params.indices_stride_n + oh * params.indices_stride_h + ow * params.indices_stride_w};
}

// An index beyond the channels comes back as it is; callers compare it as unsigned, so that it selects nothing.
__device__ __forceinline__ int read_channel(const Params& params, std::int64_t at) {
  switch (params.index_type) {
    case IndexType::kUInt8: return static_cast<const std::uint8_t*>(params.indices)[at];
    case IndexType::kInt16: return static_cast<const std::int16_t*>(params.indices)[at];
    default: return static_cast<const std::int32_t*>(params.indices)[at];
  }
}

template <typename Element>
__device__ __forceinline__ typename Numeric<Element>::Accum read_gradient(const Params& params, std::int64_t at) {
  using Accum = typename Numeric<Element>::Accum;
  return Numeric<Element>::widen(static_cast<const Element*>(params.grad_output)[at]) *
         static_cast<Accum>(params.scale);
}

// 16 bytes of elements.
template <typename Element>
struct alignas(16) Vector {
  static constexpr int kCount = 16 / static_cast<int>(sizeof(Element));
  Element values[kCount];
};

}  // namespace convmin::backward
