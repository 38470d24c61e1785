// Problem -> the kernel's parameters; Plan -> instantiation.
#include "sm90/launch.h"
#include "sm90/plan.h"

namespace convmin::sm90 {
namespace {

Params make_params(const Problem& problem, const Plan& plan, const Arguments& arguments) {
  Params params{};
  params.input = arguments.input;
  params.bias = problem.has_bias ? arguments.bias : nullptr;
  params.values = arguments.values;
  params.indices = problem.with_indices ? arguments.indices : nullptr;
  params.scale = static_cast<float>(problem.scale);
  params.index_type = index_type(problem.k);

  params.input_stride_n = problem.input_strides[0];
  params.input_stride_c = problem.input_strides[1];
  params.input_stride_h = problem.input_strides[2];
  params.input_stride_w = problem.input_strides[3];
  params.c = static_cast<int>(problem.c);
  params.h = static_cast<int>(problem.h);
  params.w = static_cast<int>(problem.w);
  params.k = static_cast<int>(problem.k);
  params.r = static_cast<int>(problem.r);
  params.s = static_cast<int>(problem.s);
  params.oh = static_cast<int>(problem.oh);
  params.ow = static_cast<int>(problem.ow);
  params.padding_h = static_cast<int>(problem.padding_h);
  params.padding_w = static_cast<int>(problem.padding_w);
  params.dilation_h = static_cast<int>(problem.dilation_h);
  params.dilation_w = static_cast<int>(problem.dilation_w);

  const Shape shape = shape_of(problem, plan.tile_n);
  params.strips = static_cast<int>(shape.strips);
  params.units = static_cast<int>(problem.n * params.strips * params.oh);
  params.chunks = static_cast<int>(shape.chunks);
  params.blocks_n = static_cast<int>(shape.blocks_n);
  params.ring = plan.stages;
  params.row_pixels = static_cast<int>(shape.row_pixels);
  params.window = static_cast<int>(shape.window);
  params.quads = quads_fit(problem);

  const Workspace parts = workspace(problem, plan);
  auto* base = static_cast<char*>(arguments.workspace);
  params.weight = make_weight(problem, arguments.weight);
  params.packed_weight = base;
  params.channel_factor = reinterpret_cast<float*>(base + parts.factors);
  params.channel_peak = reinterpret_cast<unsigned*>(base + parts.peaks);
  params.fallback = fallback(problem, plan, arguments);
  return params;
}

int launch_kernel(const Problem& problem, const Params& params, const Plan& plan, cudaStream_t stream) {
  const bool pixels = plan.gather == Gather::kPixels;
  switch (problem.dtype) {
    case DType::kFloat32: return (pixels ? launch_float32_pixels : launch_float32_channels)(params, plan, stream);
    case DType::kFloat16: return (pixels ? launch_float16_pixels : launch_float16_channels)(params, plan, stream);
    case DType::kBFloat16: return (pixels ? launch_bfloat16_pixels : launch_bfloat16_channels)(params, plan, stream);
    case DType::kFloat64: break;  // the plan accepts none
  }
  return cudaErrorInvalidValue;
}

}  // namespace

int launch(const Problem& problem, const Plan& plan, const Arguments& arguments, cudaStream_t stream) {
  const Params params = make_params(problem, plan, arguments);
  if (plan.fallback_blocks == 0) return launch_kernel(problem, params, plan, stream);
  const Workspace parts = workspace(problem, plan);
  const cudaError_t error =
      cudaMemsetAsync(params.fallback.everything, 0, static_cast<std::size_t>(parts.tiles - parts.counters), stream);
  return error != cudaSuccess ? error : launch_kernel(problem, params, plan, stream);
}

Fallback fallback(const Problem& problem, const Plan& plan, const Arguments& arguments) {
  const Workspace parts = workspace(problem, plan);
  auto* base = static_cast<char*>(arguments.workspace);
  auto* counters = reinterpret_cast<int*>(base + parts.counters);
  return {counters, counters + 1, reinterpret_cast<std::int64_t*>(base + parts.tiles)};
}

}  // namespace convmin::sm90
