// Problem -> the kernel's parameters; Plan -> instantiation.
#include "common/params.h"
#include "sm90/launch.h"
#include "sm90/plan.h"

namespace convmin::sm90 {
namespace {

Params make_params(const Problem& problem, const Plan& plan, const Arguments& arguments) {
  Params params{};
  params.input = arguments.input;
  set_results(problem, arguments, &params);

  set_input_strides(problem, 1, &params);
  params.c = static_cast<int>(problem.c);
  set_images(problem, &params);
  params.k = static_cast<int>(problem.k);
  params.r = static_cast<int>(problem.r);
  params.s = static_cast<int>(problem.s);

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
  params.factor_range = reinterpret_cast<unsigned*>(base + parts.factor_range);
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
