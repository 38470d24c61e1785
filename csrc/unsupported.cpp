// Backends without a kernel, sparse and nested tensors: an error that names the argument, where the dispatcher's would
// list keys.
#include <torch/library.h>

#include "backward.h"

namespace convmin {
namespace {

[[noreturn]] void reject(const char* op, const at::Tensor& input) {
  TORCH_CHECK_NOT_IMPLEMENTED(false, op, ": expected input on a device that convmin was built for, got ",
                              input.device());
}

template <typename Result>
Result forward(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
               double /*scale*/, c10::SymIntArrayRef /*stride*/, c10::SymIntArrayRef /*padding*/,
               c10::SymIntArrayRef /*dilation*/, c10::SymInt /*groups*/) {
  check_tensors(kOp, input, weight, bias);
  reject(kOp, input);
}

Gradients backward(const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
                   const at::Tensor& indices, double /*scale*/, c10::SymIntArrayRef /*stride*/,
                   c10::SymIntArrayRef /*padding*/, c10::SymIntArrayRef /*dilation*/, c10::SymInt /*groups*/,
                   std::array<bool, 3> /*output_mask*/) {
  check_tensors(kBackwardOp, input, weight, std::nullopt);
  check_place(kBackwardOp, "grad_output", grad_output, input);
  check_place(kBackwardOp, "indices", indices, input);
  reject(kBackwardOp, input);
}

void register_in(torch::Library& m) {
  m.impl("conv2d_scale_min", &forward<at::Tensor>);
  m.impl("conv2d_scale_min_with_indices", &forward<std::tuple<at::Tensor, at::Tensor>>);
  m.impl("conv2d_scale_min_backward", &backward);
}

}  // namespace
}  // namespace convmin

// The first key stands for every backend without a kernel of its own, but not for those of nested tensors.
TORCH_LIBRARY_IMPL(convmin, CompositeExplicitAutograd, m) { convmin::register_in(m); }
TORCH_LIBRARY_IMPL(convmin, NestedTensorCPU, m) { convmin::register_in(m); }
TORCH_LIBRARY_IMPL(convmin, NestedTensorCUDA, m) { convmin::register_in(m); }
