// Which tile the portable kernel uses. Host code only.
#include "simt/plan.h"

#include <algorithm>
#include <iterator>

#include "common/fallback.h"
#include "common/planning.h"
#include "simt/tiles.h"

namespace convmin::simt {
namespace {

constexpr std::int64_t kMaxBlocks = (std::int64_t{1} << 31) - 1;

struct Choice {
  const Tile* tile;
  int splits;
  double cost;  // of the whole grid, in multiply-adds of one block, full waves counted whole
};

Choice weigh(const Tile& tile, std::int64_t pixels, std::int64_t groups, std::int64_t group_outputs,
             const Device& device) {
  const std::int64_t resident = std::int64_t{device.sm_count} * kBlocksPerSm;
  const std::int64_t pixel_tiles = ceil_divide(pixels, tile.m);
  const std::int64_t channel_blocks = groups * ceil_divide(group_outputs, tile.n);
  // Too few tiles of pixels to fill the GPU: blocks share the output channels too.
  const std::int64_t splits =
      std::clamp<std::int64_t>(resident / std::max<std::int64_t>(pixel_tiles, 1), 1, channel_blocks);
  const std::int64_t waves = ceil_divide(pixel_tiles * splits, resident);
  const std::int64_t work = waves * ceil_divide(channel_blocks, splits) * tile.m * tile.n;
  return {&tile, static_cast<int>(splits), static_cast<double>(work) / tile.efficiency};
}

}  // namespace

const char* plan(const Problem& problem, const Device& device, Plan* plan) {
  const std::int64_t group_outputs = problem.k / problem.groups;
  const std::int64_t reduction = problem.c / problem.groups * problem.r * problem.s;
  const std::int64_t packed_rows = problem.groups * (reduction + kTileK);
  if (std::max(largest_extent(problem), packed_rows) >= kMaxExtent) {
    return "an extent (padded height or width, C*R*S, K or a stride) is 2^30 or more";
  }
  const std::int64_t pixels = problem.n * problem.oh * problem.ow;

  const bool is_double = problem.dtype == DType::kFloat64;
  const Tile* tiles = is_double ? std::begin(kDoubleTiles) : std::begin(kFloatTiles);
  const Tile* tiles_end = is_double ? std::end(kDoubleTiles) : std::end(kFloatTiles);
  Choice best = weigh(*tiles, pixels, problem.groups, group_outputs, device);
  for (const Tile* tile = tiles + 1; tile < tiles_end; ++tile) {
    const Choice choice = weigh(*tile, pixels, problem.groups, group_outputs, device);
    if (choice.cost < best.cost) best = choice;
  }
  const Tile& tile = *best.tile;
  const std::int64_t blocks = ceil_divide(pixels, tile.m) * best.splits;
  if (blocks > kMaxBlocks) return "more output pixels than one grid covers";

  plan->precision = Precision::kIeee;
  // Where both strides are 1 (a single channel, or a single column), pixels are the longer run.
  const bool channels_inside = problem.input_strides[1] < problem.input_strides[3] && problem.c > problem.groups;
  plan->gather = channels_inside ? Gather::kChannels : Gather::kPixels;
  plan->tile_m = tile.m;
  plan->tile_n = tile.n;
  plan->tile_k = kTileK;
  plan->splits = best.splits;
  plan->blocks = blocks;
  plan->threads = kThreads;
  plan->shared_memory = tile.shared_memory;
  plan->workspace_bytes = workspace(problem, *plan).bytes;
  plan->reason = tile.reason;
  return nullptr;
}

Plan plan_for_tiles(const Problem& problem, Gather gather, int blocks) {
  constexpr const Tile& kTile = kFallbackShape;
  static_assert(kTile.m == kFallbackTile, "one block, one noted tile");
  Plan plan{};
  plan.accepted = true;
  plan.kernel = KernelId::kSimt;
  plan.precision = Precision::kIeee;
  plan.gather = gather == Gather::kChannels ? gather : Gather::kPixels;  // the others are sm80's alone
  plan.tile_m = kTile.m;
  plan.tile_n = kTile.n;
  plan.tile_k = kTileK;
  plan.splits = 1;
  plan.blocks = blocks;
  plan.threads = kThreads;
  plan.shared_memory = kTile.shared_memory;
  plan.workspace_bytes = workspace(problem, plan).bytes;
  plan.reason = "tiles outside the tensor cores' range";
  return plan;
}

Workspace workspace(const Problem& problem, const Plan& plan) {
  const std::int64_t accum_size = problem.dtype == DType::kFloat64 ? 8 : 4;
  const std::int64_t pixels = problem.n * problem.oh * problem.ow;
  Workspace result{};
  result.packed_reduction = ceil_divide(problem.c / problem.groups * problem.r * problem.s, plan.tile_k) * plan.tile_k;
  result.packed_outputs = ceil_divide(problem.k / problem.groups, plan.tile_n) * plan.tile_n;
  result.split_values = accum_size * problem.groups * result.packed_reduction * result.packed_outputs;
  const std::int64_t partials = plan.splits > 1 ? plan.splits * pixels : 0;
  result.split_channels = result.split_values + accum_size * partials;
  result.bytes = result.split_channels + static_cast<std::int64_t>(sizeof(int)) * partials;
  return result;
}

}  // namespace convmin::simt
