// Problem -> the kernel's parameters; Plan -> instantiation.
#include "common/params.h"
#include "direct/launch.h"
#include "direct/tiles.h"

namespace convmin::direct {
namespace {

Params make_params(const Problem& problem, const Plan& plan, const Arguments& arguments) {
  Params params{};
  params.input = arguments.input;
  params.weight = arguments.weight;
  set_results(problem, arguments, &params);

  set_input_strides(problem, element_size(problem.dtype), &params);
  set_weight_strides(problem, &params);
  set_images(problem, &params);
  params.r = static_cast<int>(problem.r);
  params.s = static_cast<int>(problem.s);
  set_steps(problem, &params);
  params.outputs = static_cast<int>(problem.k);
  params.group_channels = static_cast<int>(problem.c / problem.groups);
  params.group_outputs = static_cast<int>(problem.k / problem.groups);
  params.by_group_outputs = FastDivisor(params.group_outputs);

  const int run_rows = (params.oh + plan.tile_rows - 1) / plan.tile_rows;
  params.runs = static_cast<int>(problem.n * run_rows * problem.ow);
  params.tile_runs = plan.tile_columns;
  params.tiles = static_cast<int>((std::int64_t{params.runs} + params.tile_runs - 1) / params.tile_runs);
  params.slots = kThreads / plan.tile_columns;
  params.items = static_cast<int>((problem.groups > 1 ? problem.k : problem.c) / plan.tile_k);
  params.prefetched = plan.prefetched;
  params.slots_inside = plan.gather == Gather::kChannels;
  params.by_ow = FastDivisor(problem.ow);
  params.by_run_rows = FastDivisor(run_rows);

  const WeightRows weight = weight_rows(problem);
  params.weight_count = static_cast<int>(weight.rows * weight.channels);
  params.weight_pitch = static_cast<int>(weight.pitch);
  params.weight_channels_inside = problem.weight_strides[1] < problem.weight_strides[3];
  const std::int64_t taps = problem.r * problem.s;
  params.by_weight_inner = FastDivisor(params.weight_channels_inside ? params.group_channels : taps);
  params.by_weight_middle = FastDivisor(params.weight_channels_inside ? taps : params.group_channels);
  params.by_s = FastDivisor(problem.s);
  return params;
}

}  // namespace

int launch(const Problem& problem, const Plan& plan, const Arguments& arguments, cudaStream_t stream) {
  const Params params = make_params(problem, plan, arguments);
  const Variant variant = variant_of(problem, plan);
  switch (problem.dtype) {
    case DType::kFloat32: return launch_float32(params, plan, variant, stream);
    case DType::kFloat16: return launch_float16(params, plan, variant, stream);
    case DType::kBFloat16: return launch_bfloat16(params, plan, variant, stream);
    case DType::kFloat64: break;  // the plan accepts none
  }
  return cudaErrorInvalidValue;
}

}  // namespace convmin::direct
