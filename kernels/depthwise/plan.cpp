// Which tiles the depthwise kernel takes, of how many channels at a time. Host code only.
#include "depthwise/plan.h"

#include <algorithm>

#include "common/planning.h"
#include "depthwise/tiles.h"

namespace convmin::depthwise {
namespace {

constexpr int kSchedulers = 4;  // of a multiprocessor

// Estimated cycles.
constexpr double kCyclesPerTile = 2500;     // its launch, its first loads, the last of its minimum
constexpr double kCyclesPerCluster = 1500;  // blocks that wait for each other
constexpr double kLatency = 800;            // of a stage's loads
constexpr double kWarpsForHalf = 10;        // of a multiprocessor, that issue in half of all cycles
constexpr double kBytesPerCycle = 30;       // a multiprocessor's share of the L2 cache
// Instructions of a thread: for a pixel's minimum; for copies by vectors, and by units and channels, asynchronous or
// not; at the beginning and the end.
constexpr double kPerPixel = 8, kPerVector = 12, kPerUnit = 16, kPerCopy = 4.5, kPerStore = 8, kPerWarp = 500;

// Registers of a thread, as compiled, or a few more.
int registers_of(const Problem& problem) { return problem.r == 3 ? 80 : 96; }

struct Choice {
  int patch_rows, patch_columns, slots, splits;
  int shared, stages;  // bytes; of a block
  std::int64_t tiles;
  double cost;
};

Stage make_stage(const Problem& problem, Unit unit, int tile_rows, int tile_columns, int channels) {
  const int threads = tile_rows / kPatch * (tile_columns / kPatch) * channels;
  const std::int64_t size = element_size(problem.dtype), rows = (tile_rows - 1) * problem.stride_h + problem.r;
  const std::int64_t columns = row_columns((tile_columns - 1) * problem.stride_w + problem.s, problem.padding_w, unit);
  Stage stage{};
  stage.rows = static_cast<int>(rows);
  stage.row_columns = static_cast<int>(columns);
  stage.units = static_cast<int>(rows * columns / (unit == Unit::kPair ? 2 : 1));
  stage.first = kExchangeBytes + static_cast<int>(round_up(4 * std::int64_t{stage.units}, kVectorBytes));
  const bool vectors = unit == Unit::kVector;
  stage.input_pitch = static_cast<int>(vectors ? rows * columns * kLanes * size : odd_pitch(rows * columns, size));
  stage.input_bytes = stage.input_pitch * (vectors ? channels / kLanes : channels);
  stage.bytes = stage.input_bytes + static_cast<int>(round_up(channels * problem.r * problem.s * size, kVectorBytes));
  // Instructions of a thread's copies. By pixels, more channels each take fewer, but leave threads without.
  if (vectors) {
    const std::int64_t together = kVectorBytes / size, rounds = ceil_divide(stage.units * kLanes / together, threads);
    stage.copied_channels = channels;
    stage.copy = static_cast<double>(rounds * (channels / kLanes)) * kPerVector;
  } else {
    const bool waits = unit == Unit::kElement && size == 2;  // copies go through registers
    for (int copied = channels; copied >= kLanes / 4; copied /= 2) {
      const auto rounds = static_cast<double>(ceil_divide(stage.units, threads / (channels / copied)));
      const double copy = rounds * (kPerUnit + copied * (waits ? kPerStore : kPerCopy));
      if (stage.copied_channels > 0 && copy >= stage.copy) continue;
      stage.copied_channels = copied, stage.copy = copy;
      stage.waits = waits ? rounds * copied / 8 * kLatency : 0;
    }
  }
  return stage;
}

// Cycles of one round of blocks after the other: what a block waits for, or what all those on a multiprocessor issue or
// load.
void weigh(const Problem& problem, const Device& device, Unit unit, const Stage& stage, Choice* choice) {
  const int channels = choice->slots * kLanes, warps = choice->patch_rows * choice->patch_columns * choice->slots;
  const int tile_rows = choice->patch_rows * kPatch, tile_columns = choice->patch_columns * kPatch;
  choice->stages = static_cast<int>(ceil_divide(ceil_divide(problem.c, channels), choice->splits));
  choice->tiles = problem.n * ceil_divide(problem.oh, tile_rows) * ceil_divide(problem.ow, tile_columns);
  choice->shared = stage.first + std::min(choice->stages, kMaxBuffers) * stage.bytes;
  const std::int64_t size = element_size(problem.dtype), taps = problem.r * problem.s;
  const std::int64_t extent = (kPatch - 1) * problem.stride_h + problem.r;
  const double multiply = static_cast<double>(kPatch * kPatch * taps + (extent * extent + taps) * (size < 4 ? 2 : 1)) +
                          kPatch * kPatch * kPerPixel;
  const double issued = warps * (multiply + stage.copy) / kSchedulers;
  // Of a channel each row is a 128-byte line, or more.
  const std::int64_t lines = unit == Unit::kVector
                                 ? stage.units * choice->slots
                                 : channels * stage.rows * ceil_divide(stage.units / stage.rows, kLanes);
  const double loaded = std::max(stage.bytes / kBytesPerCycle, static_cast<double>(lines));

  // Blocks that run at once, of a cluster or not.
  const std::int64_t fitting =
      std::min<std::int64_t>(device.shared_memory_per_sm / (choice->shared + kReservedShared),
                             device.registers_per_sm / (registers_of(problem) * kLanes * warps));
  const std::int64_t resident = std::max<std::int64_t>(fitting, 1);
  const std::int64_t together =
      choice->splits > 1 ? std::int64_t{device.clusters[choice->splits - 2]} * choice->splits : device.sm_count;
  const std::int64_t blocks = choice->tiles * choice->splits, rounds = blocks / (resident * together);
  const std::int64_t rest = ceil_divide(blocks - rounds * resident * together, together);
  const auto cycles_of = [&](std::int64_t neighbours) {
    const auto count = static_cast<double>(neighbours);
    const double slower = 1 + kWarpsForHalf / (count * warps);
    const double busy = std::max(count * issued * slower, count * loaded);
    return kCyclesPerTile + (choice->splits > 1 ? kCyclesPerCluster : 0) +
           count * warps * kPerWarp / kSchedulers * slower + choice->stages * (std::max(busy, kLatency) + stage.waits);
  };
  choice->cost = static_cast<double>(rounds) * cycles_of(resident) + (rest > 0 ? cycles_of(rest) : 0);
}

}  // namespace

Unit unit_of(const Problem& problem) {
  if (channel_vectors_fit(problem, problem.c, kVectorBytes)) return Unit::kVector;
  return element_size(problem.dtype) == 2 && pixel_vectors_fit(problem, 2) ? Unit::kPair : Unit::kElement;
}

bool weight_vectors_fit(const Problem& problem) {
  return problem.weight_strides[0] == problem.r * problem.s && problem.weight_strides[2] == problem.s &&
         problem.weight_strides[3] == 1 && problem.weight_alignment >= kVectorBytes;
}

Stage stage_of(const Problem& problem, const Plan& plan) {
  return make_stage(problem, unit_of(problem), plan.tile_rows, plan.tile_columns, plan.tile_n);
}

const char* plan(const Problem& problem, const Device& device, Plan* plan) {
#ifdef CONVMIN_WITHOUT_SM80
  return "this build has no code for sm_80 or later";
#endif
  if (device.major < 8) return "needs compute capability 8.0";
  if (problem.dtype == DType::kFloat64) return "float64 has no depthwise kernel";
  if (problem.groups == 1 || problem.c != problem.groups || problem.k != problem.groups) {
    return "groups are not one channel each, in and out";
  }
  if (problem.n == 0) return "an empty batch";
  if (problem.r != problem.s || problem.stride_h != problem.stride_w || !has_window(problem.r, problem.stride_h)) {
    return "not a window of 3 x 3 or 5 x 5 at stride 1 or 2, nor of 7 x 7 at stride 1";
  }
  if (problem.dilation_h != 1 || problem.dilation_w != 1) return "a dilated window";
  if (std::max(largest_extent(problem), kPortableCluster * problem.n * problem.oh * problem.ow) >= kMaxExtent) {
    return "an extent, or 8 times the number of output pixels, is 2^30 or more";
  }
  const Unit unit = unit_of(problem);
  if (problem.input_strides[1] < problem.input_strides[3] && unit != Unit::kVector) {
    return "channels are neighbours, but not in whole vectors";
  }
  const std::int64_t last = (problem.h - 1) * problem.input_strides[2] + (problem.w - 1) * problem.input_strides[3];
  if (last * element_size(problem.dtype) >= std::int64_t{1} << 31) return "an image of 2^31 bytes or more";

  Choice best{};
  for (int patch_rows = 1; patch_rows <= std::min<std::int64_t>(ceil_divide(problem.oh, kPatch), kMaxWarps);
       ++patch_rows) {
    const std::int64_t across = std::min<std::int64_t>(ceil_divide(problem.ow, kPatch), kMaxWarps / patch_rows);
    for (int patch_columns = 1; patch_columns <= across; ++patch_columns) {
      for (int slots = 1; slots * patch_rows * patch_columns <= kMaxWarps; slots *= 2) {
        if (slots > 1 && kLanes * slots / 2 >= problem.c) break;
        const Stage stage = make_stage(problem, unit, patch_rows * kPatch, patch_columns * kPatch, slots * kLanes);
        for (int splits = 1; splits <= kPortableCluster; splits *= 2) {
          if (splits > 1 && (device.clusters[splits - 2] == 0 || problem.c <= (splits - 1) * slots * kLanes)) break;
          Choice choice{patch_rows, patch_columns, slots, splits, 0, 0, 0, 0};
          weigh(problem, device, unit, stage, &choice);
          if (choice.shared > device.shared_memory_per_block) continue;
          if (best.slots == 0 || choice.cost < best.cost) best = choice;
        }
      }
    }
  }
  if (best.slots == 0) return "the input under a patch exceeds shared memory";

  plan->precision = Precision::kIeee;
  plan->gather = unit == Unit::kVector ? Gather::kChannels : Gather::kPixels;
  plan->tile_rows = best.patch_rows * kPatch;
  plan->tile_columns = best.patch_columns * kPatch;
  plan->tile_m = plan->tile_rows * plan->tile_columns;
  plan->tile_n = best.slots * kLanes;
  plan->tile_k = static_cast<int>(problem.r * problem.s);
  plan->stages = std::min(best.stages, kMaxBuffers);
  plan->splits = best.splits;
  plan->cluster = best.splits > 1 ? best.splits : 0;
  plan->blocks = best.tiles * best.splits;
  plan->threads = best.patch_rows * best.patch_columns * best.slots * kLanes;
  plan->shared_memory = best.shared;
  plan->workspace_bytes = 0;
  plan->reason = "a channel a lane, and each input in shared memory once for all of its windows";
  return nullptr;
}

const char* drawback(const Problem& problem, const Device& device, const Plan& /*plan*/) {
  if (problem.c < 24) return "fewer channels than a warp has lanes";
  // Of few pixels each thread waits for little; of many it is instructions that count: of copies, which several windows
  // have to share, and of lanes without a channel.
  const std::int64_t pixels = problem.n * problem.oh * problem.ow;
  if (pixels < 32 * device.sm_count) return nullptr;
  if (problem.stride_h > 1) return "windows that share too little for a copy in shared memory";
  if (4 * problem.c < 3 * round_up(problem.c, kLanes)) return "too many lanes without a channel";
  if (pixels < 64 * device.sm_count || problem.r > 3) return nullptr;
  const Unit unit = unit_of(problem);
  const std::int64_t least = unit == Unit::kPair ? 32 : unit == Unit::kVector ? 64 : 128;
  return problem.c < least ? "a small window of too few channels for a minimum over lanes" : nullptr;
}

}  // namespace convmin::depthwise
