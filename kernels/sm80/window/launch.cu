// Problem -> the kernel's parameters; Plan -> instantiation.
#include "common/params.h"
#include "sm80/plan.h"
#include "sm80/window/launch.h"
#include "sm80/window/plan.h"

namespace convmin::sm80::window {
namespace {

Params make_params(const Problem& whole, const Plan& plan, const Arguments& arguments) {
  const Problem problem = join_rows(whole);
  Params params{};
  params.input = arguments.input;
  params.weight = arguments.weight;
  set_results(problem, arguments, &params);
  set_input_strides(problem, 1, &params);
  set_weight_strides(problem, &params);
  set_images(problem, &params);
  set_steps(problem, &params);

  const Shape shape = shape_of(problem, plan.tile_n, plan.tile_columns);
  params.outputs = static_cast<int>(problem.k);
  params.passes = static_cast<int>(shape.passes);
  params.reduction = static_cast<int>(problem.c * problem.r * problem.s);
  params.steps = static_cast<int>(shape.steps);
  params.channels_inside = channels_inside(problem);
  const std::int64_t stride_s = params.channels_inside ? problem.c : 1;
  params.weight_in_order =
      (problem.c == 1 || problem.weight_strides[1] == (params.channels_inside ? 1 : problem.r * problem.s)) &&
      (problem.r == 1 || problem.weight_strides[2] == problem.s * stride_s) &&
      (problem.s == 1 || problem.weight_strides[3] == stride_s);
  params.by_steps = FastDivisor(shape.steps);
  params.by_window_inner = FastDivisor(params.channels_inside ? problem.c : problem.s);
  params.by_window_middle = FastDivisor(params.channels_inside ? problem.s : problem.r);

  params.tile_rows = static_cast<int>(shape.tile_rows);
  params.tile_columns = static_cast<int>(shape.tile_columns);
  while ((1 << params.log_columns) < params.tile_columns) ++params.log_columns;
  params.tiles = static_cast<int>(shape.tiles);
  params.by_tiles_w = FastDivisor(shape.tiles_w);
  params.by_tiles_h = FastDivisor(shape.tiles_h);

  params.patch_elements = static_cast<int>(shape.patch_elements);
  const auto size = static_cast<int>(element_size(problem.dtype));
  const auto rows = static_cast<int>(shape.patch_rows), columns = static_cast<int>(shape.patch_columns);
  const auto channels = static_cast<int>(problem.c);
  params.patch_stride_c = params.channels_inside ? size : size * rows * columns;
  params.patch_stride_h = params.channels_inside ? size * columns * channels : size * columns;
  params.patch_stride_w = params.channels_inside ? size * channels : size;
  params.by_inner = FastDivisor(params.channels_inside ? channels : columns);
  params.by_middle = FastDivisor(params.channels_inside ? columns : rows);

  params.offsets = static_cast<int>(shape.offsets);
  params.addends = static_cast<int>(shape.addends);
  params.places = static_cast<int>(shape.places);
  params.patch = static_cast<int>(shape.patch);
  return params;
}

}  // namespace

int launch(const Problem& problem, const Plan& plan, const Arguments& arguments, cudaStream_t stream) {
  const Params params = make_params(problem, plan, arguments);
  switch (problem.dtype) {
    case DType::kFloat32: return launch_float32(params, plan, stream);
    case DType::kFloat16: return launch_float16(params, plan, stream);
    case DType::kBFloat16: return launch_bfloat16(params, plan, stream);
    case DType::kFloat64: break;  // the plan accepts none
  }
  return cudaErrorInvalidValue;
}

}  // namespace convmin::sm80::window
