// Problem -> the kernel's parameters; Plan -> instantiation.
#include "common/params.h"
#include "simt/launch.h"
#include "simt/plan.h"

namespace convmin::simt {
namespace {

Params make_params(const Problem& problem, const Plan& plan, const Arguments& arguments) {
  Params params{};
  params.input = arguments.input;
  params.weight = arguments.weight;
  set_results(problem, arguments, &params);

  params.pixels = problem.n * problem.oh * problem.ow;
  set_input_strides(problem, 1, &params);
  set_weight_strides(problem, &params);
  set_images(problem, &params);
  set_steps(problem, &params);
  set_groups(problem, &params);
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
