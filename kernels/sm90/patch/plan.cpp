// Whether the patch kernel takes a problem, and with which patch. Host code only.
#include "sm90/patch/plan.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "common/fallback.h"
#include "common/planning.h"
#include "sm90/patch/tiles.h"
#include "sm90/weight.h"

namespace convmin::sm90::patch {
namespace {

std::int64_t operand_size(const Problem& problem, bool scaled) { return scaled ? 2 : element_size(problem.dtype); }
std::int64_t chunk_of(const Problem& problem, bool scaled) { return kRowBytes / operand_size(problem, scaled); }

// Estimated cycles, of all multiprocessors together or of one; so many bytes a cycle are a multiprocessor's share of
// the L2 cache where all read, and what it takes alone.
constexpr double kBytesPerCycle = 30, kMostBytesPerCycle = 38;
constexpr double kCyclesOfScaling = 15500;      // setting to zero, and two launches that find nothing to do
constexpr double kCyclesOfPack = 4000;          // of its launch
constexpr double kCyclesOfCopy = 2500;          // a launch's that is more than a pack
constexpr double kCopyBytesPerCycle = 3000;     // of all multiprocessors
constexpr double kCyclesOfCounters = 2500;      // to set them to zero, where the launch that packs doesn't
constexpr double kCyclesPerUnit = 1500;         // tables, the first loads
constexpr double kCyclesPerTap = 80;            // of a chunk: to wait for its filters, and to leave their place
constexpr double kCyclesPerResult = 0.08;       // of the epilogue, for an output of a block
constexpr double kCyclesPerMeeting = 4300;      // of units that share a tile, until the last has what the others left
constexpr double kCyclesPerSum = 0.09;          // of a part's sums, written or read
constexpr double kCyclesPerCut = 2500;          // of a share's ends, beside its parts of two sums
constexpr double kWorthACut = 1.03;             // for the memory that its sums take
constexpr double kCyclesPerSplit = 170;         // of a tile's minima, written or read
constexpr double kCyclesPerClusterSum = 0.135;  // the same in a cluster
constexpr double kCyclesOfLargeCluster = 2800;  // more, where that has more than eight blocks
constexpr double kLatency = 4000;               // from asking memory to having the answer, where all ask

// Time of a product of 64 output channels in halves of that of 128, in tiles of one and of two subtiles a consumer.
constexpr double kNarrowTile[] = {1.4, 1.12};

// A copy of so many bytes costs less than sm80's gathering, however few the output channels.
constexpr std::int64_t kSmallCopy = std::int64_t{16} << 20;

// Of the memory that a copy may take where there is another way: the operator is there to save memory.
constexpr std::int64_t kMostCopied = std::int64_t{1} << 27;

std::int64_t copied_bytes(const Problem& source, bool scaled) {
  if (!is_copied(source, scaled)) return 0;
  return source.n * source.h * source.w * source.groups * group_pitch(source, scaled) * operand_size(source, scaled);
}

double cycles_of_copy(const Problem& source, bool scaled) {
  if (!is_copied(source, scaled)) return 0;
  const double bytes = static_cast<double>(element_size(source.dtype) + operand_size(source, scaled));
  return kCyclesOfCopy + bytes * static_cast<double>(source.n * source.c * source.h * source.w) / kCopyBytesPerCycle +
         (scaled ? kCyclesOfScaling : 0);
}

double cycles_of_pack(const Problem& problem, bool scaled) {
  if (!packs_weight(problem, scaled)) return 0;
  const double bytes = static_cast<double>(element_size(problem.dtype) + operand_size(problem, scaled));
  return kCyclesOfPack + bytes * static_cast<double>(problem.k * problem.c / problem.groups * problem.r * problem.s) /
                             kCopyBytesPerCycle;
}

struct Choice {
  Patch patch{};
  bool scaled{};
  int per_consumer{}, tile_n{};
  std::int64_t slots{}, room{}, fixed{}, splits{}, parts{}, grains{}, tiles{};
  bool clustered{};  // the units that share a tile
  double cost = HUGE_VAL;
  double chunk{};  // cycles of a chunk
};

// How units share the tiles, and their estimated cycles; `counters` of those, where they meet through memory.
void weigh(const Problem& problem, const Device& device, double counters, Choice* choice) {
  const std::int64_t blocks_n = ceil_divide(problem.k / problem.groups, choice->tile_n);
  const std::int64_t blocks = problem.groups * blocks_n, taps = problem.r * problem.s;
  const std::int64_t chunks = ceil_divide(problem.c / problem.groups, chunk_of(problem, choice->scaled));
  const double outputs = static_cast<double>(kSubtile * kConsumers * choice->per_consumer) * choice->tile_n;
  const int planes = choice->patch.planes;
  const double patch_bytes = static_cast<double>(planes) * choice->patch.pixels * kRowBytes;
  const double weight_bytes = static_cast<double>(taps * choice->tile_n) * kRowBytes;
  // Four steps of 16 in K, 2048 a cycle. A narrow tile reads shared memory as fast as it goes.
  const double multiply =
      static_cast<double>(taps) *
      (outputs / 32 * (choice->tile_n == 64 ? kNarrowTile[choice->per_consumer - 1] : 1.0) + kCyclesPerTap);
  // Of so many blocks of output channels that one after another read the same input, at so many bytes a cycle.
  const auto chunk_cycles = [&](double together, double rate) {
    const double loads = chunks * planes <= choice->slots ? 1.0 / together : 1.0;
    return std::max(multiply, (weight_bytes + loads * patch_bytes) / rate);
  };
  const auto take = [&](double cost, std::int64_t splits, std::int64_t parts, std::int64_t grains, double chunk,
                        bool clustered) {
    if (cost >= choice->cost) return;
    choice->cost = cost, choice->splits = splits, choice->parts = parts, choice->grains = grains;
    choice->chunk = chunk, choice->clustered = clustered;
  };
  const auto consider = [&](std::int64_t splits, std::int64_t parts) {
    const std::int64_t units = choice->tiles * splits * parts, active = std::min<std::int64_t>(units, device.sm_count);
    const double rate = std::min(kMostBytesPerCycle, kBytesPerCycle * device.sm_count / static_cast<double>(active));
    const std::int64_t of_unit = ceil_divide(blocks, splits), chain = ceil_divide(chunks, parts);
    const double chunk = chunk_cycles(static_cast<double>(std::min(of_unit, blocks_n)), rate);
    double unit = kCyclesPerUnit +
                  static_cast<double>(of_unit) * (static_cast<double>(chain) * chunk + outputs * kCyclesPerResult);
    const std::int64_t sharing = splits * parts;
    const Landing landing = landing_of(kSubtile * kConsumers * choice->per_consumer, choice->tile_n, splits, parts);
    const std::int64_t operands = choice->room + kMinStages * std::int64_t{choice->tile_n} * kRowBytes;
    const bool clustered = sharing > 1 && sharing <= kMaxCluster && choice->tiles <= device.clusters[sharing - 2] &&
                           landing.sums + landing.minima <= operands;
    if (clustered) {
      // A part sends its sums, and adds up those that it is sent.
      if (parts > 1) unit += (outputs + static_cast<double>(landing.sums) / 4) * kCyclesPerClusterSum;
      if (sharing > kPortableCluster) unit += kCyclesOfLargeCluster;
    } else if (sharing > 1) {
      if (parts > 1) unit += static_cast<double>(parts + 1) * outputs * kCyclesPerSum;
      unit += static_cast<double>(splits - 1) * kCyclesPerSplit + kCyclesPerMeeting + counters;
    }
    const auto rounds = static_cast<double>(ceil_divide(choice->tiles, device.sm_count / sharing));
    take(rounds * unit, splits, parts, 0, chunk, clustered);
  };
  const std::int64_t splits = std::clamp<std::int64_t>(device.sm_count / choice->tiles, 1, blocks);
  const std::int64_t most =
      splits == blocks ? std::clamp<std::int64_t>(device.sm_count / (choice->tiles * splits), 1, chunks) : 1;
  for (std::int64_t parts = 1; parts <= most; ++parts) consider(splits, parts);
  for (std::int64_t fewer = std::min<std::int64_t>(splits - 1, kMaxCluster); fewer > 1; fewer /= 2) consider(fewer, 1);
  // More than multiprocessors: equal shares leave less of a last round unused, and least where they end within sums.
  if (choice->tiles * blocks <= device.sm_count) return;
  for (const std::int64_t grains : {std::int64_t{1}, chunks}) {
    const std::int64_t of_tile = blocks * grains, all = choice->tiles * of_tile;
    if (of_tile == 1 || all >= kMaxExtent) continue;
    const std::int64_t least = all / device.sm_count, share = ceil_divide(all, device.sm_count);
    const std::int64_t splits = blocks > 1 ? (of_tile - 2) / least + 2 : 1;  // at most; so many most often:
    const double sharing = static_cast<double>(std::min(splits, ceil_divide(of_tile * device.sm_count, all) + 1));
    const double chunk = chunk_cycles(grains > 1 ? 1.0 : static_cast<double>(blocks_n + 1) / 2, kBytesPerCycle);
    const double cut = grains > 1 ? kCyclesPerCut + outputs * (2 * kCyclesPerSum + kCyclesPerResult) : 0;
    const double cost = static_cast<double>(ceil_divide(share, of_tile) + 1) * kCyclesPerUnit + cut + counters +
                        (splits > 1 ? kCyclesPerMeeting + (sharing - 1) * kCyclesPerSplit : 0) +
                        static_cast<double>(share) / static_cast<double>(grains) *
                            (static_cast<double>(chunks) * chunk + outputs * kCyclesPerResult);
    take(grains > 1 ? kWorthACut * cost : cost, splits, 1, grains, chunk, false);
  }
}

// The cheapest of all tiles, of at most `widest` output channels; at no finite cost where none fits.
Choice choose(const Problem& original, const Problem& source, const Device& device, int widest) {
  const std::int64_t channels = source.c / source.groups;
  Choice best;
  for (const bool scaled : {false, true}) {
    if (scaled && (source.dtype != DType::kFloat32 || source.groups > 1 || channels < 16)) continue;
    if (scaled && copied_bytes(source, true) > kMostCopied) continue;
    const Problem problem = inner(original, scaled);
    const std::int64_t chunks = ceil_divide(channels, chunk_of(problem, scaled));
    const double counters = packs_weight(original, scaled) ? 0 : kCyclesOfCounters;
    const double before = cycles_of_copy(source, scaled) + cycles_of_pack(original, scaled);
    // Large tiles read the input and the weight less often, small ones fill the GPU.
    for (const auto& [per_consumer, runs_on] : {std::pair{2, false}, {2, true}, {1, false}, {1, true}}) {
      const Patch patch = runs_on ? make_run(problem, kSubtile * kConsumers * per_consumer)
                                  : choose_patch(problem, per_consumer, device.sm_count);
      if (patch.pixels == 0) continue;
      const std::int64_t slot = std::int64_t{patch.pixels} * kRowBytes, pieces = chunks * patch.planes;
      for (int tile_n = widest; tile_n >= 64; tile_n /= 2) {
        Choice choice;
        choice.patch = patch, choice.tiles = tiles_of(problem, patch);
        choice.scaled = scaled, choice.per_consumer = per_consumer, choice.tile_n = tile_n;
        choice.fixed = tables_of(problem, patch, tile_n, scaled).bytes + kSwizzleBytes +
                       kMinStages * std::int64_t{tile_n} * kRowBytes;
        choice.room = device.shared_memory_per_block - choice.fixed;
        choice.slots = std::min<std::int64_t>(kMaxSlots, choice.room / slot);
        if (choice.room < slot || (choice.slots < 2 && pieces > 1)) continue;
        weigh(problem, device, counters, &choice);
        choice.cost += before;
        if (choice.cost >= best.cost) continue;
        // All of a patch and one of the next, or enough for loads to arrive in time. What is left the weight gets.
        const double piece = choice.chunk / static_cast<double>(patch.planes);
        const std::int64_t ahead = std::max<std::int64_t>(1, std::llround(std::ceil(kLatency / piece)));
        choice.slots = std::min(choice.slots, pieces < choice.slots ? pieces + 1 : 1 + ahead);
        best = choice;
      }
    }
  }
  return best;
}

}  // namespace

Problem slice_of(Problem problem) {
  const std::int64_t least = ceil_divide(copied_bytes(simplified(problem), false), kMostCopied);
  if (least < 2) return problem;
  // Each slice packs the weight and fills the GPU anew: not many more than have to be.
  for (std::int64_t slices = least; slices <= std::min(2 * least, problem.n); ++slices) {
    if (problem.n % slices != 0) continue;
    problem.n /= slices;
    break;
  }
  return problem;
}

bool copies_too_much(const Problem& problem) {
  return copied_bytes(simplified(slice_of(problem)), problem.dtype == DType::kFloat32) > kMostCopied;
}

bool is_scaled(const Problem& problem, const Plan& plan) {
  return problem.dtype == DType::kFloat32 && plan.tile_k == chunk_of(problem, true);
}

bool packs_weight(const Problem& problem, bool scaled) {
  const std::int64_t extents[] = {problem.k, 1, problem.r, problem.s};
  for (const int axis : {0, 2, 3}) {  // the copy engine takes no stride of zero
    if (extents[axis] > 1 && problem.weight_strides[axis] == 0) return true;
  }
  return scaled || !weight_vectors_fit(problem);
}

bool is_copied(const Problem& problem, bool scaled) { return scaled || !vectors_fit(simplified(problem)); }

std::int64_t group_pitch(const Problem& problem, bool scaled) {
  return round_up(problem.c / problem.groups, 16 / operand_size(problem, scaled));
}

Problem inner(const Problem& original, bool scaled) {
  Problem problem = simplified(original);
  if (!is_copied(problem, scaled)) return problem;
  const std::int64_t pixel = problem.groups * group_pitch(problem, scaled);
  const std::int64_t strides[] = {problem.h * problem.w * pixel, 1, problem.w * pixel, pixel};
  std::copy(std::begin(strides), std::end(strides), problem.input_strides);
  return simplified(problem);
}

bool vectors_fit(const Problem& problem) {
  const std::int64_t element = element_size(problem.dtype), pack = 16 / element;
  const std::int64_t extents[] = {problem.n, problem.c, problem.h, problem.w};
  for (const int axis : {0, 2, 3}) {
    const std::int64_t stride = problem.input_strides[axis];
    if (stride % pack != 0) return false;
    // What the copy engine takes; the stride of a single element is never used.
    if (extents[axis] > 1 && (stride == 0 || stride * element >= std::int64_t{1} << 40)) return false;
  }
  return problem.input_strides[1] == 1 && problem.input_alignment % 16 == 0 && problem.c / problem.groups % pack == 0;
}

int pixels_together(const Problem& problem) {
  for (const int count : {4, 2}) {
    bool fits = problem.input_strides[3] == 1 && problem.w % count == 0 &&
                problem.input_alignment % (count * element_size(problem.dtype)) == 0;
    for (const int axis : {0, 1, 2}) fits = fits && problem.input_strides[axis] % count == 0;
    if (fits) return count;
  }
  return 1;
}

Workspace workspace(const Problem& original, const Plan& plan) {
  const bool scaled = is_scaled(original, plan);
  const Problem source = simplified(original), problem = inner(original, scaled);
  Workspace result{};
  const std::int64_t packed = problem.groups * ceil_divide(problem.k / problem.groups, plan.tile_n) *
                              ceil_divide(problem.c / problem.groups, plan.tile_k) * problem.r * problem.s *
                              plan.tile_n * kRowBytes;
  result.counters = packs_weight(original, scaled) ? packed : 0;
  const std::int64_t pixels = problem.n * problem.oh * problem.ow, tiles = tiles_of(problem, patch_of(problem, plan));
  const bool through_memory = plan.cluster <= 1, split = through_memory && plan.splits > 1;
  const bool added = through_memory && (plan.parts > 1 || plan.grains > 1);
  const std::int64_t sums = plan.grains > 0 ? plan.blocks : tiles * plan.splits;
  result.counter_count = split || added ? tiles + sums : 0;
  result.partials = result.counters + 4 * round_up(result.counter_count, 4);
  const std::int64_t left = sums * (plan.parts > 2 ? plan.parts : 1);
  result.values = result.partials + (added ? 4 * left * plan.tile_m * plan.tile_n : 0);
  result.channels = result.values + (split ? 4 * plan.splits * pixels : 0);
  result.factors = round_up(result.channels + (split && problem.with_indices ? 4 * plan.splits * pixels : 0), 16);
  result.fallback = result.factors + (scaled ? 4 * round_up(problem.k, 4) : 0);
  result.seen = result.fallback + (scaled ? 16 : 0);
  result.runs = result.seen + (scaled ? seen_bytes(problem.c / problem.groups) : 0);
  const std::int64_t inputs = source.n * source.h * source.w;
  result.tiles = result.runs + (scaled ? 4 * round_up(ceil_divide(inputs, kCopyPixels), 4) : 0);
  result.copy = round_up(result.tiles + (scaled ? 8 * ceil_divide(pixels, kFallbackTile) : 0), 128);
  result.bytes = result.copy + copied_bytes(source, scaled);
  return result;
}

Tables tables_of(const Problem& problem, const Patch& patch, int tile_n, bool scaled) {
  Tables tables{};
  tables.taps = kBarrierBytes;
  tables.planes = tables.taps + static_cast<int>(4 * round_up(problem.r * problem.s, 4));
  tables.addends = tables.planes + static_cast<int>(4 * round_up(patch.planes, 4));
  const std::int64_t channels = problem.groups * round_up(problem.k / problem.groups, tile_n);
  tables.factors = tables.addends + static_cast<int>(4 * channels);
  tables.bytes = tables.factors + (scaled ? static_cast<int>(4 * channels) : 0) + 16;
  return tables;
}

Landing landing_of(std::int64_t tile_m, std::int64_t tile_n, std::int64_t splits, std::int64_t parts) {
  const std::int64_t pieces = ceil_divide(kConsumerWarps, std::min<std::int64_t>(parts, kConsumerWarps));
  const std::int64_t sums = parts > 1 ? 4 * tile_m * tile_n / kConsumerWarps * pieces * parts : 0;
  return {sums, splits > 1 ? 8 * tile_m * splits : 0};
}

int stages_of(const Problem& problem, const Patch& patch, const Plan& plan) {
  const int used = tables_of(problem, patch, plan.tile_n, is_scaled(problem, plan)).bytes + kSwizzleBytes +
                   plan.stages * patch.pixels * kRowBytes;
  return std::min((plan.shared_memory - used) / (plan.tile_n * kRowBytes), kMaxStages);
}

Problem simplified(Problem problem) {
  if (problem.r == 1 && problem.padding_h == 0) {
    problem.h = problem.oh;
    problem.input_strides[2] *= problem.stride_h;
    problem.stride_h = problem.dilation_h = 1;
  }
  if (problem.s == 1 && problem.padding_w == 0) {
    problem.w = problem.ow;
    problem.input_strides[3] *= problem.stride_w;
    problem.stride_w = problem.dilation_w = 1;
  }
  if (rows_are_one(problem)) {
    problem.w = problem.ow = problem.w * problem.h;
    problem.h = problem.oh = 1;
    const std::int64_t pixels = problem.n * problem.w;
    if (problem.input_strides[0] == problem.w * problem.input_strides[3] && pixels < kMaxExtent) {
      problem.w = problem.ow = pixels;
      problem.n = 1;
    }
  }
  return problem;
}

const char* plan(const Problem& whole, const Device& device, Plan* plan) {
#ifdef CONVMIN_WITHOUT_SM90
  return "this build has no code for sm_90a";
#endif
  if (device.major != 9) return "needs a Hopper GPU (compute capability 9.0)";
  if (const char* reason = tensor_cores_refuse(whole)) return reason;
  const Problem original = slice_of(whole);
  for (const std::int64_t extent :
       {original.h + 2 * original.padding_h, original.w + 2 * original.padding_w, original.c, original.stride_h,
        original.stride_w, original.n * original.oh * original.ow}) {
    if (extent >= kMaxExtent) return "an extent, or the number of output pixels, is 2^30 or more";
  }
  const Problem source = simplified(original);
  const std::int64_t channels = source.c / source.groups, outputs = source.k / source.groups;
  // One step of the tensor cores is 32 bytes of channels.
  if (channels * element_size(source.dtype) < 32) return "fewer input channels in a group than the tensor cores take";
  if (outputs < 32 && source.groups > 1) return "fewer output channels in a group than the tensor cores take";
  const std::int64_t image = source.h * source.w;
  if (image >= kMaxExtent || source.n * image > (std::int64_t{1} << 38) / source.c)
    return "an image of 2^30 pixels, or an input of 2^38 elements, or more";
  if (is_copied(source, false) && source.n * image >= kMaxExtent) return "a copy of 2^30 pixels or more";

  const int widest = round_up(outputs, 64) < round_up(outputs, 128) ? 64 : 128;
  if (source.groups * round_up(outputs, widest) > kMaxOutputs) return "more than 4096 output channels";
  if (source.r * source.s > kMaxTaps) return "a kernel of more than 1024 elements";
  if (source.stride_h > kMaxStride || source.stride_w > kMaxStride) return "a stride of more than 8 rows or columns";

  const Choice best = choose(original, source, device, widest);
  if (best.cost == HUGE_VAL) return "the input under an output tile exceeds shared memory";

  const std::int64_t slot = std::int64_t{best.patch.pixels} * kRowBytes, stage = std::int64_t{best.tile_n} * kRowBytes;
  const std::int64_t stages =
      std::clamp<std::int64_t>(kMinStages + (best.room - best.slots * slot) / stage, kMinStages, kMaxStages);
  const std::int64_t sharing = best.splits * best.parts;
  plan->images = original.n;
  plan->stages = static_cast<int>(best.slots);
  plan->tile_m = kSubtile * kConsumers * best.per_consumer;
  plan->tile_rows = best.patch.runs_on ? 0 : best.patch.height;
  plan->tile_columns = best.patch.width;
  plan->splits = static_cast<int>(best.splits);
  plan->parts = static_cast<int>(best.parts);
  plan->grains = static_cast<int>(best.grains);
  plan->blocks = best.grains > 0 || best.tiles > device.sm_count
                     ? device.sm_count
                     : std::min<std::int64_t>(device.sm_count / sharing, best.tiles) * sharing;
  plan->cluster = best.clustered ? static_cast<int>(sharing) : 0;
  plan->shared_memory = static_cast<int>(best.fixed + best.slots * slot + (stages - kMinStages) * stage);
  if (best.clustered) {
    const Landing landing = landing_of(plan->tile_m, plan->tile_n, plan->splits, plan->parts);
    plan->shared_memory = std::max(plan->shared_memory,
                                   static_cast<int>(best.fixed - kMinStages * stage + landing.sums + landing.minima));
  }
  const bool channels_inside = original.input_strides[1] < original.input_strides[3] && original.c > 1;
  plan->precision = Precision::kTf32;
  plan->gather = channels_inside ? Gather::kChannels : Gather::kPixels;
  plan->tile_n = best.tile_n;
  plan->tile_k = static_cast<int>(chunk_of(source, best.scaled));
  plan->threads = kThreads;
  plan->fallback_blocks = best.scaled ? 2 * device.sm_count : 0;
  plan->workspace_bytes = workspace(original, *plan).bytes;
  plan->reason = is_copied(source, best.scaled)
                     ? "tensor cores (wgmma), over a copy of the input in vectors of channels, minimum in registers"
                     : "tensor cores (wgmma), weight streamed through shared memory, minimum in registers";
  return nullptr;
}

const char* drawback(const Problem& whole, const Device& device, const Plan& plan) {
  const Problem problem = slice_of(whole);
  const Problem source = simplified(problem);
  const std::int64_t copied = copied_bytes(source, is_scaled(problem, plan));
  if (copied > kMostCopied) return "a copy of the input in vectors of channels would take more than 128 MiB";
  const std::int64_t outputs = problem.k / problem.groups, taps = problem.r * problem.s;
  if (copied > kSmallCopy && outputs * taps < 64)
    return "too few output channels for a copy of the input in vectors of channels";
  const std::int64_t chunks = ceil_divide(problem.c / problem.groups, plan.tile_k);
  // A subtile is 8 columns of pixels, unless tiles run on. Where at least half of them lie beyond the image, mma.sync's
  // tiles, which are as narrow as the image, multiply faster, if there are enough of them; but float32 in NCHW takes
  // them too long to bring.
  const bool brings_slowly = problem.dtype == DType::kFloat32 && problem.input_strides[1] != 1;
  const bool large =
      problem.groups == 1 && outputs > 64 && problem.n * problem.oh * problem.ow >= 256 * device.sm_count;
  if (plan.tile_rows > 0 && large && !brings_slowly && inner(problem, is_scaled(problem, plan)).ow <= 4)
    return "half of its tiles would lie beyond the narrow image";
  // A unit's sums are one chain.
  const std::int64_t blocks = problem.groups * ceil_divide(outputs, plan.tile_n);
  const std::int64_t chain = ceil_divide(blocks, plan.splits) * ceil_divide(chunks, plan.parts) * taps;
  if (plan.blocks < device.sm_count / 6 && chain > 48) return "few tiles with long sums each";
  return nullptr;
}

}  // namespace convmin::sm90::patch
