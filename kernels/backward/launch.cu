// BackwardProblem -> the kernels' parameters; BackwardPlan -> instantiation.
#include "backward/launch.h"
#include "common/params.h"

namespace convmin {
namespace {

using backward::Params;

Params make_params(const BackwardProblem& backward, const BackwardPlan& plan, const BackwardArguments& arguments) {
  const Problem& problem = backward.forward;
  Params params{};
  params.grad_output = arguments.grad_output;
  params.indices = arguments.indices;
  params.input = arguments.input;
  params.weight = arguments.weight;
  params.grad_input = arguments.grad_input;
  params.grad_weight = backward.wants_weight ? arguments.grad_weight : nullptr;
  params.grad_bias = backward.wants_bias ? arguments.grad_bias : nullptr;
  params.scale = problem.scale;
  params.index_type = backward.index_type;

  params.grad_output_stride_n = backward.grad_output_strides[0];
  params.grad_output_stride_h = backward.grad_output_strides[1];
  params.grad_output_stride_w = backward.grad_output_strides[2];
  params.indices_stride_n = backward.indices_strides[0];
  params.indices_stride_h = backward.indices_strides[1];
  params.indices_stride_w = backward.indices_strides[2];
  set_input_strides(problem, 1, &params);
  set_weight_strides(problem, &params);
  params.grad_weight_stride_k = backward.grad_weight_strides[0];
  params.grad_weight_stride_c = backward.grad_weight_strides[1];
  params.grad_weight_stride_r = backward.grad_weight_strides[2];
  params.grad_weight_stride_s = backward.grad_weight_strides[3];
  params.n = static_cast<int>(problem.n);
  params.c = static_cast<int>(problem.c);
  set_images(problem, &params);
  params.k = static_cast<int>(problem.k);
  params.r = static_cast<int>(problem.r);
  params.s = static_cast<int>(problem.s);
  set_steps(problem, &params);
  set_groups(problem, &params);
  params.channels_last = backward.grad_input_channels_last;
  params.by_stride_h = FastDivisor(problem.stride_h);
  params.by_stride_w = FastDivisor(problem.stride_w);

  auto* base = static_cast<char*>(arguments.workspace);
  params.packed_weight = base + plan.packed_weight;
  params.channel_chunks = plan.channel_chunks;
  params.chunk_groups = plan.chunk_groups;
  params.input_pixels = problem.n * problem.h * problem.w;
  params.sorted_keys = reinterpret_cast<std::uint32_t*>(base + plan.sorted_keys);
  params.sorted_values = base + plan.sorted_values;
  params.partial_sums = base + plan.partial_sums;
  params.tiles = plan.tiles;
  params.output_pixels = problem.n * problem.oh * problem.ow;
  params.tiles_h = static_cast<int>((problem.oh + backward::kTileH - 1) / backward::kTileH);
  params.tiles_w = static_cast<int>((problem.ow + backward::kTileW - 1) / backward::kTileW);
  params.columns = backward.wants_weight ? params.group_channels * params.r * params.s : 0;
  params.column_chunks = plan.column_chunks;
  params.channel_range = plan.channel_range;
  params.ranges = plan.ranges;
  params.splits = plan.splits;
  params.channel_fastest = problem.input_strides[1] == 1 && problem.input_strides[3] != 1;
  return params;
}

}  // namespace

Status launch_backward(const BackwardProblem& problem, const BackwardPlan& plan, const BackwardArguments& arguments,
                       CUstream_st* stream) {
  if (!plan.accepted) return {cudaErrorInvalidValue};
  const Params params = make_params(problem, plan, arguments);
  switch (problem.forward.dtype) {
    case DType::kFloat32: return {backward::launch_float32(params, plan, stream)};
    case DType::kFloat64: return {backward::launch_float64(params, plan, stream)};
    case DType::kFloat16: return {backward::launch_float16(params, plan, stream)};
    case DType::kBFloat16: return {backward::launch_bfloat16(params, plan, stream)};
  }
  return {cudaErrorInvalidValue};
}

}  // namespace convmin
