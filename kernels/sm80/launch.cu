// Problem -> the kernel's parameters; Plan -> instantiation.
#include <cstdlib>

#include "common/params.h"
#include "common/planning.h"
#include "sm80/launch.h"
#include "sm80/plan.h"

namespace convmin::sm80 {
namespace {

Fallback fallback_in(const Workspace& parts, const Arguments& arguments) {
  auto* base = static_cast<char*>(arguments.workspace);
  auto* counters = reinterpret_cast<int*>(base + parts.fallback);
  return {counters, counters + 1, reinterpret_cast<std::int64_t*>(base + parts.tiles)};
}

// For tools that know no order between a warp's lanes but that of their arrivals at an mbarrier.
bool every_lane_arrives() {
  static const bool answer = std::getenv("CONVMIN_EVERY_LANE_ARRIVES") != nullptr;
  return answer;
}

Params make_params(const Problem& original, const Plan& plan, const Workspace& parts, const Arguments& arguments) {
  const Problem problem = join_rows(original);
  Params params{};
  params.input = arguments.input;
  set_results(problem, arguments, &params);

  set_input_strides(problem, element_size(problem.dtype), &params);
  params.n = static_cast<int>(problem.n);
  set_images(problem, &params);
  set_steps(problem, &params);
  params.r = static_cast<int>(problem.r);
  params.s = static_cast<int>(problem.s);
  set_groups(problem, &params);
  params.reduction = params.group_channels * params.r * params.s;

  const Shape shape = shape_of(problem, tile_of(plan), layout_of(plan));
  params.rows = static_cast<int>(problem.n * problem.oh);
  params.tiles = static_cast<unsigned>(shape.tiles_h * shape.tiles_w);
  params.tile_rows = static_cast<int>(shape.tile_rows);
  params.tile_columns = static_cast<int>(shape.tile_columns);
  params.tiles_w = static_cast<int>(shape.tiles_w);
  params.tiles_per_image = static_cast<int>(shape.tiles_per_image);
  params.step_h = static_cast<int>(shape.step_h);
  params.step_w = static_cast<int>(shape.step_w);
  params.unit_h = static_cast<int>(shape.unit_h);
  params.unit_w = static_cast<int>(shape.unit_w);
  params.span_h = static_cast<int>(shape.span_h);
  params.span_w = static_cast<int>(shape.span_w);
  params.run_columns = static_cast<int>(shape.run_columns);
  params.patch_columns = static_cast<int>(shape.patch_columns);
  params.patch_pitch = static_cast<int>(shape.patch_pitch);
  params.patch_pixels = static_cast<int>(shape.patch_pixels);
  params.row_quads = static_cast<int>(shape.row_quads);
  params.quads = static_cast<int>(shape.patch_rows * shape.row_quads);
  params.by_patch_columns = FastDivisor(shape.patch_columns);
  params.by_patch_pixels = FastDivisor(shape.patch_pixels);
  params.by_s = FastDivisor(problem.s);
  params.by_window = FastDivisor(problem.r * problem.s);
  params.by_chunks = FastDivisor(shape.chunks);
  params.by_group_blocks = FastDivisor(shape.group_blocks);
  params.arrivals = every_lane_arrives() ? 32 : 1;
  params.taps = static_cast<int>(shape.taps);
  params.outer_taps = static_cast<int>(shape.outer_taps);
  params.chunks = static_cast<int>(shape.chunks);
  params.stages = static_cast<int>(shape.stages);
  params.steps = static_cast<int>(shape.steps);
  const bool scaled = plan.fallback_blocks > 0;
  params.items = static_cast<unsigned>(shape.items);
  params.windows_per_batch = static_cast<int>(shape.taps * batches_per_step(plan.tile_m, scaled) / shape.batches);
  params.patch_slots = static_cast<int>(shape.patch_slots);
  params.weight_stages = static_cast<int>(shape.weight_stages);
  params.patch_bytes = static_cast<int>(shape.patch_bytes);
  params.group_blocks = static_cast<int>(shape.group_blocks);
  params.splits = plan.splits;
  params.split_blocks = params.group_blocks / plan.splits;
  params.parts = plan.parts;
  params.patches = static_cast<int>(shape.patches);
  params.pixels = static_cast<int>(shape.pixels);
  params.offsets = static_cast<int>(shape.offsets);
  params.best = static_cast<int>(shape.best);
  params.flag = static_cast<int>(shape.flag);
  params.warp_states = static_cast<int>(shape.warp_states);
  params.terms = static_cast<int>(shape.terms);
  params.faint_parts = static_cast<int>(shape.faint_parts);

  auto* base = static_cast<char*>(arguments.workspace);
  params.weight = arguments.weight;
  set_weight_strides(problem, &params);
  params.dense_filters = scaled && filters_are_dense(problem);
  params.packed_weight = base;
  params.split_values = reinterpret_cast<float*>(base + parts.split_values);
  params.split_channels = reinterpret_cast<int*>(base + parts.split_channels);
  params.partials = reinterpret_cast<float4*>(base + parts.partials);
  params.counters = reinterpret_cast<int*>(base + parts.counters);
  params.counter_count = static_cast<int>(parts.counter_count);
  params.channel_factor = reinterpret_cast<float*>(base + parts.factors);
  params.range_counts = reinterpret_cast<unsigned*>(base + parts.ranges);
  params.channel_seen = reinterpret_cast<std::uint8_t*>(base + parts.seen);
  if (scaled) params.fallback = fallback_in(parts, arguments);
  return params;
}

using Launch = int (*)(const Params&, const Plan&, cudaStream_t);

}  // namespace

int launch(const Problem& problem, const Plan& plan, const Arguments& arguments, cudaStream_t stream) {
  const Launch by_dtype[3][4] = {
      {launch_float32_pixels, launch_float32_channels, launch_float32_taps, launch_float32_quads},
      {launch_float16_pixels, launch_float16_channels, launch_float16_taps, launch_float16_quads},
      {launch_bfloat16_pixels, launch_bfloat16_channels, launch_bfloat16_taps, launch_bfloat16_quads},
  };
  const auto gather = static_cast<int>(plan.gather);
  const Workspace parts = workspace(problem, plan);
  const Params params = make_params(problem, plan, parts, arguments);
  if (plan.fallback_blocks > 0) {
    const cudaError_t error =
        cudaMemsetAsync(params.fallback.everything, 0, static_cast<std::size_t>(parts.tiles - parts.fallback), stream);
    if (error != cudaSuccess) return error;
    switch (plan.gather) {
      case Gather::kPixels: return launch_scaled_pixels(params, plan, stream);
      case Gather::kChannels: return launch_scaled_channels(params, plan, stream);
      case Gather::kQuads: return launch_scaled_quads(params, plan, stream);
      case Gather::kTaps: return cudaErrorInvalidValue;  // a pixel's channels don't pass by together
    }
  }
  switch (problem.dtype) {
    case DType::kFloat32: return by_dtype[0][gather](params, plan, stream);
    case DType::kFloat16: return by_dtype[1][gather](params, plan, stream);
    case DType::kBFloat16: return by_dtype[2][gather](params, plan, stream);
    case DType::kFloat64: break;  // the plan accepts none
  }
  return cudaErrorInvalidValue;
}

Fallback fallback(const Problem& problem, const Plan& plan, const Arguments& arguments) {
  return fallback_in(workspace(problem, plan), arguments);
}

}  // namespace convmin::sm80
