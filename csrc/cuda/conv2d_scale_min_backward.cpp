// CUDA: gradients from the saved index, on the current stream of the input's device.
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>

#include "backward.h"
#include "conv_scale_min.h"
#include "cuda/problem.h"

namespace convmin {
namespace {

IndexType index_type_of(at::ScalarType type) {
  return type == at::kByte ? IndexType::kUInt8 : type == at::kShort ? IndexType::kInt16 : IndexType::kInt32;
}

// [n, 1, oh, ow] or [1, oh, ow] -> n, oh, ow.
void copy_strides(const at::Tensor& tensor, bool batched, std::int64_t* strides) {
  strides[0] = batched ? tensor.stride(0) : 0;
  strides[1] = tensor.stride(-2);
  strides[2] = tensor.stride(-1);
}

void check(Status status) { TORCH_CHECK(status.ok(), kBackwardOp, ": CUDA error: ", error_string(status)); }

Gradients backward(const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
                   const at::Tensor& indices, double scale, at::IntArrayRef stride, at::IntArrayRef padding,
                   at::IntArrayRef dilation, std::int64_t groups, std::array<bool, 3> output_mask) {
  const auto geometry =
      check_backward<std::int64_t>(grad_output, input, weight, indices, {stride, padding, dilation, groups});
  const c10::cuda::CUDAGuard device_guard(input.device());
  Device device{};
  check(query_device(input.device().index(), &device));

  Gradients gradients;
  auto& [grad_input, grad_weight, grad_bias] = gradients;
  const at::MemoryFormat format = gradient_format(input, weight);
  if (output_mask[0]) grad_input = empty_gradient(input, format, input.scalar_type());
  if (output_mask[1]) grad_weight = empty_gradient(weight, format, weight.scalar_type());
  if (output_mask[2]) grad_bias = at::empty({geometry.k}, weight.options());

  BackwardProblem backward{};
  Problem& problem = backward.forward;
  problem.dtype = dtype_of(input.scalar_type());
  problem.n = geometry.n, problem.c = geometry.c, problem.h = geometry.h, problem.w = geometry.w;
  problem.k = geometry.k, problem.r = geometry.r, problem.s = geometry.s;
  problem.oh = geometry.oh, problem.ow = geometry.ow;
  problem.stride_h = stride[0], problem.stride_w = stride[1];
  problem.padding_h = padding[0], problem.padding_w = padding[1];
  problem.dilation_h = dilation[0], problem.dilation_w = dilation[1];
  problem.groups = groups;
  problem.scale = scale;
  problem.input_alignment = alignment_of(input);
  std::copy(input.strides().begin(), input.strides().end(), problem.input_strides + (geometry.batched ? 0 : 1));
  std::copy_n(weight.strides().begin(), 4, problem.weight_strides);
  backward.index_type = index_type_of(indices.scalar_type());
  copy_strides(grad_output, geometry.batched, backward.grad_output_strides);
  copy_strides(indices, geometry.batched, backward.indices_strides);
  if (output_mask[1]) std::copy_n(grad_weight.strides().begin(), 4, backward.grad_weight_strides);
  backward.grad_input_channels_last = output_mask[0] && format == at::MemoryFormat::ChannelsLast;
  backward.wants_input = output_mask[0];
  backward.wants_weight = output_mask[1];
  backward.wants_bias = output_mask[2];

  const BackwardPlan plan = plan_backward(backward, device);
  TORCH_CHECK_NOT_IMPLEMENTED(plan.accepted, kBackwardOp, ": no kernel can take this problem: ", plan.reason);
  at::Tensor workspace;
  if (plan.workspace_bytes > 0) workspace = at::empty({plan.workspace_bytes}, input.options().dtype(at::kByte));

  BackwardArguments arguments{};
  arguments.grad_output = grad_output.const_data_ptr();
  arguments.input = input.const_data_ptr();
  arguments.weight = weight.const_data_ptr();
  arguments.indices = indices.const_data_ptr();
  arguments.grad_input = output_mask[0] ? grad_input.mutable_data_ptr() : nullptr;
  arguments.grad_weight = output_mask[1] ? grad_weight.mutable_data_ptr() : nullptr;
  arguments.grad_bias = output_mask[2] ? grad_bias.mutable_data_ptr() : nullptr;
  arguments.workspace = workspace.defined() ? workspace.mutable_data_ptr() : nullptr;
  check(launch_backward(backward, plan, arguments, c10::cuda::getCurrentCUDAStream()));
  return gradients;
}

}  // namespace
}  // namespace convmin

TORCH_LIBRARY_IMPL(convmin, CUDA, m) { m.impl("conv2d_scale_min_backward", &convmin::backward); }
