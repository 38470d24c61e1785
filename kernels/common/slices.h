// A call as several, of a few images each: what a workspace for all of them would be too large for. Host code only.
#pragma once

#include <type_traits>

#include "conv_scale_min.h"

namespace convmin {

constexpr std::int64_t element_size(DType type) {
  return type == DType::kFloat64 ? 8 : type == DType::kFloat32 ? 4 : 2;
}
constexpr std::int64_t element_size(IndexType type) {
  return type == IndexType::kInt32 ? 4 : type == IndexType::kInt16 ? 2 : 1;
}

// Calls visit(problem, arguments) for `images` of the problem's images at a time, of which it has a multiple, until one
// returns an error.
template <typename Visit>
int for_each_slice(const Problem& problem, std::int64_t images, const Arguments& arguments, Visit&& visit) {
  const auto after = [](auto* data, std::int64_t bytes) {
    using Byte = std::conditional_t<std::is_const_v<std::remove_pointer_t<decltype(data)>>, const char, char>;
    return data == nullptr ? data : static_cast<Byte*>(data) + bytes;
  };
  const std::int64_t pixels = images * problem.oh * problem.ow;
  Problem part = problem;
  part.n = images;
  Arguments rest = arguments;
  for (std::int64_t first = 0; first < problem.n; first += images) {
    if (const int error = visit(part, rest)) return error;
    rest.input = after(rest.input, images * problem.input_strides[0] * element_size(problem.dtype));
    rest.values = after(rest.values, pixels * element_size(problem.dtype));
    rest.indices = after(rest.indices, pixels * element_size(index_type(problem.k)));
  }
  return 0;
}

}  // namespace convmin
