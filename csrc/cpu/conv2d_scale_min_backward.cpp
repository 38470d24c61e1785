// CPU: gradients from the saved index. float16 and bfloat16 are computed in float32 and rounded once.
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>

#include "backward.h"
#include "cpu/gradients.h"

namespace convmin {
namespace {

void check_range(const at::Tensor& indices, std::int64_t channels) {
  if (indices.numel() == 0) return;
  const auto [low, high] = at::aminmax(indices);
  const auto smallest = low.item<std::int64_t>(), largest = high.item<std::int64_t>();
  TORCH_CHECK_INDEX(smallest >= 0 && largest < channels, kBackwardOp, ": expected indices below ", channels,
                    ", the weight's output channels, got ", smallest < 0 ? smallest : largest);
}

template <typename T>
at::Tensor grad_input_of(const GradientProblem& problem, const at::Tensor& gradient, const at::Tensor& indices,
                         const at::Tensor& weight, const at::Tensor& input, at::MemoryFormat format) {
  const at::Tensor result = empty_gradient(input, format, gradient.scalar_type());
  const at::Tensor packed = weight.permute({0, 2, 3, 1}).contiguous();
  const bool channels_last = format == at::MemoryFormat::ChannelsLast;
  constexpr std::int64_t kGrain = 65536;  // multiply-adds that are worth a thread
  const std::int64_t per_row = problem.w * problem.channels() * problem.taps();
  at::parallel_for(
      0, problem.n * problem.h, std::max<std::int64_t>(1, kGrain / per_row), [&](std::int64_t begin, std::int64_t end) {
        grad_input_rows(problem, gradient.const_data_ptr<T>(), indices.const_data_ptr<std::int32_t>(),
                        packed.const_data_ptr<T>(), channels_last, begin, end, result.mutable_data_ptr<T>());
      });
  return result;
}

// [slices, ...] -> the sum over slices, in order.
at::Tensor sum_slices(const at::Tensor& sums) {
  at::Tensor total = sums[0];
  for (std::int64_t slice = 1; slice < sums.size(0); ++slice) total = total.add(sums[slice]);
  return total;
}

// (grad_weight, grad_bias) in the type that sums are kept in.
template <typename T>
std::tuple<at::Tensor, at::Tensor> grad_weight_of(const GradientProblem& problem, const at::Tensor& gradient,
                                                  const at::Tensor& indices, const at::Tensor& input,
                                                  at::IntArrayRef strides, bool wants_weight, bool wants_bias) {
  GradientTasks tasks = plan_grad_weight(problem);
  if (!wants_weight) tasks.blocks = 1;
  at::Tensor sums, bias_sums;
  if (wants_weight) {
    sums = at::empty({tasks.slices, problem.k, problem.r, problem.s, problem.channels()}, gradient.options());
  }
  if (wants_bias) bias_sums = at::empty({tasks.slices, problem.k}, gradient.options().dtype(at::kDouble));
  std::int64_t input_strides[4] = {};
  std::copy_n(strides.begin(), 4, input_strides);
  at::parallel_for(0, tasks.slices * tasks.blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t slice = task / tasks.blocks, block = task % tasks.blocks;
      grad_weight_task(problem, tasks, slice, block, gradient.const_data_ptr<T>(),
                       indices.const_data_ptr<std::int32_t>(), input.const_data_ptr<T>(), input_strides,
                       wants_weight ? sums.mutable_data_ptr<T>() + slice * (sums.numel() / tasks.slices) : nullptr,
                       wants_bias ? bias_sums.mutable_data_ptr<double>() + slice * problem.k : nullptr);
    }
  });
  at::Tensor grad_weight, grad_bias;
  if (wants_weight) grad_weight = sum_slices(sums).permute({0, 3, 1, 2});
  if (wants_bias) grad_bias = sum_slices(bias_sums);
  return {grad_weight, grad_bias};
}

template <typename T>
Gradients compute(const GradientProblem& problem, const at::Tensor& gradient, const at::Tensor& indices,
                  const at::Tensor& input, const at::Tensor& weight, std::array<bool, 3> output_mask) {
  const at::ScalarType type = gradient.scalar_type();
  Gradients gradients;
  auto& [grad_input, grad_weight, grad_bias] = gradients;
  const at::MemoryFormat format = gradient_format(input, weight);
  if (output_mask[0]) {
    grad_input = grad_input_of<T>(problem, gradient, indices, weight.to(type), input, format).to(input.scalar_type());
  }
  if (output_mask[1] || output_mask[2]) {
    const at::Tensor x = (input.dim() == 4 ? input : input.unsqueeze(0)).to(type);
    const auto [weight_sums, bias_sums] =
        grad_weight_of<T>(problem, gradient, indices, x, x.strides(), output_mask[1], output_mask[2]);
    if (output_mask[1]) grad_weight = empty_gradient(weight, format, weight.scalar_type()).copy_(weight_sums);
    if (output_mask[2]) grad_bias = bias_sums.to(weight.scalar_type());
  }
  return gradients;
}

Gradients backward(const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
                   const at::Tensor& indices_, double scale, at::IntArrayRef stride, at::IntArrayRef padding,
                   at::IntArrayRef dilation, std::int64_t groups, std::array<bool, 3> output_mask) {
  const auto geometry =
      check_backward<std::int64_t>(grad_output, input, weight, indices_, {stride, padding, dilation, groups});
  check_range(indices_, geometry.k);
  const GradientProblem problem{geometry.n,
                                geometry.c,
                                geometry.h,
                                geometry.w,
                                geometry.k,
                                geometry.r,
                                geometry.s,
                                geometry.oh,
                                geometry.ow,
                                {stride[0], stride[1]},
                                {padding[0], padding[1]},
                                {dilation[0], dilation[1]},
                                groups};
  const bool is_double = input.scalar_type() == at::kDouble;
  const at::Tensor indices = indices_.to(at::kInt).contiguous();
  const at::Tensor gradient = grad_output.to(is_double ? at::kDouble : at::kFloat).mul(scale).contiguous();
  return is_double ? compute<double>(problem, gradient, indices, input, weight, output_mask)
                   : compute<float>(problem, gradient, indices, input, weight, output_mask);
}

}  // namespace
}  // namespace convmin

TORCH_LIBRARY_IMPL(convmin, CPU, m) { m.impl("conv2d_scale_min_backward", &convmin::backward); }
