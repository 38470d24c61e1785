// The operator for C++ users: link libconvmin.so (or load it with dlopen before the first call), include this header.
//
//   at::Tensor y = convmin::ops::conv2d_scale_min(x, weight, bias, 2.0);
//
// Every call goes through PyTorch's dispatcher, so autograd, autocast and tracing see it.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <array>
#include <optional>
#include <tuple>

namespace convmin::ops {

// min over k of ((conv2d(input, weight, bias)[n, k, oh, ow]) * scale), shape [n, 1, oh, ow].
inline at::Tensor conv2d_scale_min(const at::Tensor& input, const at::Tensor& weight,
                                   const std::optional<at::Tensor>& bias, double scale,
                                   c10::SymIntArrayRef stride = {1, 1}, c10::SymIntArrayRef padding = {0, 0},
                                   c10::SymIntArrayRef dilation = {1, 1}, c10::SymInt groups = 1) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("convmin::conv2d_scale_min", "")
          .typed<at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, double,
                            c10::SymIntArrayRef, c10::SymIntArrayRef, c10::SymIntArrayRef, c10::SymInt)>();
  return op.call(input, weight, bias, scale, stride, padding, dilation, std::move(groups));
}

// The same, and the lowest channel that attains the minimum (the first NaN if there is one).
inline std::tuple<at::Tensor, at::Tensor> conv2d_scale_min_with_indices(
    const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias, double scale,
    c10::SymIntArrayRef stride = {1, 1}, c10::SymIntArrayRef padding = {0, 0}, c10::SymIntArrayRef dilation = {1, 1},
    c10::SymInt groups = 1) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("convmin::conv2d_scale_min_with_indices", "")
                             .typed<std::tuple<at::Tensor, at::Tensor>(
                                 const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, double,
                                 c10::SymIntArrayRef, c10::SymIntArrayRef, c10::SymIntArrayRef, c10::SymInt)>();
  return op.call(input, weight, bias, scale, stride, padding, dilation, std::move(groups));
}

// (grad_input, grad_weight, grad_bias); those that output_mask leaves out are undefined.
inline std::tuple<at::Tensor, at::Tensor, at::Tensor> conv2d_scale_min_backward(
    const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight, const at::Tensor& indices,
    double scale, c10::SymIntArrayRef stride, c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation,
    c10::SymInt groups, std::array<bool, 3> output_mask) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("convmin::conv2d_scale_min_backward", "")
          .typed<std::tuple<at::Tensor, at::Tensor, at::Tensor>(
              const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, double, c10::SymIntArrayRef,
              c10::SymIntArrayRef, c10::SymIntArrayRef, c10::SymInt, std::array<bool, 3>)>();
  return op.call(grad_output, input, weight, indices, scale, stride, padding, dilation, std::move(groups), output_mask);
}

}  // namespace convmin::ops
