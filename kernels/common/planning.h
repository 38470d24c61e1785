// What the families' plans share. Host code only.
#pragma once

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "conv_scale_min.h"

namespace convmin {

constexpr std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
constexpr std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_divide(a, b) * b; }

inline constexpr std::int64_t kReservedShared = 1024;  // bytes of shared memory that the system takes of each block's

inline constexpr std::int64_t kMaxExtent = std::int64_t{1} << 30;  // less than this fits in 32 bits, as do sums of two

// Whether rows follow each other without a gap, and a 1 x 1 kernel can't tell where one ends.
inline bool rows_are_one(const Problem& problem) {
  const bool pointwise = problem.r == 1 && problem.s == 1 && problem.stride_h == 1 && problem.stride_w == 1 &&
                         problem.padding_h == 0 && problem.padding_w == 0;
  return pointwise && problem.input_strides[2] == problem.w * problem.input_strides[3] &&
         problem.h * problem.w < kMaxExtent;
}

// Whether the input's channels are neighbours and `channels` of them make whole vectors of `bytes`, all of them
// aligned.
inline bool channel_vectors_fit(const Problem& problem, std::int64_t channels, std::int64_t bytes) {
  const std::int64_t vector = bytes / element_size(problem.dtype);
  if (channels % vector != 0 || problem.input_strides[1] != 1 || problem.input_alignment < bytes) return false;
  const std::int64_t extents[] = {problem.n, 1, problem.h, problem.w};
  for (int i : {0, 2, 3}) {
    if (extents[i] > 1 && problem.input_strides[i] % vector != 0) return false;
  }
  return true;
}

// Whether the input's rows are of whole vectors of `pixels`, next to each other and aligned.
inline bool pixel_vectors_fit(const Problem& problem, std::int64_t pixels) {
  const std::int64_t extents[] = {problem.n, problem.c, problem.h};
  for (int i : {0, 1, 2}) {
    if (extents[i] > 1 && problem.input_strides[i] % pixels != 0) return false;
  }
  return problem.input_strides[3] == 1 && problem.w % pixels == 0 &&
         problem.input_alignment % (pixels * element_size(problem.dtype)) == 0;
}

// The largest of the extents that kernels compute with in 32 bits.
inline std::int64_t largest_extent(const Problem& problem) {
  return std::max({problem.h + 2 * problem.padding_h, problem.w + 2 * problem.padding_w,
                   problem.c * problem.r * problem.s, problem.k, problem.stride_h, problem.stride_w,
                   (problem.r - 1) * problem.dilation_h, (problem.s - 1) * problem.dilation_w});
}

// Whether a filter's elements have nothing between them, whatever their order.
inline bool filters_are_dense(const Problem& problem) {
  std::pair<std::int64_t, std::int64_t> axes[] = {{problem.weight_strides[1], problem.c / problem.groups},
                                                  {problem.weight_strides[2], problem.r},
                                                  {problem.weight_strides[3], problem.s}};
  std::sort(std::begin(axes), std::end(axes));
  std::int64_t count = 1;
  for (const auto& [stride, extent] : axes) {
    if (extent == 1) continue;
    if (stride != count) return false;
    count *= extent;
  }
  return true;
}

// Why no tensor-core kernel takes the problem, whatever its shape; null: some may.
inline const char* tensor_cores_refuse(const Problem& problem) {
  if (problem.dtype == DType::kFloat64) return "float64 has no tensor-core path";
  if (problem.dtype == DType::kFloat32 && problem.precision == Precision::kIeee) {
    return "float32 is to keep all 24 bits (torch.backends.cudnn.conv.fp32_precision is not 'tf32')";
  }
  if (problem.n == 0) return "an empty batch";
  // The epilogue multiplies the minimum, not each channel: the same only for these.
  const auto scale = static_cast<float>(problem.scale);
  if (!std::isfinite(scale) || scale == 0.0f) return "scale is zero, infinite or NaN";
  return nullptr;
}

}  // namespace convmin
