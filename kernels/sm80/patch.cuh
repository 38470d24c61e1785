// A block's tile and the patch of input pixels under it: which pixel lies where in shared memory.
#pragma once

#include "sm80/params.h"
#include "sm80/traits.h"

namespace convmin::sm80 {

// Where an input pixel lies, in memory and in its image; a tap may lie beside it.
struct alignas(16) Pixel {
  std::int64_t offset;  // bytes
  int ih, iw;
};
static_assert(sizeof(Pixel) == kPixelEntry, "tiles.h states what the kernel uses");

// What a load brings where a patch serves all taps: a pixel; or a quad, four pixels of a row from a multiple of four
// columns of the image on, so that all are inside it or none.
struct alignas(16) Source {
  std::int64_t offset;  // bytes
  int target;           // where it goes: see target_of()
  int inside;           // the image
};
static_assert(sizeof(Source) == kPixelEntry, "tiles.h states what the kernel uses");

// A place in the patch, in bytes, and which of up to four pixels from there on it has, a bit each.
__device__ __forceinline__ int target_of(int place, int pixels) { return place * 16 + pixels; }

// An element of the window, relative to the window's corner. For Gather::kTaps.
struct alignas(16) Tap {
  std::int64_t offset;  // bytes
  int dh, dw;
};
static_assert(sizeof(Tap) == kTapEntry, "tiles.h states what the kernel uses");

// They fail every bounds check, alone and together: extents are below 2^30 (plan() sees to it).
inline constexpr int kOutsidePixel = -0x7fffffff - 1;
inline constexpr int kOutsideTap = -0x40000000;

struct BlockTile {
  int first_row, first_column;  // output; rows count over all images
  int end_row;                  // the tile's rows end here, if not before
  int first_image, first_oh;    // of the first row
  int head_rows;                // patch rows of the first image's part
  int image_rows;               // and of any whole image after it

  __device__ __forceinline__ BlockTile(const Params& params, unsigned tile) {
    const int row_tile = static_cast<int>(tile / params.tiles_w);
    first_column = static_cast<int>(tile - static_cast<unsigned>(row_tile) * params.tiles_w) * params.tile_columns;
    if (params.tiles_per_image > 0) {
      first_image = row_tile / params.tiles_per_image;
      first_oh = (row_tile - first_image * params.tiles_per_image) * params.tile_rows;
      first_row = first_image * params.oh + first_oh;
      end_row = first_row - first_oh + params.oh;
    } else {
      first_row = row_tile * params.tile_rows;
      first_image = first_row / params.oh;
      first_oh = first_row - first_image * params.oh;
      end_row = params.rows;
    }
    head_rows = (min(params.oh - first_oh, params.tile_rows) - 1) * params.unit_h + params.span_h;
    image_rows = (params.oh - 1) * params.unit_h + params.span_h;
  }

  // The patch's e-th pixel.
  __device__ __forceinline__ Pixel pixel(const Params& params, int e) const {
    const int row = e / params.patch_columns;
    const int place = e - row * params.patch_columns;
    const int column = place % params.run_columns * params.unit_w + place / params.run_columns;
    return input_pixel(params, row, first_column * params.stride_w - params.padding_w + column * params.step_w);
  }

  __device__ __forceinline__ Source pixel_source(const Params& params, int e) const {
    const int row = e / params.patch_columns;
    const int place = e + row * (params.patch_pitch - params.patch_columns);
    return source(params, pixel(params, e), place, 1);
  }

  // The patch's e-th quad, or nothing after the last.
  __device__ __forceinline__ Source quad_source(const Params& params, int e) const {
    if (e >= params.quads) return {};
    const int row = e / params.row_quads;
    const int first_iw = first_column - params.padding_w;
    const int column = (e - row * params.row_quads) * kQuad - (first_iw & (kQuad - 1));
    int pixels = 0;
    for (int j = 0; j < kQuad; ++j) {
      if (static_cast<unsigned>(column + j) < static_cast<unsigned>(params.patch_columns)) pixels |= 1 << j;
    }
    return source(params, input_pixel(params, row, first_iw + column), row * params.patch_pitch + column, pixels);
  }

  // Where the window of the tile's m-th output pixel starts in the patch, in bytes; some valid place for one that
  // isn't.
  __device__ __forceinline__ int window(const Params& params, int m) const {
    const int i = m / params.tile_columns, row = first_row + i;
    if (i >= params.tile_rows || row >= end_row) return 0;
    const int image = row / params.oh, oh = row - image * params.oh;
    const int patch_row = image == first_image
                              ? (oh - first_oh) * params.unit_h
                              : head_rows + (image - first_image - 1) * image_rows + oh * params.unit_h;
    return (patch_row * params.patch_pitch + m - i * params.tile_columns) * kPixelBytes;
  }

  // The output element of the tile's m-th pixel, or -1.
  __device__ __forceinline__ std::int64_t output(const Params& params, int m) const {
    const int i = m / params.tile_columns, row = first_row + i;
    const int ow = first_column + m - i * params.tile_columns;
    if (i >= params.tile_rows || row >= end_row || ow >= params.ow) return -1;
    return static_cast<std::int64_t>(row) * params.ow + ow;
  }

 private:
  // Under a row of the patch, in column `iw` of its image.
  __device__ __forceinline__ Pixel input_pixel(const Params& params, int row, int iw) const {
    int image = first_image, ih = first_oh * params.stride_h;
    if (row >= head_rows) {
      row -= head_rows;
      image += 1 + row / image_rows;
      row %= image_rows;
      ih = 0;
    }
    if (image >= params.n) return {0, kOutsidePixel, kOutsidePixel};
    ih += row * params.step_h - params.padding_h;
    return {image * params.input_stride_n + ih * params.input_stride_h + iw * params.input_stride_w, ih, iw};
  }

  static __device__ __forceinline__ Source source(const Params& params, const Pixel& first, int place, int pixels) {
    const bool inside = static_cast<unsigned>(first.ih) < static_cast<unsigned>(params.h) &&
                        static_cast<unsigned>(first.iw) < static_cast<unsigned>(params.w);
    return {first.offset, target_of(place * kPixelBytes, pixels), inside};
  }
};

// How far into the patch a tap of the window lies, in bytes.
__device__ __forceinline__ int tap_offset(const Params& params, int tap) {
  if (params.taps == 1) return 0;
  const int r = tap / params.s, s = tap - r * params.s;
  const int row = r * params.dilation_h / params.step_h, column = s * params.dilation_w / params.step_w;
  const int place = column % params.unit_w * params.run_columns + column / params.unit_w;
  return (row * params.patch_pitch + place) * kPixelBytes;
}

}  // namespace convmin::sm80
