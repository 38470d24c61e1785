// Whether the patch kernel takes a problem, and with which patch. Host code only.
#include "sm90/patch/plan.h"

#include <algorithm>
#include <cmath>

#include "common/planning.h"
#include "sm90/patch/tiles.h"

namespace convmin::sm90::patch {
namespace {

std::int64_t element_size(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

Patch make_patch(const Problem& problem, int subtile_w, int subtiles_n, int subtiles_y, int subtiles_x) {
  Patch patch{};
  patch.subtile_h = kSubtile / subtile_w;
  patch.subtile_w = subtile_w;
  patch.subtiles_n = subtiles_n, patch.subtiles_y = subtiles_y, patch.subtiles_x = subtiles_x;
  patch.height = subtiles_y * patch.subtile_h;
  patch.width = subtiles_x * patch.subtile_w;
  const auto halo = [](std::int64_t outputs, std::int64_t stride, std::int64_t taps, std::int64_t dilation) {
    return std::min<std::int64_t>((outputs - 1) * stride + (taps - 1) * dilation + 1, 1 << 20);
  };
  patch.halo_h = static_cast<int>(halo(patch.height, problem.stride_h, problem.r, problem.dilation_h));
  patch.planes = static_cast<int>(problem.stride_w);
  const std::int64_t halo_w = halo(patch.width, problem.stride_w, problem.s, problem.dilation_w);
  patch.plane = static_cast<int>(ceil_divide(halo_w, problem.stride_w));
  patch.pitch = patch.planes * patch.plane;
  const std::int64_t image = std::min<std::int64_t>(std::int64_t{patch.halo_h} * patch.pitch, 1 << 24);
  patch.image_pixels = static_cast<int>(image);
  // Whole groups of 8 pixels keep every slot aligned to the swizzle.
  patch.pixels = static_cast<int>(round_up(image * subtiles_n, 8));
  return patch;
}

// Of `per_consumer` subtiles for each consumer.
Patch choose_patch(const Problem& problem, int per_consumer, int sm_count) {
  const int subtiles = kConsumers * per_consumer;
  Patch best{};
  double least = HUGE_VAL;
  for (const int width : {8, 64}) {
    for (int x = 1; x <= subtiles; x *= 2) {
      for (int y = 1; x * y <= subtiles; y *= 2) {
        const Patch patch = make_patch(problem, width, subtiles / (x * y), y, x);
        // Rounds of the multiprocessors, and a little for input that neighbours load as well.
        const auto rounds = static_cast<double>(ceil_divide(tiles_of(problem, patch), sm_count));
        const double cost = rounds * (1.0 + 0.1 * patch.pixels / (kSubtile * subtiles));
        if (patch.pixels <= kMaxPixels && cost < least) least = cost, best = patch;
      }
    }
  }
  return best;
}

}  // namespace

std::int64_t tiles_of(const Problem& problem, const Patch& patch) {
  return ceil_divide(problem.n, patch.subtiles_n) * ceil_divide(problem.oh, patch.height) *
         ceil_divide(problem.ow, patch.width);
}

int chunk_of(DType dtype) { return static_cast<int>(kRowBytes / element_size(dtype)); }

bool vectors_fit(const Problem& problem) {
  const std::int64_t element = element_size(problem.dtype), pack = 16 / element;
  for (const int axis : {0, 2, 3}) {
    if (problem.input_strides[axis] % pack != 0) return false;
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

Workspace workspace(const Problem& problem, const Plan& plan) {
  Workspace result{};
  result.counters = problem.groups * ceil_divide(problem.k / problem.groups, plan.tile_n) *
                    ceil_divide(problem.c / problem.groups, chunk_of(problem.dtype)) * problem.r * problem.s *
                    plan.tile_n * kRowBytes;
  const bool split = plan.splits > 1;
  const std::int64_t pixels = problem.n * problem.oh * problem.ow;
  result.values = result.counters + (split ? 4 * round_up(tiles_of(problem, patch_of(problem, plan)), 4) : 0);
  result.channels = result.values + (split ? 4 * plan.splits * pixels : 0);
  result.bytes = result.channels + (split && problem.with_indices ? 4 * plan.splits * pixels : 0);
  return result;
}

Tables tables_of(const Problem& problem, const Patch& patch, int tile_n) {
  Tables tables{};
  tables.offsets = kBarrierBytes;
  tables.taps = tables.offsets + 8 * patch.pixels;
  tables.addends = tables.taps + static_cast<int>(4 * round_up(problem.r * problem.s, 4));
  const std::int64_t channels = problem.groups * round_up(problem.k / problem.groups, tile_n);
  tables.bytes = tables.addends + static_cast<int>(4 * channels) + 16;
  return tables;
}

int stages_of(const Problem& problem, const Patch& patch, const Plan& plan) {
  const int used =
      tables_of(problem, patch, plan.tile_n).bytes + kSwizzleBytes + plan.stages * patch.pixels * kRowBytes;
  return (plan.shared_memory - used) / (plan.tile_n * kRowBytes);
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
  const bool pointwise = problem.r == 1 && problem.s == 1 && problem.padding_h == 0 && problem.padding_w == 0;
  if (pointwise && problem.input_strides[2] == problem.w * problem.input_strides[3]) {
    problem.w = problem.ow = problem.w * problem.h;
    problem.h = problem.oh = 1;
  }
  return problem;
}

Patch patch_of(const Problem& problem, const Plan& plan) {
  const int subtile_w = plan.tile_columns < kSubtile ? 8 : kSubtile, subtile_h = kSubtile / subtile_w;
  return make_patch(problem, subtile_w, plan.tile_m / (plan.tile_rows * plan.tile_columns), plan.tile_rows / subtile_h,
                    plan.tile_columns / subtile_w);
}

const char* plan(const Problem& original, const Device& device, Plan* plan) {
#ifdef CONVMIN_WITHOUT_SM90
  return "this build has no code for sm_90a";
#endif
  if (device.major != 9) return "needs a Hopper GPU (compute capability 9.0)";
  if (const char* reason = tensor_cores_refuse(original)) return reason;
  for (const std::int64_t extent :
       {original.h + 2 * original.padding_h, original.w + 2 * original.padding_w, original.c, original.stride_h,
        original.stride_w, original.n * original.oh * original.ow}) {
    if (extent >= std::int64_t{1} << 30) return "an extent, or the number of output pixels, is 2^30 or more";
  }
  const Problem problem = simplified(original);
  const std::int64_t channels = problem.c / problem.groups, outputs = problem.k / problem.groups;
  // One step of the tensor cores is 32 bytes of channels.
  if (channels * element_size(problem.dtype) < 32) return "fewer input channels in a group than the tensor cores take";
  if (outputs < 32 && problem.groups > 1) return "fewer output channels in a group than the tensor cores take";

  const int tile_n = round_up(outputs, 64) < round_up(outputs, 128) ? 64 : 128;
  const std::int64_t blocks_n = ceil_divide(outputs, tile_n);
  if (problem.groups * blocks_n * tile_n > kMaxOutputs) return "more than 4096 output channels";
  if (problem.r * problem.s > kMaxTaps) return "a kernel of more than 1024 elements";
  const std::int64_t chunks = ceil_divide(channels, chunk_of(problem.dtype));
  const std::int64_t stage = std::int64_t{tile_n} * kRowBytes;

  // Large tiles read the weight less often, small ones fill the GPU.
  double least = HUGE_VAL;
  for (const int per_consumer : {2, 1}) {
    const Patch patch = choose_patch(problem, per_consumer, device.sm_count);
    if (patch.pixels == 0) continue;
    const std::int64_t fixed = tables_of(problem, patch, tile_n).bytes + kSwizzleBytes + kMinStages * stage;
    const std::int64_t slot = std::int64_t{patch.pixels} * kRowBytes;
    const std::int64_t room = device.shared_memory_per_block - fixed;
    std::int64_t slots = std::min<std::int64_t>(kMaxSlots, room / slot);
    if (room < slot || (slots < 2 && chunks > 1)) continue;
    const std::int64_t tiles = tiles_of(problem, patch);
    // Too few tiles to fill the GPU: units share a tile, a run of the tiles of output channels each.
    const std::int64_t blocks = problem.groups * blocks_n;
    const std::int64_t splits = std::clamp<std::int64_t>(device.sm_count / tiles, 1, blocks);
    const double cost =
        static_cast<double>(ceil_divide(tiles * splits, device.sm_count) * ceil_divide(blocks, splits)) *
        (per_consumer == 2 ? 1.9 : 1.0);
    if (cost >= least) continue;
    least = cost;
    // What the input does not need, the weight gets.
    const std::int64_t wanted = std::max<std::int64_t>(2, chunks <= slots - 1 ? chunks + 1 : 2);
    if (slots > wanted) slots = wanted;
    const std::int64_t stages =
        std::clamp<std::int64_t>(kMinStages + (room - slots * slot) / stage, kMinStages, kMaxStages);
    plan->stages = static_cast<int>(slots);
    plan->tile_m = kSubtile * kConsumers * per_consumer;
    plan->tile_rows = patch.height;
    plan->tile_columns = patch.width;
    plan->splits = static_cast<int>(splits);
    plan->blocks = std::min<std::int64_t>(device.sm_count / splits, tiles) * splits;
    plan->shared_memory = static_cast<int>(fixed + slots * slot + (stages - kMinStages) * stage);
  }
  if (least == HUGE_VAL) return "the input under an output tile exceeds shared memory";

  const bool channels_inside = original.input_strides[1] < original.input_strides[3] && original.c > 1;
  plan->precision = Precision::kTf32;
  plan->gather = channels_inside ? Gather::kChannels : Gather::kPixels;
  plan->tile_n = tile_n;
  plan->tile_k = chunk_of(problem.dtype);
  plan->threads = kThreads;
  plan->fallback_blocks = 0;
  plan->workspace_bytes = workspace(problem, *plan).bytes;
  plan->reason = "tensor cores (wgmma), weight streamed through shared memory, minimum in registers";
  return nullptr;
}

const char* drawback(const Problem& problem, const Device& device, const Plan& plan) {
  const std::int64_t chunks = ceil_divide(problem.c / problem.groups, chunk_of(problem.dtype));
  const std::int64_t blocks_n = ceil_divide(problem.k / problem.groups, plan.tile_n),
                     blocks = problem.groups * blocks_n;
  const std::int64_t taps = problem.r * problem.s;
  const bool resident = chunks <= plan.stages;
  // Three warps transpose more slowly than the tensor cores multiply, but for many output channels once.
  if (plan.gather == Gather::kPixels && !(resident && blocks_n >= 4)) return "NCHW, whose pixels it transposes slowly";
  if (taps == 1 && !resident) return "a 1 x 1 kernel over more input channels than stay in shared memory";
  // A unit's sums are one chain, which sm80 can cut. In float32 that pays later.
  const std::int64_t chain = ceil_divide(blocks, plan.splits) * chunks * taps;
  const int few = problem.dtype == DType::kFloat32 ? device.sm_count / 6 : device.sm_count / 2;
  if (plan.blocks < few && chain > 48) return "few tiles with long sums each";
  return nullptr;
}

}  // namespace convmin::sm90::patch
