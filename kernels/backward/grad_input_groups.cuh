// grad_input for many groups of few channels (depthwise ones among them): of an output pixel's gradient only the
// winning group's channels get any. A thread has an input pixel, and a column of sums of its own in shared memory.
#pragma once

#include "backward/grad_input.cuh"

namespace convmin::backward {

template <typename Element>
__global__ void __launch_bounds__(kGroupsThreads, 4)
    conv_scale_min_grad_input_groups(const __grid_constant__ Params params) {
  using Accum = typename Numeric<Element>::Accum;
  constexpr int kPixels = kGroupsThreads, kColumn = kPixels + 1;
  extern __shared__ __align__(16) unsigned char memory[];
  auto* sums = reinterpret_cast<Accum*>(memory);  // [channels of the chunk][kColumn]

  const int thread = static_cast<int>(threadIdx.x);
  const auto step = static_cast<int>(gridDim.x) / params.channel_chunks;
  const int first_group = static_cast<int>(blockIdx.x) / step * params.chunk_groups;
  const int groups = min(params.chunk_groups, params.groups - first_group);
  const int channels = groups * params.group_channels, first_channel = first_group * params.group_channels;
  const unsigned first_output = first_group * params.group_outputs, outputs = groups * params.group_outputs;
  const auto* weight = static_cast<const Element*>(params.weight);
  auto* target = static_cast<Element*>(params.grad_input);
  const std::int64_t plane = static_cast<std::int64_t>(params.h) * params.w;
  const std::int64_t tiles = (params.input_pixels + kPixels - 1) / kPixels;

  for (std::int64_t tile = static_cast<int>(blockIdx.x) % step; tile < tiles; tile += step) {
    const std::int64_t at = tile * kPixels + thread;
    for (int c = 0; c < channels; ++c) sums[c * kColumn + thread] = 0;
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
          const Accum gradient = read_gradient<Element>(params, from.grad);
          const auto output = static_cast<unsigned>(read_channel(params, from.index));
          if (output - first_output >= outputs) continue;
          const Element* factors =
              weight + output * params.weight_stride_k + r * params.weight_stride_r + s * params.weight_stride_s;
          Accum* to = sums + (output - first_output) / params.group_outputs * params.group_channels * kColumn + thread;
          for (int c = 0; c < params.group_channels; ++c) {
            to[c * kColumn] += gradient * Numeric<Element>::widen(factors[c * params.weight_stride_c]);
          }
        }
      }
      if (!params.channels_last) {
        Element* to = target + (place.n * params.c + first_channel) * plane + at - place.n * plane;
        for (int c = 0; c < channels; ++c) to[c * plane] = Numeric<Element>::round(sums[c * kColumn + thread]);
      }
    }
    if (!params.channels_last) continue;
    __syncthreads();
    const auto pixels = static_cast<int>(min(static_cast<std::int64_t>(kPixels), params.input_pixels - tile * kPixels));
    for (int i = thread; i < pixels * channels; i += kPixels) {
      const int pixel = i / channels, c = i % channels;
      target[(tile * kPixels + pixel) * params.c + first_channel + c] =
          Numeric<Element>::round(sums[c * kColumn + pixel]);
    }
    __syncthreads();
  }
}

}  // namespace convmin::backward
