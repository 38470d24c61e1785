// Meta: shapes and dtypes without data, for fake tensors, torch.compile and torch.export.
#include <torch/library.h>

#include "backward.h"

namespace convmin {
namespace {

using c10::SymInt;
using c10::SymIntArrayRef;

std::tuple<at::Tensor, at::Tensor> with_indices_meta(const at::Tensor& input, const at::Tensor& weight,
                                                     const std::optional<at::Tensor>& bias, double /*scale*/,
                                                     SymIntArrayRef stride, SymIntArrayRef padding,
                                                     SymIntArrayRef dilation, SymInt groups) {
  const auto geometry =
      check_arguments<SymInt>(kOp, input, weight, bias, {stride, padding, dilation, std::move(groups)});
  const auto sizes = geometry.output_sizes();
  const at::ScalarType index = index_scalar_type(geometry.k.guard_int(__FILE__, __LINE__));
  return {input.new_empty_symint(sizes), input.new_empty_symint(sizes, input.options().dtype(index))};
}

at::Tensor values_meta(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       double /*scale*/, SymIntArrayRef stride, SymIntArrayRef padding, SymIntArrayRef dilation,
                       SymInt groups) {
  const auto geometry =
      check_arguments<SymInt>(kOp, input, weight, bias, {stride, padding, dilation, std::move(groups)});
  return input.new_empty_symint(geometry.output_sizes());
}

Gradients backward_meta(const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
                        const at::Tensor& indices, double /*scale*/, SymIntArrayRef stride, SymIntArrayRef padding,
                        SymIntArrayRef dilation, SymInt groups, std::array<bool, 3> output_mask) {
  const auto geometry =
      check_backward<SymInt>(grad_output, input, weight, indices, {stride, padding, dilation, std::move(groups)});
  const at::MemoryFormat format = gradient_format(input, weight);
  return {output_mask[0] ? empty_gradient(input, format, input.scalar_type()) : at::Tensor(),
          output_mask[1] ? empty_gradient(weight, format, weight.scalar_type()) : at::Tensor(),
          output_mask[2] ? weight.new_empty_symint({geometry.k}) : at::Tensor()};
}

}  // namespace
}  // namespace convmin

TORCH_LIBRARY_IMPL(convmin, Meta, m) {
  m.impl("conv2d_scale_min", &convmin::values_meta);
  m.impl("conv2d_scale_min_with_indices", &convmin::with_indices_meta);
  m.impl("conv2d_scale_min_backward", &convmin::backward_meta);
}
