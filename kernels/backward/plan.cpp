// Which kernels compute the gradients, and how their work is divided. Host code only.
#include "backward/plan.h"

#include <algorithm>

#include "backward/params.h"
#include "common/planning.h"

namespace convmin {
namespace {

using namespace backward;

constexpr std::int64_t kMaxExtent = std::int64_t{1} << 30;
constexpr std::int64_t kMaxBlocks = (std::int64_t{1} << 31) - 1;

// Share of a window kernel's tiles that holds pixels.
double filled(std::int64_t height, std::int64_t width, int tile_h, int tile_w) {
  const double slots = static_cast<double>(ceil_divide(height, tile_h) * tile_h) *
                       static_cast<double>(ceil_divide(width, tile_w) * tile_w);
  return static_cast<double>(height) * static_cast<double>(width) / slots;
}

bool is_window(const Problem& problem) {
  return problem.r == 3 && problem.s == 3 && problem.stride_h == 1 && problem.stride_w == 1 &&
         problem.dilation_h == 1 && problem.dilation_w == 1 && problem.dtype != DType::kFloat64;
}

class Workspace {
 public:
  std::int64_t take(std::int64_t bytes) {
    const std::int64_t at = bytes_;
    bytes_ += ceil_divide(bytes, 256) * 256;
    return at;
  }
  std::int64_t bytes() const { return bytes_; }

