// Autograd: the forward saves the winning channel of each pixel and nothing of the convolution's size.
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "checks.h"
#include "convmin/ops.h"
#include "transforms.h"

namespace convmin {
namespace {

using c10::SymInt;
using c10::SymIntArrayRef;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class ConvScaleMin : public torch::autograd::Function<ConvScaleMin> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& weight,
                               const std::optional<at::Tensor>& bias, double scale, SymIntArrayRef stride,
                               SymIntArrayRef padding, SymIntArrayRef dilation, const SymInt& groups) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [values, indices] =
        ops::conv2d_scale_min_with_indices(input, weight, bias, scale, stride, padding, dilation, groups);
    // The indices are integers, so not differentiable; marking them so would keep compiled autograd out.
    context->save_for_backward({input, weight, indices});
    context->set_materialize_grads(false);
    // One list: each entry of saved_data costs about as much as all of its integers.
    context->saved_data["convolution"] = std::vector<SymInt>{stride[0],   stride[1],   padding[0], padding[1],
                                                             dilation[0], dilation[1], groups,     bias.has_value()};
    context->saved_data["scale"] = scale;
    return {values, indices};
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    constexpr int kForwardArguments = 8;
    variable_list result(kForwardArguments);
    if (!grads[0].defined()) return result;
    const variable_list saved = context->get_saved_variables();
    auto& data = context->saved_data;
    const std::vector<SymInt> convolution = data["convolution"].toSymIntVector();
    const SymIntArrayRef pairs = convolution;
    const bool has_bias = convolution[7] != 0;
    const std::array<bool, 3> mask = {context->needs_input_grad(0), context->needs_input_grad(1),
                                      has_bias && context->needs_input_grad(2)};
    std::tie(result[0], result[1], result[2]) =
        ops::conv2d_scale_min_backward(grads[0], saved[0], saved[1], saved[2], data["scale"].toDouble(),
                                       pairs.slice(0, 2), pairs.slice(2, 2), pairs.slice(4, 2), convolution[6], mask);
    return result;
  }
};

bool needs_grad(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  return at::GradMode::is_enabled() &&
         (input.requires_grad() || weight.requires_grad() || (bias.has_value() && bias->requires_grad()));
}

at::Tensor values_autograd(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                           double scale, SymIntArrayRef stride, SymIntArrayRef padding, SymIntArrayRef dilation,
                           SymInt groups) {
  check_tensors(kOp, input, weight, bias);
  if (transforms::active(input, weight, bias)) {
    return std::get<0>(
        transforms::differentiable(input, weight, bias, scale, stride, padding, dilation, std::move(groups)));
  }
  if (needs_grad(input, weight, bias)) {
    return ConvScaleMin::apply(input, weight, bias, scale, stride, padding, dilation, groups)[0];
  }
  at::AutoDispatchBelowADInplaceOrView guard;
  return ops::conv2d_scale_min(input, weight, bias, scale, stride, padding, dilation, std::move(groups));
}

std::tuple<at::Tensor, at::Tensor> with_indices_autograd(const at::Tensor& input, const at::Tensor& weight,
                                                         const std::optional<at::Tensor>& bias, double scale,
                                                         SymIntArrayRef stride, SymIntArrayRef padding,
                                                         SymIntArrayRef dilation, SymInt groups) {
  check_tensors(kOp, input, weight, bias);
  if (transforms::active(input, weight, bias)) {
    return transforms::differentiable(input, weight, bias, scale, stride, padding, dilation, std::move(groups));
  }
  if (needs_grad(input, weight, bias)) {
    const auto results = ConvScaleMin::apply(input, weight, bias, scale, stride, padding, dilation, groups);
    return {results[0], results[1]};
  }
  at::AutoDispatchBelowADInplaceOrView guard;
  return ops::conv2d_scale_min_with_indices(input, weight, bias, scale, stride, padding, dilation, std::move(groups));
}

}  // namespace
}  // namespace convmin

TORCH_LIBRARY_IMPL(convmin, Autograd, m) {
  m.impl("conv2d_scale_min", &convmin::values_autograd);
  m.impl("conv2d_scale_min_with_indices", &convmin::with_indices_autograd);
  // Double backward: an error when it is asked for, not before.
  m.impl("conv2d_scale_min_backward", torch::autograd::autogradNotImplementedFallback());
}
