// Problem -> the kernel's parameters; Plan -> instantiation.
#include "common/params.h"
#include "common/planning.h"
#include "depthwise/launch.h"
#include "depthwise/tiles.h"

namespace convmin::depthwise {
namespace {

Params make_params(const Problem& problem, const Plan& plan, const Arguments& arguments) {
  Params params{};
  params.input = arguments.input;
  params.weight = arguments.weight;
  set_results(problem, arguments, &params);

  set_input_strides(problem, element_size(problem.dtype), &params);
  set_weight_strides(problem, &params);
  set_images(problem, &params);
  params.channels = static_cast<int>(problem.c);
  params.weight_vectors = weight_vectors_fit(problem);

  params.patch_rows = plan.tile_rows / kPatch;
  params.patch_columns = plan.tile_columns / kPatch;
  params.slots = plan.tile_n / kLanes;
  params.stages = static_cast<int>(ceil_divide(problem.c, plan.tile_n));
  params.splits = plan.splits;
  params.by_slots = FastDivisor(params.slots);
  params.by_patch_columns = FastDivisor(params.patch_columns);
  params.by_splits = FastDivisor(params.splits);
  params.by_tiles_w = FastDivisor(ceil_divide(problem.ow, plan.tile_columns));
  params.by_tiles_h = FastDivisor(ceil_divide(problem.oh, plan.tile_rows));

  const Unit unit = unit_of(problem);
  const Stage stage = stage_of(problem, plan);
  params.row_columns = stage.row_columns, params.units = stage.units;
  params.shift = unit == Unit::kPair ? params.padding_w % 2 : 0;
  params.by_row_units = FastDivisor(stage.units / stage.rows);
  params.copied_channels = stage.copied_channels;
  params.copiers = plan.threads / (plan.tile_n / stage.copied_channels);
  params.by_copiers = FastDivisor(params.copiers);
  params.input_pitch = stage.input_pitch;
  params.first_stage = stage.first, params.input_bytes = stage.input_bytes, params.stage_bytes = stage.bytes;
  return params;
}

}  // namespace

int launch(const Problem& problem, const Plan& plan, const Arguments& arguments, cudaStream_t stream) {
  const Params params = make_params(problem, plan, arguments);
  const Variant variant{static_cast<int>(problem.r), static_cast<int>(problem.stride_h), unit_of(problem)};
  switch (problem.dtype) {
    case DType::kFloat32: return launch_float32(params, plan, variant, stream);
    case DType::kFloat16: return launch_float16(params, plan, variant, stream);
    case DType::kBFloat16: return launch_bfloat16(params, plan, variant, stream);
    case DType::kFloat64: break;  // the plan accepts none
  }
  return cudaErrorInvalidValue;
}

}  // namespace convmin::depthwise
