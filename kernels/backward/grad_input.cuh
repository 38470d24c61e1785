// grad_input for any stride, padding, dilation and groups. Each input pixel gathers, tap by tap, from the output pixel
// that the tap leads to the weights of its winning channel: no two threads add to one place.
#pragma once

#include "backward/pack.cuh"
#include "backward/plan.h"

namespace convmin::backward {

// The output coordinate that meets input coordinate `at` under a tap, or -1.
__device__ __forceinline__ int output_coordinate(int at, int padding, int tap_offset, int stride,
                                                 const FastDivisor& by_stride, int extent) {
  const int shifted = at + padding - tap_offset;
  if (shifted < 0) return -1;
  if (stride == 1) return shifted < extent ? shifted : -1;
  const QuotientRemainder parts = by_stride.divide(static_cast<std::uint32_t>(shifted));
  const int output = static_cast<int>(parts.quotient);
  return parts.remainder == 0 && output < extent ? output : -1;
}

// kLanes threads share an input pixel. Blocks take a chunk of channels and every so many-th tile of pixels; those of
// one chunk are neighbours, so that the chunk's weights stay in L1.
template <typename Element, int kLanes>
__global__ void __launch_bounds__(kGeneralThreads, 3) conv_scale_min_grad_input(const __grid_constant__ Params params) {
  using Accum = typename Numeric<Element>::Accum;
  constexpr int kVector = Vector<Element>::kCount, kWidth = kLanes * kVector;
  constexpr int kPixels = kGeneralThreads / kLanes, kPitch = kPixels + 1;
  __shared__ Accum stage[kWidth * kPitch];

  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, pixel = thread / kLanes;
  const int taps = params.r * params.s;
  const auto step = static_cast<int>(gridDim.x) / (params.groups * params.channel_chunks);
  const int chunk = static_cast<int>(blockIdx.x) / step;
  const int group = chunk / params.channel_chunks, first_output = group * params.group_outputs;
  const int first_channel = chunk % params.channel_chunks * kWidth;  // of the group
  const int width = min(kWidth, params.group_channels - first_channel);
  const std::int64_t row_vectors = static_cast<std::int64_t>(taps) * kLanes;
  const auto* weight = static_cast<const Vector<Element>*>(params.packed_weight) +
                       chunk * row_vectors * (params.group_outputs + 1) + lane;

  const std::int64_t plane = static_cast<std::int64_t>(params.h) * params.w;
  const std::int64_t tiles = (params.input_pixels + kPixels - 1) / kPixels;
  auto* target = static_cast<Element*>(params.grad_input);
  for (std::int64_t tile = static_cast<int>(blockIdx.x) % step; tile < tiles; tile += step) {
    const std::int64_t at = tile * kPixels + pixel;
    Accum sums[kVector] = {};
    if (at < params.input_pixels) {
      const PixelPlace place = place_of(at, params.h, params.w);
      for (int r = 0; r < params.r; ++r) {
        const int oh = output_coordinate(place.h, params.padding_h, r * params.dilation_h, params.stride_h,
                                         params.by_stride_h, params.oh);
        if (oh < 0) continue;
        for (int s = 0; s < params.s; ++s) {
          const int ow = output_coordinate(place.w, params.padding_w, s * params.dilation_w, params.stride_w,
                                           params.by_stride_w, params.ow);
          if (ow < 0) continue;
          const OutputPixel from = locate(params, place.n, oh, ow);
          const Accum gradient = read_gradient<Element>(params, from.grad);  // not after the index has been waited for
          const int row = read_channel(params, from.index) - first_output;
          if (static_cast<unsigned>(row) >= static_cast<unsigned>(params.group_outputs)) continue;
          const Vector<Element> factors = weight[row * row_vectors + (r * params.s + s) * kLanes];
#pragma unroll
          for (int v = 0; v < kVector; ++v) sums[v] += gradient * Numeric<Element>::widen(factors.values[v]);
        }
      }
      if (params.channels_last) {
        Element* to = target + at * params.c + group * params.group_channels + first_channel;
#pragma unroll
        for (int v = 0; v < kVector; ++v) {
          if (lane * kVector + v < width) to[lane * kVector + v] = Numeric<Element>::round(sums[v]);
        }
      }
    }
    if (params.channels_last) continue;
    __syncthreads();  // the previous tile has been read
#pragma unroll
    for (int v = 0; v < kVector; ++v) stage[(lane + kLanes * v) * kPitch + pixel] = sums[v];
    __syncthreads();
    const std::int64_t to_pixel = tile * kPixels + thread % kPixels;
    if (to_pixel >= params.input_pixels) continue;
    const std::int64_t n = place_of(to_pixel, params.h, params.w).n;
    Element* to =
        target + (n * params.c + group * params.group_channels + first_channel) * plane + to_pixel - n * plane;
    for (int c = thread / kPixels; c < width; c += kLanes) {
      to[c * plane] = Numeric<Element>::round(stage[c * kPitch + thread % kPixels]);
    }
  }
}

}  // namespace convmin::backward
