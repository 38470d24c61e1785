// BackwardProblem -> the kernels' parameters; BackwardPlan -> instantiation.
#include "backward/launch.h"
#include "common/params.h"
#include "common/planning.h"

namespace convmin {
namespace {

using backward::Params;

void set_window(const Problem& problem, const BackwardPlan& plan, char* base, Params* params) {
  params->sorted_pixels = reinterpret_cast<backward::KeyedGradient*>(base + plan.sorted_pixels);
  params->partial_sums = base + plan.partial_sums;
  params->tiles = static_cast<int>(plan.tiles);
  const std::int64_t tiles_w = ceil_divide(problem.ow, backward::kTileW);
  params->by_image_tiles = FastDivisor(ceil_divide(problem.oh, backward::window_tile_h(plan.pairs)) * tiles_w);
  params->by_tiles_w = FastDivisor(tiles_w);
  params->column_chunks = plan.column_chunks;
  params->channel_range = plan.channel_range;
  params->ranges = plan.ranges;
  params->splits = plan.splits;
}

// Whether 16-byte vectors of neighbouring channels fit grad_weight.
bool takes_vectors(const BackwardProblem& backward, const Params& params) {
  const std::int64_t vector = backward::kVectorBytes / element_size(backward.forward.dtype);
  const std::int64_t* strides = backward.grad_weight_strides;
  return strides[1] == 1 && strides[0] % vector == 0 && strides[2] % vector == 0 && strides[3] % vector == 0 &&
         params.group_channels % vector == 0 &&
         reinterpret_cast<std::uintptr_t>(params.grad_weight) % backward::kVectorBytes == 0;
}

void set_runs(const BackwardProblem& backward, const BackwardPlan& plan, char* base, Params* params) {
  const auto words = [&](std::int64_t offset) { return reinterpret_cast<std::uint32_t*>(base + offset); };
  params->list = {words(plan.list_channels), words(plan.list_numbers)};
  params->other_list = {words(plan.other_channels), words(plan.other_numbers)};
  params->digit_counts = words(plan.digit_counts);
  params->present = reinterpret_cast<std::uint8_t*>(base + plan.present);
  params->sort_parts = plan.sort_parts;
  params->source = params->input;
  params->source_stride_n = params->input_stride_n, params->source_stride_c = params->input_stride_c;
  params->source_stride_h = params->input_stride_h, params->source_stride_w = params->input_stride_w;
  params->tap_width = plan.tap_width;
  if (plan.slice_images > 0) {
    params->source = base + plan.source_copy;
    params->source_stride_c = 1;
    params->source_stride_w = static_cast<std::int64_t>(params->groups) * plan.tap_width;
    params->source_stride_h = params->w * params->source_stride_w;
    params->source_stride_n = params->h * params->source_stride_h;
    params->channel_fastest = true;
  }
  params->column_vectors = plan.column_vectors;
  params->columns = plan.columns;
  params->segment_pixels = plan.segment_pixels;
  params->team = plan.team;
  params->team_chunks = plan.team_chunks;
  params->pieces = base + plan.pieces;
  params->bias_pieces = reinterpret_cast<double*>(base + plan.bias_pieces);
  if (plan.slices > 1) {
    params->totals = base + plan.totals;
    params->bias_totals = reinterpret_cast<double*>(base + plan.bias_totals);
  }
  params->weight_vectors = plan.slices == 1 && takes_vectors(backward, *params);
  params->finish_width = plan.finish_width;
  params->finish_chunks = plan.finish_chunks;
  params->empty_threads = plan.empty_threads;
}

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
  params.channel_fastest = backward::channel_fastest(problem);
  if (plan.grad_weight == GradWeightKernel::kWindow) set_window(problem, plan, base, &params);
  if (plan.grad_weight == GradWeightKernel::kRuns) set_runs(backward, plan, base, &params);
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
