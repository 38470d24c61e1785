// How the CPU path cuts the work: slabs of output rows whose convolution stays in cache. Pure; no torch header.
#pragma once

#include <algorithm>
#include <cstdint>

namespace convmin {

// A slab is `images` whole images, or `rows` output rows of one image. Its convolution keeps the input's layout: oneDNN
// is up to a fifth faster in channels_last, but with AVX-512 it then errs three times as much as eager PyTorch, which
// keeps the layout too.
struct SlabPlan {
  std::int64_t images, rows;
};

// `element_size` in bytes, of the type that the convolution computes in.
inline SlabPlan plan_slabs(std::int64_t n, std::int64_t k, std::int64_t oh, std::int64_t ow,
                           std::int64_t element_size) {
  // Large enough to hide what each convolution call costs beyond its arithmetic (about 30 us, and the reordering of the
  // weights, which only a slab's pixels amortize), small enough that scale and minimum find its output in cache.
  constexpr std::int64_t kSlabBytes = std::int64_t{4} << 20;
  constexpr std::int64_t kMinPixels = 2048;
  const std::int64_t pixels = std::max(kMinPixels, kSlabBytes / (k * element_size));
  const std::int64_t image = oh * ow;
  if (image <= 2 * pixels) {  // cutting an image in two costs a copy of its input and saves little
    return {std::clamp<std::int64_t>(pixels / image, 1, std::max<std::int64_t>(n, 1)), oh};
  }
  // Slabs of equal height, rather than a last one of a few rows.
  const std::int64_t slabs = (image + pixels - 1) / pixels;
  return {1, (oh + slabs - 1) / slabs};
}

}  // namespace convmin
