// The one public header of the kernel library. No CUDA, torch or Python header is needed to include it.
//
//   values[n, 0, oh, ow] = min over k of ((sum over c, r, s of input * weight + bias[k]) * scale)
//
// Usage: fill a Problem and a Device, ask plan() which kernel runs and why, then launch().
#pragma once

#include <cstdint>
#include <string>

struct CUstream_st;  // cudaStream_t without the CUDA headers

namespace convmin {

enum class DType : std::uint8_t { kFloat32, kFloat64, kFloat16, kBFloat16 };

// What float32 products may lose. Mirrors torch.backends.cudnn.conv.fp32_precision.
enum class Precision : std::uint8_t {
  kIeee,  // operands keep all 24 bits
  kTf32,  // operands may be rounded to 11 significant bits
};

enum class IndexType : std::uint8_t { kUInt8, kInt16, kInt32 };

// Kernel families, slowest first. A plan takes the last one that accepts the problem.
enum class KernelId : std::uint8_t { kSimt, kSm80, kSm90Patch, kSm90, kSm80Window, kDirect, kDepthwise };
inline constexpr int kKernelCount = 7;

// Which of the input's dimensions neighbouring threads walk while they fill the shared-memory tile.
enum class Gather : std::uint8_t {
  kPixels,    // neighbouring output pixels: NCHW
  kChannels,  // neighbouring input channels: channels_last
  kTaps,      // neighbouring output pixels, and the reduction runs over taps and few channels alike (sm80, sm80_window)
  kQuads,     // neighbouring output pixels, four of them a load (sm80 alone)
};

// Extents and strides; a stride counts elements and may be 0 (broadcast).
struct Problem {
  DType dtype;
  Precision precision;  // read for kFloat32 only
  bool has_bias;
  bool with_indices;
  std::int64_t n, c, h, w;            // input [n, c, h, w]
  std::int64_t k, r, s;               // weight [k, c / groups, r, s]
  std::int64_t oh, ow;                // values [n, 1, oh, ow], contiguous
  std::int64_t stride_h, stride_w;    // of the convolution
  std::int64_t padding_h, padding_w;  // zeros on each side
  std::int64_t dilation_h, dilation_w;
  std::int64_t groups;
  std::int64_t input_strides[4];
  std::int64_t weight_strides[4];
  int input_alignment, weight_alignment;  // of their addresses: bytes, a power of two, 16 counting for more
  double scale;
};

// Blocks of a cluster: as many as every GPU takes that has clusters, and as Hopper takes if asked.
inline constexpr int kPortableCluster = 8, kMaxCluster = 16;

// What plan() needs to know of a GPU. Fill it by hand to plan for one that is not there.
struct Device {
  int major, minor;  // compute capability
  int sm_count;
  int shared_memory_per_block;  // bytes, opt-in limit
  int shared_memory_per_sm;     // bytes
  int registers_per_sm;
  // Hopper: how many clusters of 2 to kMaxCluster blocks, each of which fills a multiprocessor, run at once; 0: plan
  // without clusters.
  int clusters[kMaxCluster - 1];
};

// Why a faster kernel was passed over.
struct Rejection {
  KernelId kernel;
  const char* reason;
};

struct Plan {
  bool accepted;  // false: no kernel takes the problem; `reason` says why
  KernelId kernel;
  Precision precision;  // class of the arithmetic, for kFloat32
  Gather gather;
  int stages;                   // of the input's ring in shared memory
  int weight_stages;            // sm80: of the weight's, beside it
  int tile_m, tile_n, tile_k;   // output pixels, output channels, reduction elements of a block's tile
  int tile_rows, tile_columns;  // of the tile, in an image; 0 rows where it runs on over the images
  int taps;                     // sm80: taps that a tile's input serves, all or one; direct: rows of them, if known
  std::int64_t images;          // of a launch: n, or a divisor of it where all at once would take too much memory
  int splits;                   // parts that the output channels are divided into, and combined at the end
  int parts;                    // that the sums of a tile and a block of output channels are divided into (0, 1: whole)
  std::int64_t blocks;          // tiles of pixels x splits x parts, or fewer that take one tile after another
  int cluster;                  // sm90_patch, depthwise: blocks of a cluster, which share a tile (0, 1: none)
  // sm90_patch: that a tile's sums over a block of output channels are cut into, where blocks have equal shares of
  // those of all tiles (0: each tile's are divided into splits and parts).
  int grains;
  int threads;        // per block
  int shared_memory;  // bytes per block
  // Tiles that this kernel notes and leaves to the portable one, in the same stream: its blocks (0: none are left) and
  // where its part of the workspace begins, in bytes.
  int fallback_blocks;
  bool padded;      // sm80: rows of a tile's input lie apart in shared memory, in other banks
  bool prefetched;  // direct: what lies under a block's first tile is fetched while the weight is staged
  std::int64_t fallback_workspace;
  std::int64_t workspace_bytes;  // device memory that launch() wants in Arguments::workspace
  const char* reason;            // why this kernel, and this tile
  int rejection_count;
  Rejection rejections[kKernelCount];
};

// Device pointers of one call. `bias` is null where Problem::has_bias is false.
struct Arguments {
  const void* input;
  const void* weight;
  const void* bias;  // [k], contiguous
  void* values;      // [n, 1, oh, ow], contiguous, the input's dtype
  void* indices;     // as values, of index_type(k); null where Problem::with_indices is false
  void* workspace;   // Plan::workspace_bytes
};

// A CUDA error code; 0 is success.
struct Status {
  int cuda_error;
  bool ok() const { return cuda_error == 0; }
};

// Bytes of an element.
constexpr std::int64_t element_size(DType type) {
  return type == DType::kFloat64 ? 8 : type == DType::kFloat32 ? 4 : 2;
}
constexpr std::int64_t element_size(IndexType type) {
  return type == IndexType::kInt32 ? 4 : type == IndexType::kInt16 ? 2 : 1;
}

// The smallest integer type that holds a channel number.
constexpr IndexType index_type(std::int64_t channels) {
  return channels <= 256 ? IndexType::kUInt8 : channels <= 32768 ? IndexType::kInt16 : IndexType::kInt32;
}

// Pure function of its arguments. With `forced`, that kernel or a refusal.
Plan plan(const Problem& problem, const Device& device, const KernelId* forced = nullptr);

const char* kernel_name(KernelId kernel);
// False where no kernel has that name.
bool kernel_from_name(const std::string& name, KernelId* kernel);

// Enqueues on `stream` and returns without waiting. The plan must be an accepted one, made for this problem.
Status launch(const Problem& problem, const Plan& plan, const Arguments& arguments, CUstream_st* stream);

// Properties of an installed GPU, cached after the first call.
Status query_device(int ordinal, Device* device);
const char* error_string(Status status);

// ---- Gradients, from the index that the forward saved ----

enum class GradInputKernel : std::uint8_t {
  kNone,
  kGeneral,  // any stride, padding, dilation and groups
  kGroups,   // many groups of few channels: a thread has a pixel, and adds to the winning group's channels alone
  kWindow,   // 3 x 3 at stride 1, from strips of pixels in registers
};
enum class GradWeightKernel : std::uint8_t {
  kNone,
  kRuns,    // any: all pixels in the order of their channels, in equal segments
  kWindow,  // 3 x 3 at stride 1: 32 channels with their nine taps, from one tile of the input
};

// `forward` is the forward's problem; its dtype, extents, strides, alignment and scale are what counts here. grad_input
// is dense, [n, c, h, w] or, with grad_input_channels_last, [n, h, w, c].
struct BackwardProblem {
  Problem forward;
  IndexType index_type;
  std::int64_t grad_output_strides[3];  // n, oh, ow; 0 where broadcast
  std::int64_t indices_strides[3];
  std::int64_t grad_weight_strides[4];
  bool grad_input_channels_last;
  bool wants_input, wants_weight, wants_bias;
};

struct BackwardPlan {
  bool accepted;       // false: `reason` says why
  const char* reason;  // why these kernels
  GradInputKernel grad_input;
  int lanes;           // threads that share an input pixel, each with 16 bytes of its channels
  int channel_chunks;  // of a group: blocks that share the pixels; kGroups: of all groups
  int chunk_groups;    // kGroups: of a chunk
  int input_shared;    // bytes of shared memory per block
  int input_blocks;
  GradWeightKernel grad_weight;
  // kWindow.
  bool pairs;         // two 16-bit elements of the input a load, and a tile of twice as many rows
  int column_chunks;  // of 32 input channels
  int channel_range;  // output channels that a block keeps sums of
  int ranges;
  int splits;  // of the tiles, whose sums are added in order
  int weight_shared;
  std::int64_t tiles;
  // kRuns.
  int slices;                 // lists of pixels, one after another
  std::int64_t slice_pixels;  // of all but the last
  int slice_images;           // as much, where the input is copied with neighbouring channels; else 0
  std::int64_t output_pixels;
  int sort_passes, digit_bits, sort_parts;
  bool vectors;        // 16 bytes of neighbouring channels at a time
  int tap_width;       // channels of a group under a tap, filled up in a copy
  int column_vectors;  // of a group
  int columns;         // of a group, filled up
  int segment_pixels;  // that a team walks
  int team;            // lanes
  int team_chunks;     // of a group's columns
  int finish_width;    // lanes that have a chunk of a cut run's columns
  int finish_chunks;
  int empty_threads;  // that fill a channel that no pixel has
  // Byte offsets into the workspace.
  std::int64_t packed_weight, sorted_pixels, partial_sums;
  std::int64_t list_channels, list_numbers, other_channels, other_numbers, digit_counts, present;
  std::int64_t source_copy, pieces, bias_pieces, totals, bias_totals;
  std::int64_t workspace_bytes;
};

struct BackwardArguments {
  const void* grad_output;
  const void* input;   // null where neither grad_weight nor grad_bias is wanted
  const void* weight;  // null where grad_input is not wanted
  const void* indices;
  void* grad_input;
  void* grad_weight;
  void* grad_bias;  // [k], contiguous
  void* workspace;
};

BackwardPlan plan_backward(const BackwardProblem& problem, const Device& device);

// As launch(). Deterministic: no atomics, sums in an order that depends on the problem and the device alone.
Status launch_backward(const BackwardProblem& problem, const BackwardPlan& plan, const BackwardArguments& arguments,
                       CUstream_st* stream);

}  // namespace convmin
