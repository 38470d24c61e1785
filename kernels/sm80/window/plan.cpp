// Whether the kernel for few input channels takes a problem, and with which tile. Host code only.
#include "sm80/window/plan.h"

#include <algorithm>

#include "common/planning.h"
#include "sm80/window/tiles.h"

namespace convmin::sm80::window {
namespace {

constexpr std::int64_t kMaxExtent = std::int64_t{1} << 30;
constexpr std::int64_t kReservedShared = 1024;                 // that the system takes of each block's
constexpr std::int64_t kFewChannels = 15, kFewPointwise = 16;  // from more on, whole chunks of them are faster

// Cycles of a multiprocessor, counted in instructions that its four schedulers issue.
constexpr double kCyclesPerElement = 0.1;    // of a patch: its place, its bounds, a load and a store
constexpr double kInstructionsPerStep = 26;  // of a warp: 32 pixels' fragments
constexpr double kCyclesPerTile = 300;       // barriers, and latency that other blocks don't cover

double instructions(const Shape& shape, std::int64_t width) {
  const auto n = static_cast<double>(width);
  return static_cast<double>(shape.passes) *
         (static_cast<double>(shape.steps) * (kInstructionsPerStep + 0.5 * n) + 2.0 * n);
}

}  // namespace

bool channels_inside(const Problem& problem) {
  return problem.c > 1 && problem.input_strides[1] < problem.input_strides[3];
}

Shape shape_of(const Problem& problem, std::int64_t width, std::int64_t tile_columns) {
  Shape shape{};
  const std::int64_t size = element_size(problem.dtype);
  shape.tile_columns = tile_columns, shape.tile_rows = kTileM / tile_columns;
  shape.tiles_h = ceil_divide(problem.oh, shape.tile_rows), shape.tiles_w = ceil_divide(problem.ow, tile_columns);
  shape.tiles = problem.n * shape.tiles_h * shape.tiles_w;
  shape.patch_rows = (shape.tile_rows - 1) * problem.stride_h + (problem.r - 1) * problem.dilation_h + 1;
  shape.patch_columns = (tile_columns - 1) * problem.stride_w + (problem.s - 1) * problem.dilation_w + 1;
  shape.patch_elements = problem.c * shape.patch_rows * shape.patch_columns;
  shape.steps = ceil_divide(problem.c * problem.r * problem.s * size, kStepBytes);
  shape.passes = ceil_divide(problem.k, width);
  shape.offsets = shape.passes * shape.steps * (width / 16) * kFragmentPairBytes;
  shape.addends = shape.offsets + shape.steps * 4 * kOffsetEntry;
  shape.places = shape.addends + shape.passes * width * 4;
  shape.patch = shape.places + round_up(shape.patch_elements * kPlaceEntry, 16);
  shape.bytes = shape.patch + round_up(shape.patch_elements * size, 16);
  return shape;
}

const char* plan(const Problem& problem, const Device& device, Plan* plan) {
#ifdef CONVMIN_WITHOUT_SM80
  return "this build has no code for compute capability 8.0 or newer";
#endif
  if (device.major < 8) return "needs compute capability 8.0 or newer";
  if (const char* reason = tensor_cores_refuse(problem)) return reason;
  if (problem.groups > 1) return "more than one group";
  if (largest_extent(problem) >= kMaxExtent / kTileM) return "an extent is 2^23 or more";

  std::int64_t width = 0;
  double fewest = 0;
  for (const std::int64_t candidate : kWidths) {
    const double count = instructions(shape_of(problem, candidate, kTileM), candidate);
    if (width == 0 || count < fewest) width = candidate, fewest = count;
  }
  Shape best{};
  double least = 0;
  std::int64_t resident = 0;
  for (std::int64_t columns = 8; columns <= kTileM; columns *= 2) {
    const Shape shape = shape_of(problem, width, columns);
    if (shape.bytes > device.shared_memory_per_block || shape.tiles >= kMaxExtent) continue;
    // Places are 31-bit numbers.
    const std::int64_t span = (problem.c - 1) * problem.input_strides[1] +
                              (shape.patch_rows - 1) * problem.input_strides[2] +
                              (shape.patch_columns - 1) * problem.input_strides[3];
    if (span >= std::int64_t{1} << 31) continue;
    const std::int64_t blocks =
        device.sm_count * std::min<std::int64_t>(blocks_per_sm(static_cast<int>(width)),
                                                 device.shared_memory_per_sm / (shape.bytes + kReservedShared));
    // Few tiles take whole rounds of blocks; of many, the blocks that end early matter little.
    const double rounds = shape.tiles < 4 * blocks ? static_cast<double>(ceil_divide(shape.tiles, blocks))
                                                   : static_cast<double>(shape.tiles) / static_cast<double>(blocks);
    const double cost = rounds *
                        (static_cast<double>(shape.patch_elements) * kCyclesPerElement + fewest + kCyclesPerTile) *
                        static_cast<double>(blocks);
    if (best.tiles == 0 || cost < least) best = shape, least = cost, resident = blocks;
  }
  if (best.tiles == 0) return "the weight and the window's pixels exceed shared memory, or 31-bit places";

  plan->precision = Precision::kTf32;
  plan->gather = Gather::kTaps;
  plan->stages = 1;
  plan->tile_m = kTileM;
  plan->tile_n = static_cast<int>(width);
  plan->tile_k = static_cast<int>(kStepBytes / element_size(problem.dtype));
  plan->tile_rows = static_cast<int>(best.tile_rows);
  plan->tile_columns = static_cast<int>(best.tile_columns);
  plan->taps = static_cast<int>(problem.r * problem.s);
  plan->splits = 1;
  plan->blocks = std::min(best.tiles, resident);
  plan->threads = kThreads;
  plan->shared_memory = static_cast<int>(best.bytes);
  plan->workspace_bytes = 0;
  plan->reason = "tensor cores (mma.sync): few input channels, the reduction runs over the whole window";
  return nullptr;
}

const char* drawback(const Problem& problem, const Device&, const Plan&) {
  const std::int64_t few = problem.r * problem.s == 1 ? kFewPointwise : kFewChannels;
  return problem.c > few ? "whole chunks of input channels are faster" : nullptr;
}

}  // namespace convmin::sm80::window
