// Whether the kernel for few input channels takes a problem, and with which tile. Host code only.
#include "sm80/window/plan.h"

#include <algorithm>

#include "common/planning.h"
#include "sm80/plan.h"
#include "sm80/window/tiles.h"

namespace convmin::sm80::window {
namespace {

constexpr std::int64_t kMaxReach = std::int64_t{1} << 23;  // products of two, and of one and a tile, fit 31 bits
constexpr std::int64_t kMaxTiles = std::int64_t{1} << 30;
constexpr std::int64_t kMaxSide = (std::int64_t{1} << 16) - 1;  // of a patch: Place counts in 16 bits

// Beyond these numbers of channels (of a 1 x 1 kernel, too), and of taps on Hopper, whole chunks of channels are
// faster.
constexpr std::int64_t kFewChannels = 15, kFewPointwise = 16, kFewTaps = 9;

// Cycles of a multiprocessor, most counted in instructions that its four schedulers issue.
constexpr double kCyclesPerElement = 0.1;    // of a patch: its place, its bounds, a load and a store
constexpr double kInstructionsPerStep = 26;  // of a warp: 32 pixels' fragments
constexpr double kCyclesPerOutput = 0.0125;  // of a step: a tensor core's rate by mma.sync; half of it in TF32
constexpr double kCyclesPerTile = 300;       // barriers, and latency that other blocks don't cover
constexpr double kCyclesPerStaged = 0.25;    // a byte of the weight, once a block
constexpr std::int64_t kEnoughBlocks = 3;    // on a multiprocessor, for one to load while another multiplies

double cycles_of_multiplication(const Problem& problem, const Shape& shape, std::int64_t width) {
  const auto n = static_cast<double>(width), steps = static_cast<double>(shape.steps);
  const double issued = steps * (kInstructionsPerStep + 0.5 * n) + 2.0 * n;
  const double tensor = steps * kTileM * n * kCyclesPerOutput * (problem.dtype == DType::kFloat32 ? 2 : 1);
  // One hides under the other where there are warps enough: about half.
  return static_cast<double>(shape.passes) * (std::max(issued, tensor) + 0.5 * std::min(issued, tensor));
}

double cycles_of_tile(const Problem& problem, const Shape& shape, std::int64_t width) {
  return static_cast<double>(shape.patch_elements) * kCyclesPerElement +
         cycles_of_multiplication(problem, shape, width) + kCyclesPerTile;
}

std::int64_t side(std::int64_t outputs, std::int64_t stride, std::int64_t taps, std::int64_t dilation) {
  return std::min((outputs - 1) * stride + (taps - 1) * dilation + 1, kMaxSide + 1);
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
  shape.patch_rows = side(shape.tile_rows, problem.stride_h, problem.r, problem.dilation_h);
  shape.patch_columns = side(tile_columns, problem.stride_w, problem.s, problem.dilation_w);
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

const char* plan(const Problem& whole, const Device& device, Plan* plan) {
  if (const char* reason = refuse(whole, device)) return reason;
  if (whole.groups > 1) return "more than one group";
  if (largest_extent(whole) >= kMaxReach) return "an extent is 2^23 or more";
  const Problem problem = join_rows(whole);

  Shape best{};
  std::int64_t best_width = 0, resident = 0;
  double least = 0;
  for (const std::int64_t width : kWidths) {
    for (std::int64_t columns = 8; columns <= kTileM; columns *= 2) {
      const Shape shape = shape_of(problem, width, columns);
      if (shape.patch_rows > kMaxSide || shape.patch_columns > kMaxSide || shape.tiles >= kMaxTiles) continue;
      if (shape.bytes > device.shared_memory_per_block) continue;
      const std::int64_t per_sm = std::min<std::int64_t>(blocks_per_sm(static_cast<int>(width)),
                                                         device.shared_memory_per_sm / (shape.bytes + kReservedShared));
      // Places are 31-bit numbers.
      const std::int64_t span = (problem.c - 1) * problem.input_strides[1] +
                                (shape.patch_rows - 1) * problem.input_strides[2] +
                                (shape.patch_columns - 1) * problem.input_strides[3];
      if (per_sm == 0 || span >= std::int64_t{1} << 31) continue;
      const std::int64_t blocks = device.sm_count * per_sm;
      // Few tiles take whole rounds of blocks; of many, the blocks that end early matter little.
      const double rounds = shape.tiles < 4 * blocks ? static_cast<double>(ceil_divide(shape.tiles, blocks))
                                                     : static_cast<double>(shape.tiles) / static_cast<double>(blocks);
      const double alone = static_cast<double>(kEnoughBlocks) / static_cast<double>(std::min(per_sm, kEnoughBlocks));
      const double cost =
          static_cast<double>(per_sm) * alone *
          (rounds * cycles_of_tile(problem, shape, width) + static_cast<double>(shape.offsets) * kCyclesPerStaged);
      if (best_width == 0 || cost < least) best = shape, best_width = width, least = cost, resident = blocks;
    }
  }
  if (best_width == 0) return "the weight and the window's pixels exceed shared memory, or 31-bit places";

  plan->precision = Precision::kTf32;
  plan->gather = Gather::kTaps;
  plan->stages = 1;
  plan->tile_m = kTileM;
  plan->tile_n = static_cast<int>(best_width);
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

const char* drawback(const Problem& whole, const Device& device, const Plan& plan) {
  const Problem problem = join_rows(whole);
  const std::int64_t taps = problem.r * problem.s;
  if (problem.c > (taps == 1 ? kFewPointwise : kFewChannels)) return "whole chunks of input channels are faster";
  if (device.major == 9 && problem.c * element_size(problem.dtype) >= 32 && taps > kFewTaps) {
    return "large windows over 32 bytes of channels: wgmma is faster";
  }
  const Shape shape = shape_of(problem, plan.tile_n, plan.tile_columns);
  // sm80's tiles run on over the images, and bring a tap's pixels alone where that is less.
  if (shape.tiles > device.sm_count && shape.tiles * kTileM > 3 * problem.n * problem.oh * problem.ow) {
    return "images far smaller than a tile";
  }
  if (shape.patch_elements > 3 * kTileM * problem.c * taps) return "the input under a tile is mostly gaps between taps";
  const double tiles = static_cast<double>(ceil_divide(shape.tiles, plan.blocks));
  if (static_cast<double>(shape.offsets) * kCyclesPerStaged > 5 * tiles * cycles_of_tile(problem, shape, plan.tile_n)) {
    return "each block would stage more weight than it multiplies with";
  }
  return nullptr;
}

}  // namespace convmin::sm80::window
