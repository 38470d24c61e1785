// What torch.func's transforms and forward-mode differentiation need beyond torch::autograd::Function, which PyTorch
// keeps out of both.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace convmin::transforms {

// The call stands within torch.func.grad, vjp, jvp ..., or one of its arguments carries a tangent.
bool active(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias);

// (values, indices), with gradients by the backward operator and with tangents.
std::tuple<at::Tensor, at::Tensor> differentiable(const at::Tensor& input, const at::Tensor& weight,
                                                  const std::optional<at::Tensor>& bias, double scale,
                                                  c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                                                  c10::SymIntArrayRef dilation, c10::SymInt groups);

}  // namespace convmin::transforms
