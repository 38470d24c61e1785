// How the CPU path cuts the work: slabs of output rows whose convolution stays in cache. Pure; no torch header.
#pragma once

#include <algorithm>
#include <cstdint>

namespace convmin {

// A slab is `images` whole images, or `rows` output rows of one image.
struct SlabPlan {
  std::int64_t images, rows;
  bool channels_last;  // layout of the slab's convolution
};

// `taps` of the kernel, r * s; `element_size` in bytes, of the type that the convolution computes in.
inline SlabPlan plan_slabs(std::int64_t n, std::int64_t c, std::int64_t k, std::int64_t taps, std::int64_t oh,
                           std::int64_t ow, std::int64_t groups, std::int64_t element_size, bool input_channels_last) {
  // Large enough to hide what each convolution call costs beyond its arithmetic (about 30 us, and the reordering of the
  // weights, which only a slab's pixels amortize), small enough that scale and minimum find its output in cache.
  constexpr std::int64_t kSlabBytes = std::int64_t{4} << 20;
  constexpr std::int64_t kMinPixels = 2048;
  const std::int64_t pixels = std::max(kMinPixels, kSlabBytes / (k * element_size));
  SlabPlan plan{};
  const std::int64_t image = oh * ow;
  if (image <= 2 * pixels) {  // cutting an image in two costs a copy of its input and saves little
    plan.images = std::clamp<std::int64_t>(pixels / image, 1, std::max<std::int64_t>(n, 1));
    plan.rows = oh;
  } else {
    plan.images = 1;
    // Slabs of equal height, rather than a last one of a few rows.
    const std::int64_t slabs = (image + pixels - 1) / pixels;
    plan.rows = (oh + slabs - 1) / slabs;
  }
  // A slab's input is copied anyway, and large convolutions are faster in channels_last. Others are not: a whole image
  // would be copied for that alone (0.91 of eager's speed for 128x128x128 -> 128, against 0.98), with few
  // channels the strided copy costs more than that gains, with few pixels the reordering of the weight does, grouped
  // ones are slower outright, and 1x1 ones sum in an order that errs several times as much as the input's own layout.
  constexpr std::int64_t kMinInputs = 16, kMinOutputs = 128, kMinPixelsToReorder = 1024;
  const bool one_image = n == 1 && plan.rows == oh;  // not cut, so not copied otherwise
  const bool pays =
      !one_image && groups == 1 && c >= kMinInputs && k >= kMinOutputs && taps > 1 && n * image >= kMinPixelsToReorder;
  plan.channels_last = input_channels_last || (element_size == 4 && pays);
  return plan;
}

}  // namespace convmin
