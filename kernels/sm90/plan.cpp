// Whether the Hopper kernel takes a problem, and with which tile. Host code only.
#include "sm90/plan.h"

#include <algorithm>
#include <cmath>

#include "common/planning.h"
#include "sm90/patch/plan.h"
#include "sm90/tiles.h"

namespace convmin::sm90 {
namespace {

// Below this share of useful work in the padded multiplication the portable kernel is faster.
constexpr double kMinUtilization = 0.1;

bool vectors_fit(const Problem& problem) {
  const std::int64_t element = element_size(problem.dtype);
  const std::int64_t* strides = problem.input_strides;
  for (const int axis : {0, 2, 3}) {
    if (strides[axis] * element % 16 != 0) return false;
  }
  return strides[1] == 1 && problem.input_alignment % 16 == 0 && problem.c % 8 == 0;
}

}  // namespace

bool quads_fit(const Problem& problem) {
  const std::int64_t element = element_size(problem.dtype);
  for (const int axis : {0, 1, 2}) {
    if (problem.input_strides[axis] % 4 != 0) return false;
  }
  // What a first quad leaves over at the strip's end adds to the halo.
  if ((problem.s - 1) * problem.dilation_w > kMaxHalo - 3) return false;
  return problem.input_strides[3] == 1 && problem.w % 4 == 0 && problem.input_alignment % (4 * element) == 0;
}

Shape shape_of(const Problem& problem, int tile_n) {
  Shape shape{};
  shape.chunks = ceil_divide(problem.c, kChunk);
  shape.blocks_n = ceil_divide(problem.k, tile_n);
  shape.strips = ceil_divide(problem.ow, kTileM);
  shape.window = (problem.r - 1) * problem.dilation_h + 1;
  // Whole groups of 8 pixels keep every slot aligned to the swizzle.
  shape.row_pixels = round_up(kTileM + (problem.s - 1) * problem.dilation_w, 8);
  shape.weight_bytes = problem.r * problem.s * shape.chunks * shape.blocks_n * tile_n * kRowBytes;
  shape.slot_bytes = shape.chunks * shape.row_pixels * kRowBytes;
  return shape;
}

const char* plan(const Problem& problem, const Device& device, Plan* plan) {
#ifdef CONVMIN_WITHOUT_SM90
  return "this build has no code for sm_90a";
#endif
  if (device.major != 9) return "needs a Hopper GPU (compute capability 9.0)";
  if (const char* reason = tensor_cores_refuse(problem)) return reason;
  if (problem.groups != 1) return "groups";
  if (problem.stride_h != 1 || problem.stride_w != 1) return "stride other than 1";
  if ((problem.s - 1) * problem.dilation_w > kMaxHalo) return "the window is wider than 16 pixels beyond its first";
  const bool channels_inside = problem.input_strides[1] < problem.input_strides[3];
  if (channels_inside && !vectors_fit(problem)) return "channels_last input that 16-byte loads don't fit";
  for (const std::int64_t extent : {problem.h + 2 * problem.padding_h, problem.w + 2 * problem.padding_w, problem.c}) {
    if (extent >= kMaxExtent) return "an extent is 2^30 or more";
  }

  const int tile_n = problem.k <= 64 ? 64 : 128;
  const Shape shape = shape_of(problem, tile_n);
  if (problem.n * shape.strips * problem.oh >= std::int64_t{1} << 31) return "2^31 rows of 128 pixels or more";
  if (shape.blocks_n * tile_n > kMaxOutputs) return "more than 512 output channels";
  const double utilization = static_cast<double>(problem.c) / static_cast<double>(shape.chunks * kChunk) *
                             static_cast<double>(problem.k) / static_cast<double>(shape.blocks_n * tile_n) *
                             static_cast<double>(problem.ow) / static_cast<double>(shape.strips * kTileM);
  if (utilization < kMinUtilization) return "too few channels or columns: most of its tile would be padding";
  const std::int64_t fixed = kStorageBytes + kSwizzleBytes + shape.weight_bytes;
  const std::int64_t ring =
      std::min<std::int64_t>(kMaxRing, (device.shared_memory_per_block - fixed) / shape.slot_bytes);
  if (fixed > device.shared_memory_per_block || ring < shape.window + 1)
    return "the weight and the input's rows exceed shared memory";

  plan->precision = Precision::kTf32;
  plan->gather = channels_inside ? Gather::kChannels : Gather::kPixels;
  plan->stages = static_cast<int>(ring);
  plan->tile_m = kTileM;
  plan->tile_n = tile_n;
  plan->tile_k = 16;
  plan->splits = 1;
  plan->blocks = std::min<std::int64_t>(device.sm_count, problem.n * shape.strips * problem.oh);
  plan->threads = kThreads;
  plan->shared_memory = static_cast<int>(fixed + ring * shape.slot_bytes);
  plan->fallback_blocks = problem.dtype == DType::kFloat32 ? 2 * device.sm_count : 0;
  plan->workspace_bytes = workspace(problem, *plan).bytes;
  plan->reason = "tensor cores (wgmma), weight resident in shared memory, minimum in registers";
  return nullptr;
}

const char* drawback(const Problem& problem, const Device& device, const Plan& plan) {
  // Patches of 8 columns fill their tiles. What they cost in float32, which they convert first, is more than a strip's
  // padding down to 0.45 (docs/kernels.md).
  const bool is_float = problem.dtype == DType::kFloat32;
  const std::int64_t strips = shape_of(problem, plan.tile_n).strips;
  const double columns = static_cast<double>(problem.ow) / static_cast<double>(strips * kTileM);
  if (columns < 0.4 || (columns < (is_float ? 0.45 : 0.6) && !patch::copies_too_much(problem))) {
    return "rows so narrow that much of its strips would be padding";
  }
  const bool copied = patch::is_copied(problem, false);
  if (problem.c * element_size(problem.dtype) < 32 || (copied && patch::copies_too_much(problem))) return nullptr;
  // Where patches are faster was measured (docs/kernels.md). They leave out channels that are not there, and bring the
  // input of a 1 x 1 kernel once as well.
  if (!copied && problem.r * problem.s == 1) return "a 1 x 1 kernel, whose rows share no input";
  if (!copied && !is_float && problem.c <= kChunk / 2)
    return "half of the channels that it multiplies would be padding";
  // The launches that see to float32's range take some 10 us, a multiprocessor's first strips longer than a patch.
  const bool narrow = plan.tile_n == 64;
  const std::int64_t few = is_float ? (narrow ? 15 : 4) : narrow ? (columns < 0.9 ? 30 : 16) : copied ? 8 : 16;
  if (problem.n * strips * problem.oh >= few * device.sm_count) return nullptr;
  return is_float ? "too little work for float32's range check" : "few strips for each multiprocessor";
}

Workspace workspace(const Problem& problem, const Plan& plan) {
  const Shape shape = shape_of(problem, plan.tile_n);
  Workspace result{};
  result.factors = shape.weight_bytes;
  result.counters = result.factors + 4 * round_up(problem.k, 4);
  result.factor_range = result.counters + 8;
  result.peaks = result.factor_range + 8;
  const bool can_fall_back = plan.fallback_blocks > 0;
  result.tiles = result.peaks + (can_fall_back ? 4 * round_up(problem.c, 4) : 0);
  const std::int64_t units = problem.n * shape.strips * problem.oh;
  result.bytes = result.tiles + (can_fall_back ? 8 * units : 0);
  return result;
}

}  // namespace convmin::sm90
