// Whether the mma.sync kernel takes a problem, and with which tile. Host code only.
#include "sm80/plan.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

#include "common/fallback.h"
#include "common/planning.h"

namespace convmin::sm80 {
namespace {

// Rows or columns of a patch: so many never fit, but their bytes fit 64 bits.
constexpr std::int64_t kMostOfPatch = std::int64_t{1} << 20;
constexpr std::int64_t kMaxBlocks = (std::int64_t{1} << 31) - 1;
constexpr std::int64_t kPartialBytes = 1 << 17;  // of all partial sums, for each multiprocessor
constexpr std::int64_t kMaxWindowTable = 2048;   // elements of the window, for Gather::kTaps

// Elements of the reduction in a step; float32 is multiplied as TF32, or scaled, as float16.
std::int64_t chunk_of(const Problem& problem, bool scaled) {
  return kStepBytes / (scaled ? 2 : element_size(problem.dtype));
}

// Whether 16-byte vectors of channels are whole and aligned.
bool vectors_fit(const Problem& problem) {
  const std::int64_t element = element_size(problem.dtype);
  for (const int axis : {0, 2, 3}) {
    if (problem.input_strides[axis] * element % 16 != 0) return false;
  }
  return problem.input_strides[1] == 1 && problem.input_alignment % 16 == 0 &&
         problem.c / problem.groups * element % 16 == 0;
}

// Whether rows are of whole quads: four pixels next to each other, aligned, inside the image or outside. Under a stride
// a patch's columns are not neighbours.
bool quads_fit(const Problem& problem) { return problem.stride_w == 1 && pixel_vectors_fit(problem, kQuad); }

// One axis of a patch that serves `taps` taps: the input pixels between two that are kept, the kept ones between two
// outputs, and those under one output.
struct Axis {
  std::int64_t step, unit, span;
};
Axis axis_of(std::int64_t taps, std::int64_t stride, std::int64_t dilation) {
  if (taps == 1) return {stride, 1, 1};
  const std::int64_t step = std::gcd(stride, dilation);
  return {step, stride / step, (taps - 1) * (dilation / step) + 1};
}

// Estimated cycles of a multiprocessor. The constants are those with which, of 2400 plans that 212 problems were
// measured with on Hopper, the least estimate is the fastest or next to it (docs/sm80.md).
constexpr double kCyclesPerOutput = 0.02;    // of a step: 64 bytes of the reduction
constexpr double kCyclesPerResult = 0.095;   // of the epilogue, for an output of a block
constexpr double kCyclesOfScaling = 24000;   // setting to zero, a longer packing, and two launches that find nothing
constexpr double kCyclesPerBlock = 6200;     // its launch, tables and first loads
constexpr double kCyclesPerPartial = 0.09;   // of a partial sum, written or read
constexpr double kCyclesPerTile = 3900;      // of a specialized tile: its tables, and its results on their way out
constexpr double kCyclesPerSplit = 1000;     // of one with a share of the channels: its minima, left and read
constexpr double kCyclesOfRunningOn = 1000;  // of one that runs on over images: its pixels' windows, found anew
// A block alone waits for what it loads, at each stage; where there are more, one loads while another multiplies.
constexpr double kWaitingPerLoad = 2.6, kWaitingPerStage = 300;
// Four warps that only load wait too, but beside the multiplication and the epilogue; their instructions always count,
// but a scheduler has most of its slots free.
constexpr double kLoadingBeside = 0.25;
double cycles_per_pixel(const Tile& tile, const Layout& layout, bool scaled) {  // of a stage's patch: 64 bytes
  switch (layout.gather) {
    case Gather::kChannels: return scaled || tile.specialized ? 8 : 2.7;     // through registers; past them
    case Gather::kPixels: return scaled ? 25 : layout.chunk == 16 ? 7 : 14;  // a load for each element
    case Gather::kTaps: return layout.chunk == 16 ? 5 : 10;                  // and a table's entry
    case Gather::kQuads: return scaled ? 11 : 3.4;                           // of four pixels a load; with its range
  }
  return 0;
}

// The same where four warps do nothing else, mostly waiting: if that is longer than the others multiply, it is the
// time.
double cycles_per_pixel_alone(const Layout& layout, bool scaled) {
  switch (layout.gather) {
    case Gather::kChannels: return scaled ? 16 : 13;
    case Gather::kPixels: return scaled ? 20 : 15;
    case Gather::kQuads: return scaled ? 14 : 9;
    case Gather::kTaps: break;  // none takes it
  }
  return 0;
}

struct Choice {
  const Tile* tile = nullptr;
  Layout layout{};
  bool scaled{};
  std::int64_t per_sm{}, splits{}, parts{};
  double cost{};
  Shape shape{};
};

// Of a stage's patch, with what quads bring beside it.
double pixels_brought(const Shape& shape) {
  return static_cast<double>(shape.row_quads > 0 ? shape.patch_rows * shape.row_quads * kQuad : shape.patch_pixels);
}
// Of a stage.
double load_cycles(const Choice& choice) {
  return pixels_brought(choice.shape) * cycles_per_pixel(*choice.tile, choice.layout, choice.scaled);
}
double multiply_cycles(const Choice& choice) {
  const Tile& tile = *choice.tile;
  const double rate = (choice.layout.chunk == 16 ? 2 : 1) / (tile.efficiency * (choice.layout.padded ? 1.0 : 0.9));
  return static_cast<double>(choice.shape.taps) * (static_cast<double>(tile.m) * tile.n) * kCyclesPerOutput * rate;
}

// As weigh(), of a specialized tile. Where tiles are few, blocks share their output channels, equally.
void weigh_specialized(const Problem& problem, const Device& device, Choice* choice) {
  const Shape& shape = choice->shape;
  const Tile& tile = *choice->tile;
  choice->per_sm = 1;
  const std::int64_t pixels = problem.n * problem.oh * problem.ow;
  const double outputs = static_cast<double>(tile.m) * tile.n;
  const double alone = pixels_brought(shape) * cycles_per_pixel_alone(choice->layout, choice->scaled);
  const double beside = kLoadingBeside * load_cycles(*choice);
  const auto stages = static_cast<double>(shape.stages);
  const double block =
      std::max(stages * multiply_cycles(*choice) + outputs * kCyclesPerResult, stages * alone) + stages * beside;
  const bool runs_on = shape.taps > 1 && !choice->layout.within_image;
  for (std::int64_t splits = 1; splits <= std::min<std::int64_t>(shape.group_blocks, device.sm_count); ++splits) {
    if (shape.group_blocks % splits != 0) continue;
    // Too few of whole size: there is nothing to run ahead for.
    if (2 * splits * pixels < static_cast<std::int64_t>(tile.m) * device.sm_count) continue;
    const std::int64_t each = ceil_divide(shape.tiles_h * shape.tiles_w, device.sm_count / splits);
    const double one = kCyclesPerTile + static_cast<double>(shape.group_blocks / splits) * block +
                       (splits > 1 ? kCyclesPerSplit : 0) + (runs_on ? kCyclesOfRunningOn : 0);
    const double cost = kCyclesPerBlock + static_cast<double>(each) * one + (choice->scaled ? kCyclesOfScaling : 0);
    if (cost < choice->cost) choice->cost = cost, choice->splits = splits;
  }
}

// The cost of a choice; infinite where it does not fit.
void weigh(const Problem& problem, const Device& device, Choice* choice) {
  const Shape& shape = choice->shape;
  const Tile& tile = *choice->tile;
  choice->cost = HUGE_VAL, choice->parts = 1;
  if (shape.shared_memory > device.shared_memory_per_block) return;
  // More than a pixel of the tile for each tap: bringing each tap's pixels is less.
  if (choice->layout.whole_window && shape.patch_pixels > shape.taps * tile.m) return;
  if (tile.specialized) return weigh_specialized(problem, device, choice);
  if (shape.batches > shape.taps * batches_per_step(tile.m, choice->scaled)) return;
  const std::int64_t per_sm =
      std::min<std::int64_t>(tile.blocks_per_sm, device.shared_memory_per_sm / (shape.shared_memory + kReservedShared));
  choice->per_sm = per_sm;
  const std::int64_t resident = per_sm * device.sm_count;
  const std::int64_t tiles = shape.tiles_h * shape.tiles_w, channel_blocks = problem.groups * shape.group_blocks;
  choice->splits = std::clamp<std::int64_t>(resident / std::max<std::int64_t>(tiles, 1), 1, channel_blocks);
  const double outputs = static_cast<double>(tile.m) * tile.n;
  // Still too few blocks: they share each sum too, as far as what they hand each other stays small.
  const std::int64_t most = kPartialBytes * device.sm_count / (4 * tile.m * tile.n);
  std::int64_t most_parts = 1;
  if (tile.shares_sums && choice->splits == channel_blocks && tiles > 0) {
    most_parts = std::clamp<std::int64_t>(std::min(resident, most) / (tiles * channel_blocks), 1, shape.stages);
  }
  const double load = load_cycles(*choice), multiply = multiply_cycles(*choice);
  for (std::int64_t parts = 1; parts <= most_parts; ++parts) {
    // Of so many blocks at a time on a multiprocessor.
    const auto cycles_of = [&](std::int64_t count) {
      if (count == 0) return 0.0;
      const double stage = std::max(static_cast<double>(count) * (multiply + load),
                                    multiply + kWaitingPerLoad * load + kWaitingPerStage);
      // An epilogue by itself waits for its shuffles, as long as two side by side take.
      const double results = outputs * kCyclesPerResult * static_cast<double>(std::max<std::int64_t>(count, 2));
      return kCyclesPerBlock +
             static_cast<double>(ceil_divide(channel_blocks, choice->splits)) *
                 (static_cast<double>(ceil_divide(shape.stages, parts)) * stage + results) +
             (parts > 1 ? static_cast<double>(1 + parts) * outputs * kCyclesPerPartial : 0);
    };
    const std::int64_t blocks = tiles * choice->splits * parts;
    const std::int64_t rest = ceil_divide(blocks % resident, device.sm_count);  // of the last wave, a multiprocessor
    const double cost = static_cast<double>(blocks / resident) * cycles_of(per_sm) + cycles_of(rest);
    if (cost < choice->cost) choice->cost = cost, choice->parts = parts;
  }
  if (choice->scaled) choice->cost += kCyclesOfScaling;
}

// The longest rings that fit of a specialized tile, or the shortest; the weight's before the patches'. A patch lasts
// for the steps of all taps: of those that serve many, three are enough.
void lengthen_rings(const Problem& problem, const Device& device, const Tile& tile, Layout* layout) {
  const std::int64_t most_slots =
      layout->whole_window && problem.r * problem.s > 2 ? kMaxPatchSlots - 1 : kMaxPatchSlots;
  layout->patch_slots = 2, layout->weight_stages = kMaxWeightStages / 2;
  const Shape shortest = shape_of(problem, tile, *layout);
  const std::int64_t longer = layout->weight_stages * tile.n * kStepBytes;  // for twice the weight's stages
  std::int64_t room = device.shared_memory_per_block - shortest.shared_memory;
  if (room >= longer) layout->weight_stages *= 2, room -= longer;
  layout->patch_slots = std::clamp<std::int64_t>(2 + room / shortest.patch_bytes, 2, most_slots);
}

// Takes a choice that is better than the best so far. Whether it leaves room for all the blocks that registers allow.
bool improve(const Problem& problem, const Device& device, const Tile& tile, const Layout& layout, bool scaled,
             Choice* best) {
  Choice choice{};
  choice.tile = &tile, choice.layout = layout, choice.scaled = scaled;
  if (tile.specialized) lengthen_rings(problem, device, tile, &choice.layout);
  choice.shape = shape_of(problem, tile, choice.layout);
  weigh(problem, device, &choice);
  if (choice.cost < HUGE_VAL && (best->tile == nullptr || choice.cost < best->cost)) *best = choice;
  return choice.per_sm >= tile.blocks_per_sm;
}

void consider(const Problem& problem, const Device& device, const Tile& tile, Gather gather, bool scaled,
              Choice* best) {
  if (tile.specialized &&
      (problem.groups > 1 || gather == Gather::kTaps || chunk_of(problem, scaled) * 2 != kStepBytes)) {
    return;
  }
  const bool window = problem.r * problem.s > 1 && gather != Gather::kTaps;
  const std::int64_t unit = gather == Gather::kQuads ? kQuad : 1;  // all tiles begin at the same column of a quad
  std::int64_t before = 0;
  for (const std::int64_t most_rows : {1, 2, 4, 8, 16}) {
    // Equal parts of a row, of at most this many columns.
    const std::int64_t parts = ceil_divide(problem.ow, std::min<std::int64_t>(problem.ow, tile.m / most_rows));
    const std::int64_t columns = ceil_divide(problem.ow, parts);
    Layout layout{
        gather, chunk_of(problem, scaled), parts > 1 ? round_up(columns, unit) : columns, window, false, true, 0, 0};
    if (layout.columns == before) continue;
    before = layout.columns;
    // Within an image, a tile has one halo above and below rather than one for each image that it might touch, and the
    // image's rows may not fill its tiles.
    bool leaves_room = false;
    for (const bool within_image : {true, false}) {
      if (within_image && !(window && problem.r > 1)) continue;
      layout.within_image = within_image, layout.padded = true;
      if (improve(problem, device, tile, layout, scaled, best)) {
        leaves_room = true;
      } else if (window) {
        layout.padded = false;
        leaves_room |= improve(problem, device, tile, layout, scaled, best);
      }
    }
    // A pixel's range shows where all its channels pass by; tap after tap, they do so in turn: not for `scaled`. Nor
    // for quads, which each tap would cut anew, or where the loads are not to take longer than the multiplication.
    if (leaves_room || !window || scaled || gather == Gather::kQuads || tile.specialized) continue;
    layout.whole_window = false, layout.within_image = false, layout.padded = true;
    improve(problem, device, tile, layout, scaled, best);
  }
}

}  // namespace

Problem join_rows(Problem problem) {
  if (rows_are_one(problem)) {
    problem.w *= problem.h, problem.ow = problem.w;
    problem.h = problem.oh = 1;
  }
  return problem;
}

Layout layout_of(const Plan& plan) {
  return {plan.gather,        plan.tile_k, plan.tile_columns, plan.taps > 1,
          plan.tile_rows > 0, plan.padded, plan.stages,       plan.weight_stages};
}

const Tile& tile_of(const Plan& plan) {
  for (const Tile& tile : kTiles) {
    if (tile.m == plan.tile_m && tile.n == plan.tile_n) return tile;
  }
  return kTiles[0];  // launch_tiles() finds none either, and says so
}

Shape shape_of(const Problem& problem, const Tile& tile, const Layout& layout) {
  Shape shape{};
  const std::int64_t group_channels = problem.c / problem.groups, window = problem.r * problem.s;
  const std::int64_t rows = problem.n * problem.oh;
  const std::int64_t run = layout.within_image ? problem.oh : std::max<std::int64_t>(rows, 1);
  shape.tile_columns = layout.columns;
  shape.tile_rows = std::clamp<std::int64_t>(tile.m / layout.columns, 1, run);
  shape.tiles_w = ceil_divide(problem.ow, layout.columns);
  shape.tiles_h = ceil_divide(rows, shape.tile_rows);
  if (layout.within_image) {
    shape.tiles_per_image = ceil_divide(problem.oh, shape.tile_rows);
    shape.tiles_h = problem.n * shape.tiles_per_image;
    shape.tile_rows = ceil_divide(problem.oh, shape.tiles_per_image);  // equal parts: as many tiles, smaller patches
  }

  const Axis h = axis_of(layout.whole_window ? problem.r : 1, problem.stride_h, problem.dilation_h);
  const Axis w = axis_of(layout.whole_window ? problem.s : 1, problem.stride_w, problem.dilation_w);
  shape.step_h = h.step, shape.unit_h = h.unit, shape.span_h = h.span;
  shape.step_w = w.step, shape.unit_w = w.unit, shape.span_w = w.span;
  shape.run_columns = ceil_divide((layout.columns - 1) * w.unit + w.span, w.unit);
  shape.patch_columns = std::min(w.unit * shape.run_columns, kMostOfPatch);
  // Each image that the tile's rows touch has a part of the patch of its own.
  const std::int64_t images = layout.within_image || shape.tile_rows == 1
                                  ? 1
                                  : std::min({problem.n, shape.tile_rows, (shape.tile_rows - 2) / problem.oh + 2});
  const std::int64_t parts = std::max<std::int64_t>(images, 1);
  shape.patch_rows = std::min((shape.tile_rows - parts) * h.unit + parts * std::max(h.unit, h.span), kMostOfPatch);
  shape.patch_pixels = shape.patch_rows * shape.patch_columns;
  // Eight neighbouring outputs are read at once. Where they go on in the next row, it lies as if in the same: its banks
  // are then those that the first part left free. Not every stride has such a pitch.
  shape.patch_pitch = shape.patch_columns;
  for (std::int64_t extra = 0; layout.padded && shape.tile_rows > 1 && extra < 8; ++extra) {
    if (((shape.patch_columns + extra) * h.unit - layout.columns) % 8 != 0) continue;
    shape.patch_pitch = shape.patch_columns + extra;
    break;
  }

  const bool taps_in_chunks = layout.gather == Gather::kTaps;
  const bool scaled = layout.chunk != chunk_of(problem, false), quads = layout.gather == Gather::kQuads;
  const bool copies = layout.gather == Gather::kChannels && !scaled;  // by cp.async
  shape.taps = layout.whole_window ? window : 1;
  shape.outer_taps = layout.whole_window || taps_in_chunks ? 1 : window;
  shape.chunks = ceil_divide(group_channels * (taps_in_chunks ? window : 1), layout.chunk);
  shape.stages = shape.chunks * shape.outer_taps;
  shape.steps = shape.stages * shape.taps;
  shape.group_blocks = ceil_divide(problem.k / problem.groups, tile.n);
  const std::int64_t before = (kQuad - problem.padding_w % kQuad) % kQuad;  // pixels of a row's first quad
  shape.row_quads = quads ? ceil_divide(before + shape.patch_columns, kQuad) : 0;
  const std::int64_t table =
      quads ? round_up(shape.patch_rows * shape.row_quads, quads_together(element_size(problem.dtype)))
            : shape.patch_pixels;
  shape.items = table * (quads && scaled ? 8 : 4);
  shape.batches = ceil_divide(shape.items, batch_items(layout.gather, tile.m, scaled));
  shape.patch_slots =
      tile.specialized ? layout.patch_slots : 1 + (copies ? ceil_divide(kWeightStages - 2, shape.taps) : 1);
  shape.weight_stages = tile.specialized ? layout.weight_stages : kWeightStages;
  shape.patch_bytes = shape.patch_rows * shape.patch_pitch * kPixelBytes;

  shape.patches = shape.weight_stages * tile.n * kStepBytes;
  shape.pixels = shape.patches + shape.patch_slots * shape.patch_bytes;
  shape.offsets = shape.pixels + kPixelEntry * table;
  shape.best = shape.offsets +
               (taps_in_chunks ? kTapEntry * shape.chunks * layout.chunk : round_up(kOffsetEntry * shape.taps, 16));
  shape.flag = shape.best + 8 * tile.m * tile.warps_n;
  shape.warp_states = shape.flag + (tile.specialized ? kBarrierBytes : 16);
  shape.terms = shape.warp_states + (tile.specialized ? kWarpStateBytes : 0);
  shape.faint_parts = shape.terms + (tile.specialized ? kTermBytes * shape.group_blocks * tile.n : 0);
  const bool counts = scaled || !tile.specialized;
  shape.shared_memory = shape.faint_parts + (counts ? 4 * shape.patch_rows * shape.patch_pitch : 0);
  return shape;
}

const char* refuse(const Problem& problem, const Device& device) {
#ifdef CONVMIN_WITHOUT_SM80
  return "this build has no code for compute capability 8.0 or newer";
#endif
  if (device.major < 8) return "needs compute capability 8.0 or newer";
  return tensor_cores_refuse(problem);
}

const char* plan(const Problem& problem, const Device& device, Plan* plan) {
  if (const char* reason = refuse(problem, device)) return reason;
  if (std::max(largest_extent(problem), problem.n * problem.oh) >= kMaxExtent) return "an extent is 2^30 or more";

  const Problem joined = join_rows(problem);
  const std::int64_t group_channels = problem.c / problem.groups, window = problem.r * problem.s;
  const Gather whole = vectors_fit(problem) ? Gather::kChannels : Gather::kPixels;
  const bool quads = whole == Gather::kPixels && quads_fit(joined);
  Choice best;
  for (const Tile& tile : kTiles) {
    // Wider than the group's channels: only if there is no narrower one.
    if (problem.k / problem.groups <= tile.n / 2 && tile.n > 32) continue;
    const bool may_scale = problem.dtype == DType::kFloat32 && tile.scaled && problem.groups == 1;
    consider(joined, device, tile, whole, false, &best);
    if (may_scale) consider(joined, device, tile, whole, true, &best);
    if (quads) consider(joined, device, tile, Gather::kQuads, false, &best);
    if (quads && may_scale) consider(joined, device, tile, Gather::kQuads, true, &best);
    if (group_channels % chunk_of(problem, false) != 0 && group_channels * window <= kMaxWindowTable) {
      consider(joined, device, tile, Gather::kTaps, false, &best);
    }
  }
  if (best.tile == nullptr) return "the window's pixels exceed shared memory";
  const Tile& tile = *best.tile;
  const Shape& shape = best.shape;
  std::int64_t blocks = shape.tiles_h * shape.tiles_w * best.splits * best.parts;
  if (blocks > kMaxBlocks) return "more output pixels than one grid covers";
  const double useful =
      static_cast<double>(group_channels * window) / static_cast<double>(shape.steps * chunk_of(problem, best.scaled)) *
      static_cast<double>(problem.k / problem.groups) / static_cast<double>(shape.group_blocks * tile.n);
  // Tensor cores do about ten times the portable kernel's multiply-adds, with float32 five.
  if (useful < (problem.dtype == DType::kFloat32 ? 0.12 : 0.06)) {
    return "too few channels a group: most of its tile would be padding";
  }

  if (tile.specialized) blocks = std::min<std::int64_t>(blocks, device.sm_count / best.splits * best.splits);
  // Blocks begin under the launch that packs (kernel.cuh), wherever it leaves room first. As much shared memory as this
  // keeps a multiprocessor from having more of them than its even share.
  std::int64_t shared_memory = shape.shared_memory;
  const std::int64_t share = std::max<std::int64_t>(ceil_divide(blocks, device.sm_count), 1);
  if (device.major >= 9 && share < best.per_sm) {
    shared_memory = std::max(shared_memory, device.shared_memory_per_sm / (share + 1));
  }
  plan->precision = Precision::kTf32;
  plan->gather = best.layout.gather;
  plan->stages = static_cast<int>(shape.patch_slots);
  plan->weight_stages = static_cast<int>(shape.weight_stages);
  plan->tile_m = tile.m;
  plan->tile_n = tile.n;
  plan->tile_k = static_cast<int>(chunk_of(problem, best.scaled));
  plan->fallback_blocks = best.scaled ? 2 * device.sm_count : 0;
  plan->tile_rows = best.layout.within_image ? static_cast<int>(shape.tile_rows) : 0;
  plan->tile_columns = static_cast<int>(shape.tile_columns);
  plan->padded = best.layout.padded;
  plan->taps = static_cast<int>(shape.taps);
  plan->splits = static_cast<int>(best.splits);
  plan->parts = static_cast<int>(best.parts);
  plan->blocks = blocks;
  plan->threads = threads_of(tile);
  plan->shared_memory = static_cast<int>(shared_memory);
  plan->workspace_bytes = workspace(problem, *plan).bytes;
  plan->reason = tile.reason;
  return nullptr;
}

Workspace workspace(const Problem& problem, const Plan& plan) {
  const std::int64_t steps =
      ceil_divide(problem.c / problem.groups * (plan.gather == Gather::kTaps ? problem.r * problem.s : 1),
                  plan.tile_k) *
      (plan.gather == Gather::kTaps ? 1 : problem.r * problem.s);
  const std::int64_t blocks = problem.groups * ceil_divide(problem.k / problem.groups, plan.tile_n);
  const std::int64_t partials = plan.splits > 1 ? plan.splits * problem.n * problem.oh * problem.ow : 0;
  Workspace result{};
  result.split_values = blocks * steps * plan.tile_n * kStepBytes;
  result.split_channels = result.split_values + 4 * partials;
  result.partials = round_up(result.split_channels + 4 * partials, 16);
  result.counters = result.partials + (plan.parts > 1 ? 4 * plan.blocks * plan.tile_m * plan.tile_n : 0);
  const Tile& tile = tile_of(plan);
  const Shape shape = shape_of(join_rows(problem), tile, layout_of(plan));
  const std::int64_t tiles = shape.tiles_h * shape.tiles_w;
  result.counter_count =
      plan.splits == 1 && plan.parts == 1 ? 0 : tiles * (tile.specialized ? tile.warps_m : plan.splits + 1);
  result.factors = round_up(result.counters + 4 * result.counter_count, 16);
  const bool scaled = plan.fallback_blocks > 0;
  result.ranges = result.factors + (scaled ? 4 * round_up(problem.k, 4) : 0);
  const std::int64_t places = shape.patch_bytes / kPixelBytes;
  result.fallback = result.ranges + (scaled && plan.parts > 1 ? 4 * round_up(tiles * plan.parts * (places + 1), 4) : 0);
  result.seen = result.fallback + (scaled ? 16 : 0);
  result.tiles = result.seen + (scaled ? seen_bytes(problem.c / problem.groups) : 0);
  const std::int64_t runs = ceil_divide(plan.tile_columns, kFallbackTile) * (plan.tile_m / plan.tile_columns);
  result.bytes = result.tiles + (scaled ? 8 * tiles * runs : 0);
  return result;
}

}  // namespace convmin::sm80
