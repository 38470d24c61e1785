// The caller's weight, as the packing kernels read it.
#pragma once

#include "common/fast_divisor.h"
#include "common/planning.h"
#include "conv_scale_min.h"

namespace convmin::sm90 {

struct Weight {
  const void* data;
  std::int64_t stride_k, stride_c, stride_r, stride_s;
  bool channels_inside;  // neighbouring channels lie nearer to each other than neighbouring taps
  bool vectors;          // and next to each other, in whole aligned vectors of 16 bytes
  bool dense_filters;    // float32: nothing lies between a filter's elements
  FastDivisor by_window, by_s;
};

// Whether a filter's channels can be read in whole aligned vectors of 16 bytes.
inline bool weight_vectors_fit(const Problem& problem) {
  const std::int64_t size = element_size(problem.dtype), *strides = problem.weight_strides;
  bool fit = strides[1] == 1 && problem.c / problem.groups * size % 16 == 0 && problem.weight_alignment % 16 == 0;
  const std::int64_t extents[] = {problem.k, 1, problem.r, problem.s};
  for (const int axis : {0, 2, 3}) fit = fit && (extents[axis] == 1 || strides[axis] * size % 16 == 0);
  return fit;
}

inline Weight make_weight(const Problem& problem, const void* data) {
  const std::int64_t* strides = problem.weight_strides;
  const bool inside = problem.c / problem.groups > 1 && strides[1] < strides[problem.s > 1 ? 3 : 2];
  const bool vectors = weight_vectors_fit(problem);
  return {data,
          strides[0],
          strides[1],
          strides[2],
          strides[3],
          inside || vectors,
          vectors,
          problem.dtype == DType::kFloat32 && filters_are_dense(problem),
          FastDivisor(problem.r * problem.s),
          FastDivisor(problem.s)};
}

}  // namespace convmin::sm90
