// Registers one backend's forward under both of the operator's names: kForward computes the values and, where it is
// asked for them, the indices.
#pragma once

#include <torch/library.h>

#include "checks.h"

namespace convmin {

template <auto kForward>
struct Forward {
  static at::Tensor values(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                           double scale, at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                           std::int64_t groups) {
    return std::get<0>(kForward(input, weight, bias, scale, {stride, padding, dilation, groups}, false));
  }

  static std::tuple<at::Tensor, at::Tensor> with_indices(const at::Tensor& input, const at::Tensor& weight,
                                                         const std::optional<at::Tensor>& bias, double scale,
                                                         at::IntArrayRef stride, at::IntArrayRef padding,
                                                         at::IntArrayRef dilation, std::int64_t groups) {
    return kForward(input, weight, bias, scale, {stride, padding, dilation, groups}, true);
  }

  static void register_in(torch::Library& m) {
    m.impl("conv2d_scale_min", &values);
    m.impl("conv2d_scale_min_with_indices", &with_indices);
  }
};

}  // namespace convmin
