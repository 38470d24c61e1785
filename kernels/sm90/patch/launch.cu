// Problem -> the kernel's parameters; Plan -> instantiation.
#include "common/planning.h"
#include "sm90/patch/launch.h"
#include "sm90/patch/tiles.h"

namespace convmin::sm90::patch {
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
  params.n = static_cast<int>(problem.n);
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
  params.r = static_cast<int>(problem.r);
  params.s = static_cast<int>(problem.s);
  params.groups = static_cast<int>(problem.groups);
  params.group_channels = static_cast<int>(problem.c / problem.groups);
  params.group_outputs = static_cast<int>(problem.k / problem.groups);
  params.vectors = vectors_fit(problem);
  params.together = pixels_together(problem);

  params.patch = patch_of(problem, plan);
  params.tables = tables_of(problem, params.patch, plan.tile_n);
  params.tiles_x = static_cast<int>(ceil_divide(problem.ow, params.patch.width));
  params.tiles_y = static_cast<int>(ceil_divide(problem.oh, params.patch.height));
  params.tiles = static_cast<int>(tiles_of(problem, params.patch));
  params.splits = plan.splits;
  params.chunks = static_cast<int>(ceil_divide(params.group_channels, chunk_of(problem.dtype)));
  params.blocks_n = static_cast<int>(ceil_divide(params.group_outputs, plan.tile_n));
  params.slots = plan.stages;
  params.stages = stages_of(problem, params.patch, plan);
  params.resident = params.chunks <= params.slots;

  params.weight = arguments.weight;
  params.weight_stride_k = problem.weight_strides[0];
  params.weight_stride_c = problem.weight_strides[1];
  params.weight_stride_r = problem.weight_strides[2];
  params.weight_stride_s = problem.weight_strides[3];
  const Workspace parts = workspace(problem, plan);
  auto* base = static_cast<char*>(arguments.workspace);
  params.packed_weight = base;
  params.counters = reinterpret_cast<int*>(base + parts.counters);
  params.split_values = reinterpret_cast<float*>(base + parts.values);
  params.split_channels = reinterpret_cast<int*>(base + parts.channels);
  return params;
}

}  // namespace

int launch(const Problem& problem, const Plan& plan, const Arguments& arguments, cudaStream_t stream) {
  const Params params = make_params(simplified(problem), plan, arguments);
  switch (problem.dtype) {
    case DType::kFloat32: return launch_float32(params, plan, stream);
    case DType::kFloat16: return launch_float16(params, plan, stream);
    case DType::kBFloat16: return launch_bfloat16(params, plan, stream);
    case DType::kFloat64: break;  // the plan accepts none
  }
  return cudaErrorInvalidValue;
}

}  // namespace convmin::sm90::patch