 private:
  std::int64_t bytes_ = 0;
};

void plan_input(const BackwardProblem& backward, const Device& device, BackwardPlan* plan, Workspace* workspace) {
  const Problem& problem = backward.forward;
  const int element = static_cast<int>(element_size(problem.dtype)), vector = kVectorBytes / element;
  const std::int64_t channels = problem.c / problem.groups, outputs = problem.k / problem.groups;
  const std::int64_t taps = problem.r * problem.s, pixels = problem.n * problem.h * problem.w;
  constexpr std::int64_t kManyGroups = 4, kFewChannels = 16;
  if (problem.groups >= kManyGroups && channels <= kFewChannels) {
    const std::int64_t group_bytes = channels * (kGroupsThreads + 1) * (element == 8 ? 8 : 4);
    plan->grad_input = GradInputKernel::kGroups;
    plan->chunk_groups = static_cast<int>(std::min(problem.groups, kGroupsShared / group_bytes));
    plan->channel_chunks = static_cast<int>(ceil_divide(problem.groups, plan->chunk_groups));
    plan->input_shared = static_cast<int>(plan->chunk_groups * group_bytes);
    const std::int64_t wanted = std::max<std::int64_t>(1, std::int64_t{device.sm_count} * 64 / plan->channel_chunks);
    const std::int64_t tiles = std::clamp<std::int64_t>(ceil_divide(pixels, kGroupsThreads), 1, wanted);
    plan->input_blocks = static_cast<int>(plan->channel_chunks * tiles);
    return;
  }

  int lanes = 1;
  while (lanes < 8 && lanes * vector < channels) lanes *= 2;

  plan->grad_input = GradInputKernel::kGeneral;
  for (int fewer = lanes; fewer >= 4 && is_window(problem); fewer /= 2) {
    const int stage = backward.grad_input_channels_last ? 0 : window_stage_bytes(fewer, element);
    const std::int64_t shared = window_entry_bytes(fewer) + stage + 9 * fewer * kVectorBytes * (outputs + 1);
    if (shared > device.shared_memory_per_block) continue;
    if (filled(problem.h, problem.w, strip_tile_rows(fewer), kStripTileW) < 0.4) continue;
    plan->grad_input = GradInputKernel::kWindow;
    plan->input_shared = static_cast<int>(shared);
    lanes = fewer;
    break;
  }
  plan->lanes = lanes;
  plan->channel_chunks = static_cast<int>(ceil_divide(channels, lanes * vector));
  const std::int64_t chunks = problem.groups * plan->channel_chunks;
  std::int64_t tiles, wanted;
  if (plan->grad_input == GradInputKernel::kWindow) {  // persistent blocks, one a multiprocessor
    tiles = problem.n * ceil_divide(problem.h, strip_tile_rows(lanes)) * ceil_divide(problem.w, kStripTileW);
    wanted = std::max<std::int64_t>(1, device.sm_count / chunks);
  } else {
    tiles = ceil_divide(pixels, kGeneralThreads / lanes);
    wanted = std::max<std::int64_t>(1, std::int64_t{device.sm_count} * 64 / chunks);
  }
  plan->input_blocks = static_cast<int>(chunks * std::clamp<std::int64_t>(tiles, 1, wanted));
  plan->packed_weight = workspace->take(chunks * (outputs + 1) * taps * lanes * kVectorBytes);
}

// Splits of the tiles such that the last wave of blocks is full, or there are few waves. A block costs about a tile on
// top: its sums are cleared, written and read again.
int best_splits(std::int64_t works, std::int64_t tiles, std::int64_t resident) {
  int best = 1;
  std::int64_t least = -1;
  const std::int64_t most = std::min<std::int64_t>(tiles, 2 * resident / works + 1);
  for (std::int64_t splits = 1; splits <= std::max<std::int64_t>(most, 1); ++splits) {
    const std::int64_t cost = ceil_divide(works * splits, resident) * (ceil_divide(tiles, splits) + 1);
    if (least < 0 || cost < least) least = cost, best = static_cast<int>(splits);
  }
  return best;
}

const char* plan_weight(const BackwardProblem& backward, const Device& device, BackwardPlan* plan,
                        Workspace* workspace) {
  const Problem& problem = backward.forward;
  const int accum = problem.dtype == DType::kFloat64 ? 8 : 4;
  const std::int64_t channels = problem.c / problem.groups, outputs = problem.k / problem.groups;
  const std::int64_t pixels = problem.n * problem.oh * problem.ow;
  constexpr std::int64_t kWindowRange = 128, kMinWindowChannels = 16;
  const std::int64_t window_range = ceil_divide(outputs, ceil_divide(outputs, kWindowRange));
  const bool window = backward.wants_weight && is_window(problem) && problem.groups == 1 &&
                      channels >= kMinWindowChannels && window_shared(window_range) <= device.shared_memory_per_block &&
                      filled(problem.oh, problem.ow, kTileH, kTileW) >= 0.5;
  std::int64_t range = window_range, resident = device.sm_count;
  if (window) {
    plan->grad_weight = GradWeightKernel::kWindow;
    plan->tile_pixels = kWindowPixels;
    plan->column_chunks = static_cast<int>(ceil_divide(channels, 32));
    plan->tiles = problem.n * ceil_divide(problem.oh, kTileH) * ceil_divide(problem.ow, kTileW);
    plan->weight_shared = static_cast<int>(window_shared(range));
  } else {
    plan->grad_weight = GradWeightKernel::kColumns;
    const std::int64_t columns = backward.wants_weight ? channels * problem.r * problem.s : 1;
    plan->column_chunks = static_cast<int>(ceil_divide(columns, 32));
    // Two blocks a multiprocessor, so that one stages while the other sums. 1 KB of a block's is the driver's.
    const int limit = std::min(device.shared_memory_per_block, device.shared_memory_per_sm / 2 - 1024);
    const auto affordable = [&](int tile) { return (limit - columns_shared(0, tile, accum)) / (32 * accum + 8); };
    constexpr std::int64_t kWorthwhile = 64;
    plan->tile_pixels = accum == 8 || affordable(kColumnPixels) < kWorthwhile ? kFewColumnPixels : kColumnPixels;
    plan->tiles = ceil_divide(pixels, plan->tile_pixels);
    const std::int64_t most = affordable(plan->tile_pixels);
    if (most < 1) return "this GPU has too little shared memory for grad_weight";
    range = ceil_divide(outputs, ceil_divide(outputs, most));
    plan->weight_shared = static_cast<int>(columns_shared(range, plan->tile_pixels, accum));
    resident *= 2;
  }
  plan->channel_range = static_cast<int>(range);
  plan->ranges = static_cast<int>(ceil_divide(outputs, range));
  const std::int64_t works = problem.groups * plan->ranges * plan->column_chunks;
  if (works > kMaxBlocks) return "grad_weight has more than 2^31 chunks";
  plan->splits = best_splits(works, plan->tiles, resident);
  const std::int64_t parts = window ? 9 * 32 : 32;
  plan->sorted_keys = workspace->take(plan->tiles * plan->tile_pixels * 4);
  plan->sorted_values = workspace->take(plan->tiles * plan->tile_pixels * accum);
  plan->partial_sums = workspace->take(works * plan->splits * range * (parts * accum + 8));
  return nullptr;
}

}  // namespace

BackwardPlan plan_backward(const BackwardProblem& backward, const Device& device) {
  const Problem& problem = backward.forward;
  BackwardPlan plan{};
  const std::int64_t extents[] = {problem.h + 2 * problem.padding_h,
                                  problem.w + 2 * problem.padding_w,
                                  problem.c / problem.groups * problem.r * problem.s,
                                  problem.c,
                                  problem.n,
                                  problem.stride_h,
                                  problem.stride_w};
  for (const std::int64_t extent : extents) {
    if (extent >= kMaxExtent) {
      plan.reason = "an extent (N, C, padded height or width, C*R*S or a stride) is 2^30 or more";
      return plan;
    }
  }
  if (problem.k > kMaxOutputs) {
    plan.reason = "the weight has more than 4194303 output channels";
    return plan;
  }
  Workspace workspace;
  if (backward.wants_input) plan_input(backward, device, &plan, &workspace);
  if (backward.wants_weight || backward.wants_bias) {
    plan.reason = plan_weight(backward, device, &plan, &workspace);
    if (plan.reason != nullptr) return plan;
  }
  plan.workspace_bytes = workspace.bytes();
  plan.accepted = true;
  plan.reason = plan.grad_weight == GradWeightKernel::kWindow || plan.grad_input == GradInputKernel::kWindow
                    ? "3 x 3 at stride 1: tiles in shared memory serve all nine taps"
                    : "general kernels";
  return plan;
}

}  // namespace convmin
