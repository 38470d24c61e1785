// A slice's images with neighbouring channels, for an input that has them apart: the list takes its pixels in no order
// of theirs, and a load of scattered elements takes 32 bytes from memory for each.
#pragma once

#include "backward/read.cuh"

namespace convmin::backward {

// [image][pixel][group][tap_width], zeros beyond the group's channels. A block has a tile of pixels and channels.
template <typename Element>
__global__ void __launch_bounds__(kCopyThreads)
    conv_scale_min_backward_copy(const __grid_constant__ Params params, Element* target) {
  __shared__ Element tile[kCopyChannels][kCopyPixels + 1];
  constexpr int kRows = kCopyThreads / kCopyPixels, kColumns = kCopyThreads / kCopyChannels;
  const int thread = static_cast<int>(threadIdx.x);
  const int plane = params.h * params.w, width = params.groups * params.tap_width;
  const int pixel_tiles = (plane + kCopyPixels - 1) / kCopyPixels;
  const int channel_tiles = (width + kCopyChannels - 1) / kCopyChannels;
  const auto block = static_cast<int>(blockIdx.x);
  const int first_pixel = block % pixel_tiles * kCopyPixels;
  const int first_channel = block / pixel_tiles % channel_tiles * kCopyChannels;
  const std::int64_t image = block / pixel_tiles / channel_tiles;

  const int pixel = first_pixel + thread % kCopyPixels, h = pixel / params.w, w = pixel - h * params.w;
  const auto* from = static_cast<const Element*>(params.input) + (params.first_image + image) * params.input_stride_n +
                     h * params.input_stride_h + w * params.input_stride_w;
#pragma unroll
  for (int row = thread / kCopyPixels; row < kCopyChannels; row += kRows) {
    const int padded = first_channel + row, group = padded / params.tap_width, c = padded - group * params.tap_width;
    Element value = Numeric<Element>::round(0);
    if (pixel < plane && padded < width && c < params.group_channels) {
      value = from[static_cast<std::int64_t>(group * params.group_channels + c) * params.input_stride_c];
    }
    tile[row][thread % kCopyPixels] = value;
  }
  __syncthreads();
  const int channel = first_channel + thread % kCopyChannels;
  if (channel >= width) return;
#pragma unroll
  for (int row = thread / kCopyChannels; row < kCopyPixels; row += kColumns) {
    if (first_pixel + row >= plane) break;
    target[(image * plane + first_pixel + row) * width + channel] = tile[thread % kCopyChannels][row];
  }
}

}  // namespace convmin::backward
