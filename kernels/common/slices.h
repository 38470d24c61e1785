// A call as several, of a few images each: what a workspace for all of them would be too large for. Host code only.
#pragma once

#include "conv_scale_min.h"

namespace convmin {

// Calls visit(problem, arguments) for `images` of the problem's images at a time, of which it has a multiple, until one
// returns an error.
template <typename Visit>
int for_each_slice(const Problem& problem, std::int64_t images, const Arguments& arguments, Visit&& visit) {
  const std::int64_t pixels = images * problem.oh * problem.ow;
  Problem part = problem;
  part.n = images;
  Arguments rest = arguments;
  for (std::int64_t first = 0; first < problem.n; first += images) {
    if (const int error = visit(part, rest)) return error;
    rest.input = static_cast<const char*>(rest.input) + images * problem.input_strides[0] * element_size(problem.dtype);
    rest.values = static_cast<char*>(rest.values) + pixels * element_size(problem.dtype);
    if (rest.indices == nullptr) continue;
    rest.indices = static_cast<char*>(rest.indices) + pixels * element_size(index_type(problem.k));
  }
  return 0;
}

}  // namespace convmin
