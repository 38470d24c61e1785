// Which kernels compute the gradients, and how their work is divided. Host code only.
#include "backward/plan.h"

#include <algorithm>
#include <climits>
#include <limits>

#include "backward/params.h"
#include "common/planning.h"

namespace convmin {
namespace {

using namespace backward;

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

// Whether all pairs of neighbouring elements, of channels or else of a row, are aligned in memory and inside the image
// or outside it as a whole.
bool has_pairs(const Problem& problem) {
  const std::int64_t extents[] = {problem.n, problem.c, problem.h, problem.w};
  const int fastest = channel_fastest(problem) ? 1 : 3;
  for (int i = 0; i < 4; ++i) {
    if (i == fastest ? problem.input_strides[i] != 1 || extents[i] % 2 != 0
                     : extents[i] > 1 && problem.input_strides[i] % 2 != 0) {
      return false;
    }
  }
  return element_size(problem.dtype) == 2 && problem.input_alignment >= 4;
}

// False where the window kernel can't take the problem. Its plan, and how many microseconds it takes.
bool plan_window(const BackwardProblem& backward, const Device& device, BackwardPlan* plan, double* cost) {
  const Problem& problem = backward.forward;
  constexpr std::int64_t kWindowRange = 128, kMinWindowChannels = 16;
  const std::int64_t range = ceil_divide(problem.k, ceil_divide(problem.k, kWindowRange));
  if (!backward.wants_weight || !is_window(problem) || problem.groups != 1 || problem.c < kMinWindowChannels ||
      problem.k > kMaxCounted) {
    return false;
  }
  plan->column_chunks = static_cast<int>(ceil_divide(problem.c, 32));
  plan->channel_range = static_cast<int>(range);
  plan->ranges = static_cast<int>(ceil_divide(problem.k, range));
  const std::int64_t works = static_cast<std::int64_t>(plan->ranges) * plan->column_chunks;
  *cost = std::numeric_limits<double>::infinity();
  const auto consider = [&](bool pairs, double tile_cost) {
    const int tile_h = window_tile_h(pairs);
    const std::int64_t shared = window_shared(range, pairs);
    const std::int64_t tiles = problem.n * ceil_divide(problem.oh, tile_h) * ceil_divide(problem.ow, kTileW);
    if (shared > device.shared_memory_per_block || filled(problem.oh, problem.ow, tile_h, kTileW) < 0.5 ||
        tiles > INT_MAX) {
      return;
    }
    constexpr double kLaunches = 8;
    const int splits = best_splits(works, tiles, device.sm_count);
    const std::int64_t waves = ceil_divide(works * splits, device.sm_count);
    const double expected = kLaunches + tile_cost * static_cast<double>(waves * (ceil_divide(tiles, splits) + 1));
    if (expected >= *cost) return;
    *cost = expected;
    plan->grad_weight = GradWeightKernel::kWindow;
    plan->pairs = pairs;
    plan->tiles = tiles;
    plan->splits = splits;
    plan->weight_shared = static_cast<int>(shared);
  };
  // 1.01 ms for the 167 tiles that each block has of 64 x 64 x 256 x 256 -> 128, or 0.68 ms for 84 of pairs, which have
  // twice the pixels (H100, NCHW).
  constexpr double kTile = 6.0, kPairTile = 8.1;
  consider(false, kTile);
  if (has_pairs(problem)) consider(true, kPairTile);
  return plan->grad_weight == GradWeightKernel::kWindow;
}

void reserve_window(BackwardPlan* plan, Workspace* workspace) {
  const std::int64_t works = static_cast<std::int64_t>(plan->ranges) * plan->column_chunks;
  plan->sorted_pixels = workspace->take(plan->tiles * window_tile_h(plan->pairs) * kTileW * 8);
  plan->partial_sums = workspace->take(works * plan->splits * plan->channel_range * (9 * 32 * 4 + 8));
}

// Whether 16 bytes of neighbouring channels can be loaded at once.
bool has_vectors(const Problem& problem) {
  return channel_vectors_fit(problem, problem.c / problem.groups, kVectorBytes);
}

// How the pixels are sliced, and whether the input is copied: where its channels are apart, and it is read so often
// that a copy costs less than scattered loads, which take 32 bytes from memory for each element.
void plan_slices(const BackwardProblem& backward, BackwardPlan* plan) {
  const Problem& problem = backward.forward;
  constexpr std::int64_t kSlicePixels = std::int64_t{1} << 22, kCopyBytes = std::int64_t{1} << 27;
  constexpr std::int64_t kMinCopyChannels = 8;
  const std::int64_t size = element_size(problem.dtype), vector = kVectorBytes / size;
  const std::int64_t channels = problem.c / problem.groups, image_pixels = problem.oh * problem.ow;
  plan->output_pixels = problem.n * image_pixels;
  plan->slices = static_cast<int>(std::max<std::int64_t>(1, ceil_divide(plan->output_pixels, kSlicePixels)));
  plan->slice_pixels = ceil_divide(plan->output_pixels, plan->slices);
  plan->vectors = backward.wants_weight && has_vectors(problem);
  plan->tap_width = static_cast<int>(channels);
  if (!backward.wants_weight || plan->vectors || problem.input_strides[1] == 1 || channels < kMinCopyChannels ||
      plan->output_pixels == 0) {
    return;
  }
  const std::int64_t width = round_up(channels, vector);
  const double reads = static_cast<double>(image_pixels * problem.r * problem.s);
  const double image_bytes =
      static_cast<double>(problem.h * problem.w) * static_cast<double>(problem.groups * width * size);
  if (2 * reads < static_cast<double>(problem.h * problem.w * problem.groups)) return;
  if (image_bytes > static_cast<double>(kCopyBytes) || image_pixels > kSlicePixels) return;
  const std::int64_t most = std::min(kCopyBytes / static_cast<std::int64_t>(image_bytes), kSlicePixels / image_pixels);
  const std::int64_t slices = ceil_divide(problem.n, most), images = ceil_divide(problem.n, slices);
  plan->vectors = true;
  plan->tap_width = static_cast<int>(width);
  plan->slice_images = static_cast<int>(images);
  plan->slices = static_cast<int>(ceil_divide(problem.n, images));
  plan->slice_pixels = images * image_pixels;
}

// Its plan, and how many microseconds it takes.
const char* plan_runs(const BackwardProblem& backward, const Device& device, BackwardPlan* plan, double* cost) {
  const Problem& problem = backward.forward;
  plan->grad_weight = GradWeightKernel::kRuns;
  plan_slices(backward, plan);
  const std::int64_t size = element_size(problem.dtype), vector = plan->vectors ? kVectorBytes / size : 1;
  const std::int64_t taps = problem.r * problem.s, pixels = plan->slice_pixels;
  const std::int64_t vectors = backward.wants_weight ? taps * plan->tap_width / vector : 0;
  const std::int64_t columns = round_up(vectors * vector, 4);
  if (columns >= kMaxExtent) return "C*R*S is 2^30 or more";
  plan->column_vectors = static_cast<int>(vectors);
  plan->columns = static_cast<int>(columns);
  const int parts = parts_of(static_cast<int>(vector));
  plan->team = kMinTeam;
  while (plan->team < kMaxTeam && plan->team * parts < vectors) plan->team *= 2;
  plan->team_chunks = static_cast<int>(std::max<std::int64_t>(1, ceil_divide(vectors, plan->team * parts)));

  // Segments: short ones fill the GPU, and long ones leave few pieces, each of which is written and read again. As many
  // as fill each multiprocessor once; up to four times while they stay long, never a little more than that.
  constexpr std::int64_t kEnoughPixels = 128, kMostPixels = 256, kMostSegments = 16384;
  constexpr double kPieceBytes = 1 << 27;
  const std::int64_t round = std::max(plan->team, kRoundPixels);
  // Of a warp that would have them all by itself.
  const double walk = static_cast<double>(pixels) * plan->team_chunks * plan->team / 32;
  std::int64_t segment = kMostPixels;
  for (int waves = 1; waves <= 4 && segment > kEnoughPixels; ++waves) {
    const int warps = waves * kRunsResident * kRunsThreads / 32 * std::max(1, device.sm_count);
    segment = static_cast<std::int64_t>(std::min(walk / warps, static_cast<double>(kMostPixels)));
  }
  const int accum = problem.dtype == DType::kFloat64 ? 8 : 4;
  const double piece_bytes = 2.0 * static_cast<double>(columns * accum) * static_cast<double>(pixels);
  const auto affordable = static_cast<std::int64_t>(piece_bytes / kPieceBytes);
  segment = round_up(std::max({segment, affordable, ceil_divide(pixels, kMostSegments), std::int64_t{1}}), round);
  plan->segment_pixels = static_cast<int>(std::min(segment, round_up(std::max<std::int64_t>(pixels, 1), round)));

  const int quad = kVectorBytes / accum;
  plan->finish_width = 1;
  while (plan->finish_width < kMaxFinishWidth && plan->finish_width * quad < columns) plan->finish_width *= 2;
  plan->finish_chunks = static_cast<int>(std::max<std::int64_t>(1, ceil_divide(columns, plan->finish_width * quad)));
  constexpr std::int64_t kManyColumns = 512;
  plan->empty_threads = columns >= kManyColumns ? kFinishThreads : 32;
  const std::int64_t segments = ceil_divide(pixels, plan->segment_pixels);
  if (segments * std::max(plan->team_chunks, plan->finish_chunks) + problem.k > kMaxBlocks) {
    return "grad_weight has more than 2^31 pieces";
  }

  int bits = 1;  // of the largest key, which is k
  while (problem.k >> bits != 0) ++bits;
  plan->sort_passes = static_cast<int>(ceil_divide(bits, kMaxDigitBits));
  plan->digit_bits = static_cast<int>(ceil_divide(bits, plan->sort_passes));
  constexpr std::int64_t kPartPixels = 512, kManyPixels = std::int64_t{1} << 20;
  const std::int64_t most_parts = std::int64_t{device.sm_count} * (pixels >= kManyPixels ? 2 : 1);
  plan->sort_parts = static_cast<int>(std::clamp<std::int64_t>(ceil_divide(pixels, kPartPixels), 1, most_parts));

  // Bytes a microsecond and multiprocessor: an H100's L2 gives 132 of them about 5 TB/s, its memory half of that.
  const double input = static_cast<double>(problem.n) * static_cast<double>(problem.c * problem.h * problem.w * size);
  // A pass of the sort moves a pixel in 0.16 ns (the same, 0.5 million pixels).
  constexpr double kCached = 32 << 20, kLaunches = 20, kSortPixel = 1.6e-4;
  const double rate = (input <= kCached ? 32e3 : 20e3) * std::max(1, device.sm_count);
  const double loads = static_cast<double>(plan->output_pixels) * static_cast<double>(columns * size);
  const double sort = kSortPixel * plan->sort_passes * static_cast<double>(plan->output_pixels);
  *cost = plan->slices * kLaunches + sort + (loads + (plan->slice_images > 0 ? 3 * input : 0)) / rate;
  return nullptr;
}

void reserve_runs(const Problem& problem, BackwardPlan* plan, Workspace* workspace) {
  const std::int64_t accum = problem.dtype == DType::kFloat64 ? 8 : 4, list = plan->slice_pixels * 4;
  const std::int64_t segments = ceil_divide(plan->slice_pixels, plan->segment_pixels);
  const std::int64_t digits = plan->sort_passes == 1 ? problem.k + 1 : std::int64_t{1} << plan->digit_bits;
  plan->list_channels = workspace->take(list);
  plan->list_numbers = workspace->take(list);
  if (plan->sort_passes > 1) {
    plan->other_channels = workspace->take(list);
    plan->other_numbers = workspace->take(list);
  }
  plan->digit_counts = workspace->take(plan->sort_parts * digits * 4);
  plan->present = workspace->take(problem.k);
  if (plan->slice_images > 0) {
    plan->source_copy = workspace->take(plan->slice_images * problem.h * problem.w * problem.groups * plan->tap_width *
                                        element_size(problem.dtype));
  }
  if (segments > 1) {
    plan->pieces = workspace->take(segments * 2 * plan->columns * accum);
    plan->bias_pieces = workspace->take(segments * 2 * 8);
  }
  if (plan->slices > 1) {
    plan->totals = workspace->take(problem.k * plan->columns * accum);
    plan->bias_totals = workspace->take(problem.k * 8);
  }
}

const char* plan_weight(const BackwardProblem& backward, const Device& device, BackwardPlan* plan,
                        Workspace* workspace) {
  BackwardPlan window = *plan;
  double window_cost, runs_cost;
  const bool can_be_window = plan_window(backward, device, &window, &window_cost);
  const char* reason = plan_runs(backward, device, plan, &runs_cost);
  // Both are estimates: the window kernel gives way where it is slower beyond doubt.
  constexpr double kDoubt = 1.25;
  if (can_be_window && (reason != nullptr || window_cost <= kDoubt * runs_cost)) {
    *plan = window;
    reserve_window(plan, workspace);
    return nullptr;
  }
  if (reason == nullptr) reserve_runs(backward.forward, plan, workspace);
  return reason;
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
