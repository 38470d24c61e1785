// Problem -> the kernel's parameters; Plan -> instantiation.
#include "simt/launch.h"
#include "simt/plan.h"

namespace convmin::simt {
namespace {

Params make_params(const Problem& problem, const Plan& plan, const Arguments& arguments) {
  Params params{};
  params.input = arguments.input;
  params.weight = arguments.weight;
  params.bias = problem.has_bias ? arguments.bias : nullptr;
  params.values = arguments.values;
  params.indices = problem.with_indices ? arguments.indices : nullptr;
  params.scale = problem.scale;
  params.index_type = index_type(problem.k);

  params.pixels = problem.n * problem.oh * problem.ow;
  params.input_stride_n = problem.input_strides[0];
  params.input_stride_c = problem.input_strides[1];
  params.input_stride_h = problem.input_strides[2];
  params.input_stride_w = problem.input_strides[3];
  params.weight_stride_k = problem.weight_strides[0];
  params.weight_stride_c = problem.weight_strides[1];
  params.weight_stride_r = problem.weight_strides[2];
  params.weight_stride_s = problem.weight_strides[3];
  params.h = static_cast<int>(problem.h);
  params.w = static_cast<int>(problem.w);
  params.oh = static_cast<int>(problem.oh);
  params.ow = static_cast<int>(problem.ow);
  params.stride_h = static_cast<int>(problem.stride_h);
  params.stride_w = static_cast<int>(problem.stride_w);
  params.padding_h = static_cast<int>(problem.padding_h);
  params.padding_w = static_cast<int>(problem.padding_w);
  params.dilation_h = static_cast<int>(problem.dilation_h);
  params.dilation_w = static_cast<int>(problem.dilation_w);
  params.groups = static_cast<int>(problem.groups);
  params.group_channels = static_cast<int>(problem.c / problem.groups);
  params.group_outputs = static_cast<int>(problem.k / problem.groups);
  params.reduction = static_cast<int>(problem.c / problem.groups * problem.r * problem.s);

  // Lanes that walk channels need them next to each other; lanes that walk pixels meet a channel's taps in a row, while
  // its lines are in L1.
  params.channel_fastest = plan.gather == Gather::kChannels;
  params.by_s = FastDivisor(problem.s);
  params.by_taps = FastDivisor(problem.r * problem.s);
  params.by_group_channels = FastDivisor(params.group_channels);

  const Workspace parts = workspace(problem, plan);
  auto* base = static_cast<char*>(arguments.workspace);
  params.splits = plan.splits;
  params.group_blocks = (params.group_outputs + plan.tile_n - 1) / plan.tile_n;
  params.packed_weight = base;
  params.packed_reduction = static_cast<int>(parts.packed_reduction);
  params.packed_outputs = static_cast<int>(parts.packed_outputs);
  params.split_values = base + parts.split_values;
  params.split_channels = reinterpret_cast<int*>(base + parts.split_channels);
  return params;
}

}  // namespace

int launch(const Problem& problem, const Plan& plan, const Arguments& arguments, cudaStream_t stream) {
  if (plan.blocks == 0) return cudaSuccess;  // N = 0
  const Params params = make_params(problem, plan, arguments);
  const bool pixels = plan.gather == Gather::kPixels;
  switch (problem.dtype) {
    case DType::kFloat32: return (pixels ? launch_float32_pixels : launch_float32_channels)(params, plan, stream);
    case DType::kFloat64: return (pixels ? launch_float64_pixels : launch_float64_channels)(params, plan, stream);
    case DType::kFloat16: return (pixels ? launch_float16_pixels : launch_float16_channels)(params, plan, stream);
    case DType::kBFloat16: return (pixels ? launch_bfloat16_pixels : launch_bfloat16_channels)(params, plan, stream);
  }
  return cudaErrorInvalidValue;
}

int launch_tiles(const Problem& problem, const Plan& plan, const Arguments& arguments, const Fallback& tiles,
                 cudaStream_t stream) {
  return launch_float32_tiles(make_params(problem, plan, arguments), plan, tiles, stream);
}

}  // namespace convmin::simt
