// The schemas, once. Kernels register themselves by dispatch key in the files beside this one. The forward takes any
// strides as they are (flexible_layout), so Inductor need not bring them back to those of the traced model by a copy.
#include <ATen/Context.h>
#include <torch/library.h>

#include "force_kernel.h"

TORCH_LIBRARY(convmin, m) {
  m.def(
      "conv2d_scale_min(Tensor input, Tensor weight, Tensor? bias, float scale, SymInt[2] stride, SymInt[2] padding, "
      "SymInt[2] dilation, SymInt groups) -> Tensor",
      {at::Tag::pt2_compliant_tag, at::Tag::flexible_layout});
  m.def(
      "conv2d_scale_min_with_indices(Tensor input, Tensor weight, Tensor? bias, float scale, SymInt[2] stride, "
      "SymInt[2] padding, SymInt[2] dilation, SymInt groups) -> (Tensor values, Tensor indices)",
      {at::Tag::pt2_compliant_tag, at::Tag::flexible_layout});
  m.def(
      "conv2d_scale_min_backward(Tensor grad_output, Tensor input, Tensor weight, Tensor indices, float scale, "
      "SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, SymInt groups, bool[3] output_mask) "
      "-> (Tensor, Tensor, Tensor)",
      {at::Tag::pt2_compliant_tag});
  // Sets the process-wide choice of CUDA kernel ("" for none) and returns the previous one.
  m.def("_force_kernel(str kernel) -> str", &convmin::set_forced_kernel);
  m.def("_forced_kernel() -> str", &convmin::forced_kernel_name);
  // float32's class, chosen as for PyTorch's own convolution.
  m.def("_allows_tf32() -> bool", [] { return at::globalContext().allowTF32CuDNN(at::Float32Op::CONV); });
}
