// Problem -> the kernel's parameters; Plan -> instantiation.
#include <cuda.h>

#include <algorithm>

#include "common/params.h"
#include "common/planning.h"
#include "common/shared_memory.h"
#include "sm90/patch/launch.h"
#include "sm90/patch/tiles.h"

namespace convmin::sm90::patch {
namespace {

// What copies the input, and is read instead of it.
Source make_source(Problem problem, const Plan& plan, bool scaled, const void* input) {
  Source source{};
  if (problem.input_strides[2] == problem.w * problem.input_strides[3]) {  // rows without gaps are one
    problem.w *= problem.h;
    problem.h = 1;
    problem.input_strides[2] = 0;
  }
  source.input = input;
  source.stride_n = problem.input_strides[0], source.stride_c = problem.input_strides[1];
  source.stride_h = problem.input_strides[2], source.stride_w = problem.input_strides[3];
  source.image = FastDivisor(problem.h * problem.w);
  source.row = FastDivisor(problem.w);
  source.pixels = problem.n * problem.h * problem.w;
  const std::int64_t chunks = ceil_divide(problem.c / problem.groups, plan.tile_k);
  source.by_group_chunks = FastDivisor(chunks);
  source.by_chunks = FastDivisor(problem.groups * chunks);
  source.blocks = static_cast<int>(ceil_divide(source.pixels, kCopyPixels) * problem.groups * chunks);
  source.vectors = vectors_fit(problem);
  source.channels_inside = source.vectors || (problem.c > 1 && source.stride_c < source.stride_w);
  source.together = pixels_together(problem);
  source.group_pitch = static_cast<int>(group_pitch(problem, scaled));
  source.pixel_pitch = problem.groups * source.group_pitch;
  return source;
}

// A tensor of five axes as the copy engine sees it, the innermost first, of elements next to each other, and the boxes
// that it brings. Strides are in elements; that of a single one may be anything.
struct Boxes {
  std::int64_t extents[5], strides[4], boxes[5], steps[5];
};

cudaError_t describe(const Boxes& boxes, std::int64_t element, const void* data, CUtensorMap* map) {
  using Encode = CUresult(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*,
                          const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                          CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  static Encode* const encode = [] {  // of the driver, which the library doesn't link with
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    constexpr int kSince = 12000;
    cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, kSince, cudaEnableDefault, &result);
    return reinterpret_cast<Encode*>(result == cudaDriverEntryPointSuccess ? found : nullptr);
  }();
  if (encode == nullptr) return cudaErrorCallRequiresNewerDriver;
  cuuint64_t extents[5], strides[4];
  cuuint32_t box[5], steps[5];
  for (int i = 0; i < 5; ++i) {
    extents[i] = static_cast<cuuint64_t>(boxes.extents[i]);
    box[i] = static_cast<cuuint32_t>(boxes.boxes[i]), steps[i] = static_cast<cuuint32_t>(boxes.steps[i]);
  }
  for (int i = 0; i < 4; ++i) {
    strides[i] = static_cast<cuuint64_t>(boxes.extents[i + 1] > 1 ? boxes.strides[i] * element : 16);
  }
  // The engine rounds float32 to TF32, to nearest, on its way.
  const auto type = element == 4 ? CU_TENSOR_MAP_DATA_TYPE_TFLOAT32 : CU_TENSOR_MAP_DATA_TYPE_UINT16;
  const CUresult result =
      encode(map, type, 5, const_cast<void*>(data), extents, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

// The rows and columns of a plane of a patch, in each of them a chunk of a group's channels.
Boxes boxes_of_input(const Problem& original, const Plan& plan) {
  const bool scaled = is_scaled(original, plan);
  const Problem problem = inner(original, scaled);
  const Patch patch = patch_of(problem, plan);
  const std::int64_t channels = problem.c / problem.groups, *strides = problem.input_strides;
  const std::int64_t pitch = is_copied(original, scaled) ? group_pitch(problem, scaled) : channels;
  return {{channels, problem.groups, problem.w, problem.h, problem.n},
          {pitch, strides[3], strides[2], strides[0]},
          {plan.tile_k, 1, patch.halo_w * problem.stride_w, patch.runs_on ? 1 : patch.halo_h * problem.stride_h,
           patch.subtiles_n},
          {1, 1, problem.stride_w, problem.stride_h, 1}};
}

// A chunk of channels of one tap of a tile's filters.
Boxes boxes_of_weight(const Problem& problem, const Plan& plan) {
  const std::int64_t* strides = problem.weight_strides;
  return {{problem.c / problem.groups, problem.s, problem.r, problem.k, 1},
          {strides[3], strides[2], strides[0], 0},
          {plan.tile_k, 1, 1, plan.tile_n, 1},
          {1, 1, 1, 1, 1}};
}

Params make_params(const Problem& original, const Plan& plan, const Arguments& arguments) {
  const bool scaled = is_scaled(original, plan), copied = is_copied(original, scaled);
  const Problem problem = inner(original, scaled);
  const Workspace parts = workspace(original, plan);
  auto* base = static_cast<char*>(arguments.workspace);
  Params params{};
  params.copy = base + parts.copy;
  if (copied) params.source = make_source(simplified(original), plan, scaled, arguments.input);
  set_results(problem, arguments, &params);

  params.n = static_cast<int>(problem.n);
  set_images(problem, &params);
  set_steps(problem, &params);
  params.r = static_cast<int>(problem.r);
  params.s = static_cast<int>(problem.s);
  set_groups(problem, &params);

  params.patch = patch_of(problem, plan);
  params.by_pitch = FastDivisor(params.patch.halo_w);
  params.by_run_rows = FastDivisor(std::max(params.patch.run_rows, 1));
  params.tables = tables_of(problem, params.patch, plan.tile_n, scaled);
  params.tiles = static_cast<int>(tiles_of(problem, params.patch));
  params.tiles_x = params.patch.runs_on ? params.tiles : static_cast<int>(ceil_divide(problem.ow, params.patch.width));
  params.tiles_y = params.patch.runs_on ? 1 : static_cast<int>(ceil_divide(problem.oh, params.patch.height));
  params.splits = plan.splits;
  params.parts = plan.parts;
  params.chunks = static_cast<int>(ceil_divide(params.group_channels, plan.tile_k));
  params.blocks_n = static_cast<int>(ceil_divide(params.group_outputs, plan.tile_n));
  params.grains = plan.grains;
  if (plan.grains > 0) {
    const std::int64_t all = std::int64_t{params.tiles} * params.groups * params.blocks_n * plan.grains;
    params.by_grains = FastDivisor(plan.grains);
    params.share = static_cast<int>(all / plan.blocks);
    params.longer_shares = static_cast<int>(all % plan.blocks);
    params.by_share = FastDivisor(params.share);
    params.by_longer_share = FastDivisor(params.share + 1);
  }
  params.slots = plan.stages;
  params.stages = stages_of(problem, params.patch, plan);
  params.resident = plan.grains <= 1 && params.chunks * params.patch.planes <= params.slots;
  params.by_subtiles_x = FastDivisor(params.patch.subtiles_x);
  params.by_subtiles_y = FastDivisor(params.patch.subtiles_y);
  params.by_tiles_x = FastDivisor(params.tiles_x);
  params.by_tiles_y = FastDivisor(params.tiles_y);
  params.by_blocks_n = FastDivisor(params.blocks_n);
  params.by_blocks = FastDivisor(std::int64_t{params.groups} * params.blocks_n);
  params.by_splits = FastDivisor(params.splits);
  params.by_parts = FastDivisor(params.parts);
  params.by_adders = FastDivisor(std::min(params.parts, kConsumerWarps));
  params.landing_minima = static_cast<int>(landing_of(plan.tile_m, plan.tile_n, plan.splits, plan.parts).sums);

  params.weight = make_weight(problem, arguments.weight);
  params.packs = packs_weight(original, scaled);
  params.packed_weight = base;
  params.counters = reinterpret_cast<int*>(base + parts.counters);
  params.counter_count = static_cast<int>(parts.counter_count);
  params.partials = reinterpret_cast<float4*>(base + parts.partials);
  params.split_values = reinterpret_cast<float*>(base + parts.values);
  params.split_channels = reinterpret_cast<int*>(base + parts.channels);
  params.channel_factor = reinterpret_cast<float*>(base + parts.factors);
  params.channel_seen = reinterpret_cast<std::uint8_t*>(base + parts.seen);
  params.run_outside = reinterpret_cast<int*>(base + parts.runs);
  if (scaled) params.fallback = fallback(original, plan, arguments);
  return params;
}

// A block that has a multiprocessor to itself.
__global__ void __launch_bounds__(kThreads) fill_a_multiprocessor() {}

}  // namespace

int launch(const Problem& problem, const Plan& plan, const Arguments& arguments, cudaStream_t stream) {
  Params params = make_params(problem, plan, arguments);
  if (params.share < plan.grains) return cudaErrorInvalidValue;  // a sum would be cut twice
  const std::int64_t operand = kRowBytes / plan.tile_k;
  const void* const input = params.source.blocks > 0 ? params.copy : arguments.input;
  cudaError_t error = describe(boxes_of_input(problem, plan), operand, input, &params.input);
  if (error == cudaSuccess && !params.packs) {
    error = describe(boxes_of_weight(problem, plan), operand, arguments.weight, &params.filters);
  }
  if (error != cudaSuccess) return error;
  if (is_scaled(problem, plan)) {
    const Workspace parts = workspace(problem, plan);
    error =
        cudaMemsetAsync(params.fallback.everything, 0, static_cast<std::size_t>(parts.tiles - parts.fallback), stream);
    return error != cudaSuccess ? error : launch_float32_scaled(params, plan, stream);
  }
  if (!params.packs && params.counter_count > 0) {  // the packing launch would, but its code is long to fetch for that
    error = cudaMemsetAsync(params.counters, 0, sizeof(int) * static_cast<std::size_t>(params.counter_count), stream);
    if (error != cudaSuccess) return error;
  }
  switch (problem.dtype) {
    case DType::kFloat32: return launch_float32(params, plan, stream);
    case DType::kFloat16: return launch_float16(params, plan, stream);
    case DType::kBFloat16: return launch_bfloat16(params, plan, stream);
    case DType::kFloat64: break;  // the plan accepts none
  }
  return cudaErrorInvalidValue;
}

Fallback fallback(const Problem& problem, const Plan& plan, const Arguments& arguments) {
  const Workspace parts = workspace(problem, plan);
  auto* base = static_cast<char*>(arguments.workspace);
  auto* counters = reinterpret_cast<int*>(base + parts.fallback);
  return {counters, counters + 1, reinterpret_cast<std::int64_t*>(base + parts.tiles)};
}

int count_clusters(Device* device) {
  const int shared_memory = device->shared_memory_per_block;
  cudaError_t error = allow_shared_memory(reinterpret_cast<const void*>(fill_a_multiprocessor), shared_memory);
  if (error == cudaSuccess) {
    error = cudaFuncSetAttribute(fill_a_multiprocessor, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  }
  for (int size = 2; size <= kMaxCluster && error == cudaSuccess; ++size) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {static_cast<unsigned>(size), 1, 1};
    cudaLaunchConfig_t config{};
    config.gridDim = static_cast<unsigned>(size);
    config.blockDim = kThreads;
    config.dynamicSmemBytes = static_cast<std::size_t>(shared_memory);
    config.attrs = &attribute;
    config.numAttrs = 1;
    int& clusters = device->clusters[size - 2];
    error = cudaOccupancyMaxActiveClusters(&clusters, fill_a_multiprocessor, &config);
    if (error != cudaSuccess && size > kPortableCluster) {  // a GPU, or the part of one that is there, may refuse
      clusters = 0;
      cudaGetLastError();  // not the next call's
      return cudaSuccess;
    }
  }
  return error;
}

}  // namespace convmin::sm90::patch
