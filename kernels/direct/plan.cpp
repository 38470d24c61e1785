// How the direct kernel shares a problem out over threads. Host code only.
#include "direct/plan.h"

#include <algorithm>

#include "common/planning.h"
#include "direct/tiles.h"

namespace convmin::direct {
namespace {

constexpr std::int64_t kMaxRuns = (std::int64_t{1} << 31) - (2 * kThreads);
constexpr std::int64_t kMaxGroup = 8;  // channels of a group, in or out
constexpr int kMaxSlots = 64;          // that are no neighbours
constexpr int kWarp = 32;

// Estimated cycles.
constexpr double kLatency = 600;         // of loads that are waited for together
constexpr double kCyclesPerTile = 2000;  // addresses, the first of the weight
constexpr double kCyclesPerMerge = 10;   // of two threads' candidates or sums

// Whether threads take vectors of channels: with groups, where each is one channel.
bool vectors_fit(const Problem& problem) {
  const bool single = problem.c == problem.groups && problem.k == problem.groups;
  return (problem.groups == 1 || single) && channel_vectors_fit(problem, problem.c, kVectorBytes);
}

int window_of(const Problem& problem, int rows, int vector) {
  const bool few = problem.groups > 1 || (problem.k <= kMaxWindowOutputs && problem.stride_h == 1);
  const bool plain = problem.dilation_h == 1 && keeps_window(problem.r, problem.stride_h, vector);
  return few && rows == kManyRows && plain ? static_cast<int>(problem.r) : 0;
}

// Whether there is a kernel of so many rows.
bool has_rows(const Problem& problem, int rows, int vector) {
  if (problem.groups > 1) return rows != kFewRows;
  return rows == kFewRows || (rows == kManyRows && window_of(problem, rows, vector) > 0);
}

struct Choice {
  int rows, slots;
  std::int64_t tiles;
  double cost;
};

// 128-byte lines that a warp's load of the input touches. `inside`: neighbouring lanes have neighbouring vectors of a
// run's channels, else neighbouring runs.
std::int64_t lines_of(const Problem& problem, int vector, int slots, bool inside) {
  const std::int64_t lanes = std::min(kWarp, inside ? slots : kThreads / slots);
  const std::int64_t bytes = element_size(problem.dtype) * (inside ? vector : problem.stride_w);
  return kWarp / lanes * std::min(lanes, ceil_divide(lanes * bytes, 128));
}

// Cycles: what a thread waits for, one round of blocks after the other, and what all threads of a multiprocessor load.
Choice weigh(const Problem& problem, int vector, int rows, int slots, bool inside, const Device& device,
             std::int64_t resident) {
  const std::int64_t runs = problem.n * ceil_divide(problem.oh, rows) * problem.ow;
  const std::int64_t tiles = ceil_divide(runs, kThreads / slots);
  const int window = window_of(problem, rows, vector);
  const std::int64_t taps = problem.r * problem.s;
  const std::int64_t columns = problem.groups > 1 ? 1 : std::min<std::int64_t>(problem.k, kMaxOutputs);
  const std::int64_t items = (problem.groups > 1 ? problem.k : problem.c) / vector;
  const std::int64_t channels =
      ceil_divide(items, slots) * (problem.groups > 1 && vector == 1 ? problem.c / problem.groups : 1);  // of a thread
  const std::int64_t input = window > 0 ? ((rows - 1) * problem.stride_h + window) * problem.s : rows * taps;
  const std::int64_t loads = input * lines_of(problem, vector, slots, inside) + columns * taps * (vector > 1 ? 4 : 1);
  const std::int64_t trips = window > 0
                                 ? ceil_divide(problem.s, problem.s == window ? columns_together(vector, window) : 1)
                                 : problem.r * ceil_divide(problem.s, taps_together(rows));
  int levels = 0;
  while ((1 << levels) < slots) ++levels;
  const double waiting = kCyclesPerTile + static_cast<double>(channels * trips) * kLatency +
                         kCyclesPerMerge * static_cast<double>(rows * columns * levels);
  const double loading =
      static_cast<double>(ceil_divide(tiles, device.sm_count) * (kThreads / kWarp) * channels * loads);
  return {rows, slots, tiles, static_cast<double>(ceil_divide(tiles, resident)) * waiting + loading};
}

}  // namespace

WeightRows weight_rows(const Problem& problem) {
  const std::int64_t taps = problem.r * problem.s;
  WeightRows result{};
  result.rows = (problem.groups > 1 ? problem.c / problem.groups : problem.k) * taps;
  result.channels = problem.groups > 1 ? problem.k : problem.c;
  // Rows start 16 bytes further in the banks each, for stores that walk taps.
  result.pitch = round_up(result.channels * element_size(problem.dtype), 128) + kVectorBytes;
  result.bytes = (result.rows + (problem.groups > 1 ? 1 : 0)) * result.pitch;
  return result;
}

Variant variant_of(const Problem& problem, const Plan& plan) {
  const int outputs = problem.groups > 1 ? 0 : problem.k > 2 ? kMaxOutputs : static_cast<int>(problem.k);
  return {plan.tile_k, plan.tile_rows, outputs, plan.taps, static_cast<int>(problem.stride_h)};
}

const char* plan(const Problem& problem, const Device& device, Plan* plan) {
  if (problem.dtype == DType::kFloat64) return "float64 has no direct kernel";
  if (problem.n == 0) return "an empty batch";
  if (problem.groups == 1 && problem.k > kMaxOutputs) return "more than 4 output channels, and no groups";
  if (problem.groups > 1 && std::max(problem.c, problem.k) / problem.groups > kMaxGroup) {
    return "more than 8 channels a group";
  }
  if (std::max(largest_extent(problem), problem.k * problem.r * problem.s) >= kMaxExtent) {
    return "an extent is 2^30 or more";
  }
  if (problem.n * problem.oh * problem.ow >= kMaxRuns) return "2^31 output pixels or more";
  const std::int64_t shared = kExchangeBytes + weight_rows(problem).bytes;
  if (shared > device.shared_memory_per_block) return "the weight exceeds shared memory";

  const bool vectors = vectors_fit(problem);
  const int vector = vectors ? static_cast<int>(kVectorBytes / element_size(problem.dtype)) : 1;
  const bool channels_inside = problem.input_strides[1] < problem.input_strides[3] && problem.c > 1;
  const std::int64_t items = (problem.groups > 1 ? problem.k : problem.c) / vector;
  const std::int64_t fitting = std::max<std::int64_t>(device.shared_memory_per_sm / (shared + kReservedShared), 1);
  const std::int64_t resident = device.sm_count * std::min<std::int64_t>(fitting, blocks_per_sm(vector));

  // Neighbouring lanes share a run where channels are neighbours in memory: enough of them for whole lines. Else few
  // pixels may have more threads, which then meet in shared memory.
  const bool inside = vectors || channels_inside;
  const int fewest = inside ? 8 : 1, most = inside ? kThreads : kMaxSlots;
  Choice best{};
  for (const int rows : {kManyRows, kFewRows, 1}) {
    if (!has_rows(problem, rows, vector)) continue;
    for (int slots = 1; slots <= most; slots *= 2) {
      if (slots > 1 && slots / 2 >= items) break;
      if (slots < fewest && slots < items) continue;
      const Choice choice = weigh(problem, vector, rows, slots, inside, device, resident);
      if (best.slots == 0 || choice.cost < best.cost) best = choice;
    }
  }

  plan->precision = Precision::kIeee;
  plan->gather = vectors || channels_inside ? Gather::kChannels : Gather::kPixels;
  plan->tile_rows = best.rows;
  plan->tile_columns = kThreads / best.slots;
  plan->tile_m = plan->tile_rows * plan->tile_columns;
  plan->tile_n = problem.groups > 1 ? vector : variant_of(problem, *plan).outputs;
  plan->tile_k = vector;
  plan->taps = window_of(problem, best.rows, vector);
  plan->splits = 1;
  plan->blocks = std::min(best.tiles, resident);
  // More blocks hide each other's waiting, and of pixels in rows a thread would ask for too little at a time.
  plan->prefetched = inside && plan->blocks <= device.sm_count;
  plan->threads = kThreads;
  plan->shared_memory = static_cast<int>(shared);
  plan->workspace_bytes = 0;
  plan->reason = problem.groups > 1 ? "groups of few channels: each output channel in one thread's registers"
                                    : "very few output channels: sums over input channels by threads";
  return nullptr;
}

const char* drawback(const Problem& problem, const Device& device, const Plan& plan) {
  if (problem.groups > 1 || problem.k < 3 || device.major < 8 || tensor_cores_refuse(problem) != nullptr)
    return nullptr;
  // sm80 refuses 3 of a tile's 32 channels in float32, and sm90_patch a copy for so few.
  if (problem.k == 3 && problem.dtype == DType::kFloat32 && plan.gather == Gather::kPixels) return nullptr;
  return "tensor cores are faster from 3 output channels on";
}

}  // namespace convmin::direct
