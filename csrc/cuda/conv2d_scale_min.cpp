// CUDA: tensors -> Problem -> plan() -> launch() on the current stream of the input's device.
#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>

#include "checks.h"
#include "cuda/problem.h"
#include "force_kernel.h"
#include "forward.h"

namespace convmin {
namespace {

Problem make_problem(const Geometry<std::int64_t>& geometry, const at::Tensor& input, const at::Tensor& weight,
                     bool has_bias, bool with_indices, double scale, const Convolution<std::int64_t>& convolution) {
  Problem problem{};
  problem.dtype = dtype_of(input.scalar_type());
  problem.precision = at::globalContext().allowTF32CuDNN(at::Float32Op::CONV) ? Precision::kTf32 : Precision::kIeee;
  problem.has_bias = has_bias;
  problem.with_indices = with_indices;
  problem.n = geometry.n, problem.c = geometry.c, problem.h = geometry.h, problem.w = geometry.w;
  problem.k = geometry.k, problem.r = geometry.r, problem.s = geometry.s;
  problem.oh = geometry.oh, problem.ow = geometry.ow;
  problem.stride_h = convolution.stride[0], problem.stride_w = convolution.stride[1];
  problem.padding_h = convolution.padding[0], problem.padding_w = convolution.padding[1];
  problem.dilation_h = convolution.dilation[0], problem.dilation_w = convolution.dilation[1];
  problem.groups = convolution.groups;
  const at::Tensor batched = geometry.batched ? input : input.unsqueeze(0);
  std::copy_n(batched.strides().begin(), 4, problem.input_strides);
  std::copy_n(weight.strides().begin(), 4, problem.weight_strides);
  problem.input_alignment = alignment_of(input);
  problem.weight_alignment = alignment_of(weight);
  problem.scale = scale;
  return problem;
}

void check(Status status) { TORCH_CHECK(status.ok(), kOp, ": CUDA error: ", error_string(status)); }

std::tuple<at::Tensor, at::Tensor> forward(const at::Tensor& input, const at::Tensor& weight,
                                           const std::optional<at::Tensor>& bias_, double scale,
                                           const Convolution<std::int64_t>& convolution, bool with_indices) {
  const auto geometry = check_arguments<std::int64_t>(kOp, input, weight, bias_, convolution);
  const c10::cuda::CUDAGuard device_guard(input.device());
  Device device{};
  check(query_device(input.device().index(), &device));

  const Problem problem = make_problem(geometry, input, weight, bias_.has_value(), with_indices, scale, convolution);
  const std::optional<KernelId> forced = forced_kernel();
  const Plan chosen = plan(problem, device, forced.has_value() ? &*forced : nullptr);
  if (!chosen.accepted && forced.has_value()) {
    TORCH_CHECK(false, kOp, ": the forced kernel '", kernel_name(*forced),
                "' can't take this problem: ", chosen.reason);
  }
  TORCH_CHECK(chosen.accepted, kOp, ": no kernel can take this problem: ", chosen.reason);

  const at::Tensor bias = bias_.has_value() ? bias_->contiguous() : at::Tensor();
  at::Tensor values = at::empty(geometry.output_sizes(), input.options());
  at::Tensor indices;
  if (with_indices) {
    indices = at::empty(geometry.output_sizes(), input.options().dtype(index_scalar_type(geometry.k)));
  }
  at::Tensor workspace;
  if (chosen.workspace_bytes > 0) workspace = at::empty({chosen.workspace_bytes}, input.options().dtype(at::kByte));

  Arguments arguments{};
  arguments.input = input.const_data_ptr();
  arguments.weight = weight.const_data_ptr();
  arguments.bias = bias.defined() ? bias.const_data_ptr() : nullptr;
  arguments.values = values.mutable_data_ptr();
  arguments.indices = with_indices ? indices.mutable_data_ptr() : nullptr;
  arguments.workspace = workspace.defined() ? workspace.mutable_data_ptr() : nullptr;
  check(launch(problem, chosen, arguments, c10::cuda::getCurrentCUDAStream()));
  return {values, indices};
}

}  // namespace
}  // namespace convmin

TORCH_LIBRARY_IMPL(convmin, CUDA, m) { convmin::Forward<&convmin::forward>::register_in(m); }
