// Brings the weight and the input to shared memory, ahead of the multiplication. The weight comes packed, by cp.async.
// So does channels_last input; any other goes through registers, a batch at a time: loaded at the beginning of a window
// of time, rounded to the tensor cores' type and stored at the end of that or a later one, as far as time allows. An
// item of a batch is a 16-byte vector of a pixel's channels, or a quad of pixels (quads.cuh).
#pragma once

#include "common/load.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/named_barrier.cuh"
#include "sm80/pack.cuh"
#include "sm80/quads.cuh"
#include "sm80/range.cuh"
#include "sm80/share.cuh"

namespace convmin::sm80 {

inline constexpr int kLoadersBarrier = 1;  // of those that load, in a specialized block

// A position in the sequence of stages: blocks of output channels, in each outer taps, in each chunks of channels.
struct Stage {
  int block, tap, chunk;
};

template <typename T>
class Producer {
 public:
  using Element = typename T::Element;
  using Operand = typename T::Operand;

  // Fills the tables; a barrier must follow.
  __device__ __forceinline__ Producer(const Params& params, std::uint8_t* shared, const Share& share)
      : Producer(params, shared,
                 Stage{share.first_block, T::kWholeWindow ? 0 : share.first_stage / params.chunks,
                       T::kWholeWindow ? share.first_stage : share.first_stage % params.chunks}) {
    weight_ = static_cast<const std::uint8_t*>(params.packed_weight) +
              (static_cast<std::int64_t>(share.first_block) * params.steps + share.first_stage * params.taps) *
                  T::kWeightBytes +
              thread_ * 16;
    fill_sources(BlockTile(params, share.tile));
    fill_taps();
    if constexpr (T::kScaled) {
      for (int e = thread_; e < patch_places(); e += kThreads) faint_parts()[e] = 0;
    }
    watches_range_ = T::kScaled && share.split == 0;
    locate_stage();
    if constexpr (T::kGather != Gather::kTaps) source_ += stage_.chunk * T::kChunk * params_.input_stride_c;
  }

  // Of a specialized block: begin_tile() says which tile, one after another.
  __device__ __forceinline__ Producer(const Params& params, std::uint8_t* shared)
      : Producer(params, shared, Stage{0, 0, 0}) {
    rewind_weight();
  }
  // All that load must have come to the end of the tile before; a barrier among them must follow.
  __device__ __forceinline__ void begin_tile(const BlockTile& tile) {
    fill_sources(tile);
    stage_ = {0, 0, 0};
    watches_range_ = T::kScaled;
    range_ = {};
    locate_stage();
  }
  // To the first step's of the block's output channels.
  __device__ __forceinline__ void rewind_weight() {
    weight_ = static_cast<const std::uint8_t*>(params_.packed_weight) + thread_ * 16;
    if constexpr (T::kSharesChannels) {
      weight_ += static_cast<std::int64_t>(first_shared_block(params_)) * params_.steps * T::kWeightBytes;
    }
  }

  // The next step's weight, to this offset in its ring.
  __device__ __forceinline__ void load_weight(int offset) {
    constexpr int kRing = kWeightStages * T::kWeightBytes;
    static_assert((kRing & (kRing - 1)) == 0, "the ring wraps by a mask");
    if constexpr (!T::kSpecialized) offset &= kRing - 1;
    const std::uint32_t target = ptx::shared_address(shared_) + offset + thread_ * 16;
#pragma unroll
    for (int i = 0; i < T::kWeightVectors; i += T::kLoading) ptx::cp_async_16(target + i * 16, weight_ + i * 16);
    weight_ += T::kWeightBytes;
  }

  // Moves on to the next stage, whose patch goes to the next slot.
  __device__ __forceinline__ void next_stage() {
    if (++patch_slot_ == params_.patch_slots) patch_slot_ = 0;
    item_ = thread_;
    if (++stage_.chunk < params_.chunks) {
      if constexpr (T::kGather != Gather::kTaps) source_ += T::kChunk * params_.input_stride_c;
      return;
    }
    stage_.chunk = 0;
    if (T::kWholeWindow || ++stage_.tap == params_.outer_taps) {
      stage_.tap = 0;
      watches_range_ = false;  // the same pixels again
      ++stage_.block;
    }
    locate_stage();
  }

  // The whole patch of the current stage, by cp.async. Gather::kChannels only.
  __device__ __forceinline__ void copy_patch() const {
    const int pack = thread_ % T::kPacks;
    const bool real = stage_.chunk * T::kChunk + pack * T::kPack < params_.group_channels;
    const char* source = source_ + pack * 16;
    const std::uint32_t target = ptx::shared_address(patch()) + pack * 16;
    for (int e = thread_ / T::kPacks; e < params_.patch_pixels; e += T::kLoading / T::kPacks) {
      const Pixel pixel = table<Pixel>()[e];
      ptx::cp_async_16(target + place(e), source + pixel.offset, real && inside(pixel, dh_, dw_));
    }
  }

  // Where blocks share a tile's sums, each sees some of the channels. It leaves what it counted, before it leaves its
  // sums, and the last takes what all have. All threads must call it.
  __device__ __forceinline__ void leave_range(const Share& share) const {
    const bool too_large = __syncthreads_or(range_.too_large()) != 0;  // all have counted
    if (share.split > 0) return;
    unsigned* const mine = part_counts(share, share.part);
    for (int e = thread_; e < patch_places(); e += kThreads) mine[e] = faint_parts()[e];
    if (thread_ == 0) mine[patch_places()] = too_large;
  }
  __device__ __forceinline__ void take_ranges(const Share& share) {
    if (share.split > 0) return;
    for (int e = thread_; e <= patch_places(); e += kThreads) {
      unsigned counts = 0, any = 0;
      for (int part = 0; part < params_.parts; ++part) {
        const unsigned count = __ldcg(part_counts(share, part) + e);
        counts += count & ~1u, any |= count & 1;
      }
      if (e < patch_places())
        faint_parts()[e] = counts | any;
      else if (any != 0)
        range_.add_too_large();
    }
    __syncthreads();
  }

  // Notes the tile's runs of output pixels where a pixel under it is out of float16's range. All channels have been
  // loaded, a barrier ago. All that load must call it; a specialized block counts anew for its next tile.
  __device__ __forceinline__ void note_range(const BlockTile& tile) const {
    bool outside = range_.too_large();
    for (int e = thread_; e < patch_places(); e += T::kLoading) {
      outside |= Range::too_faint(faint_parts()[e], Item::kParts * params_.chunks);
      if constexpr (T::kSpecialized) faint_parts()[e] = 0;
    }
    if constexpr (T::kSpecialized) {
      if (!ptx::named_barrier_or(kLoadersBarrier, T::kLoading, outside)) return;
      if (T::kSharesChannels && blockIdx.y > 0) return;  // the first of the blocks with this tile finds the same
    } else {
      if (__syncthreads_or(outside) == 0) return;
    }
    for (int m = thread_; m < T::kTileM; m += T::kLoading) {
      if (m % params_.tile_columns % kFallbackTile != 0) continue;
      const std::int64_t at = tile.output(params_, m);
      if (at >= 0) params_.fallback.tiles[atomicAdd(params_.fallback.count, 1)] = at;
    }
  }

  // The whole patch of the current stage, through registers. Before there are sums in them they hold many vectors,
  // which arrive together.
  __device__ __forceinline__ void fill_patch() {
    constexpr bool kVectors = T::kGather == Gather::kChannels || T::kGather == Gather::kQuads;
    constexpr int kAtOnce = kVectors ? 256 / static_cast<int>(sizeof(Item)) : T::kItems;
    Item items[kAtOnce];
    int targets[kAtOnce];
    while (item_ < params_.items) {
      load(items, targets);
      store(items, targets);
    }
  }

  // A stage has T::kWindows windows a step; all its batches are stored by the end of the last.
  __device__ __forceinline__ void begin_window() {
    if (waiting_ > 0 || item_ >= params_.items) return;
    load();
    waiting_ = params_.windows_per_batch;
  }
  __device__ __forceinline__ void end_window() {
    if (waiting_ > 0 && --waiting_ == 0) store();
  }

  // Whether the current stage has another batch for a lane of the warp. For a specialized block, as load() and store().
  __device__ __forceinline__ bool has_batch() const { return item_ / 32 * 32 < params_.items; }

  // A batch of the current stage's patch, into registers and from there to shared memory.
  __device__ __forceinline__ void load() { load(items_, targets_); }
  __device__ __forceinline__ void store() { store(items_, targets_); }

 private:
  __device__ __forceinline__ Producer(const Params& params, std::uint8_t* shared, const Stage& stage)
      : params_(params),
        shared_(shared),
        stage_(stage),
        thread_(static_cast<int>(threadIdx.x) - T::kFirstLoading),
        item_(thread_) {}

  // The tables: of the tile's input, and of the taps. A specialized block has the latter before it parts.
  __device__ __forceinline__ void fill_sources(const BlockTile& tile) const {
    if constexpr (T::kGather == Gather::kQuads) {
      for (int e = thread_; e < static_cast<int>(params_.items / Item::kParts); e += T::kLoading) {
        table<Source>()[e] = tile.quad_source(params_, e);
      }
    } else if constexpr (T::kWholeWindow) {
      for (int e = thread_; e < params_.patch_pixels; e += T::kLoading) {
        table<Source>()[e] = tile.pixel_source(params_, e);
      }
    } else {
      for (int e = thread_; e < params_.patch_pixels; e += T::kLoading) table<Pixel>()[e] = tile.pixel(params_, e);
    }
  }
  __device__ __forceinline__ void fill_taps() const {
    if constexpr (T::kGather == Gather::kTaps) {
      Tap* taps = reinterpret_cast<Tap*>(shared_ + params_.offsets);
      for (int e = thread_; e < params_.chunks * T::kChunk; e += kThreads) taps[e] = window_element(e);
    } else {
      int* offsets = reinterpret_cast<int*>(shared_ + params_.offsets);
      for (int tap = thread_; tap < params_.taps; tap += kThreads) offsets[tap] = tap_offset(params_, tap);
    }
  }

  // A pixel's channels, or elements of its window, that make a 16-byte vector.
  struct alignas(16) Pack {
    static constexpr int kPixels = 1, kWords = 4, kParts = T::kPacks;
    Element values[T::kPack];

    __device__ __forceinline__ void pixel(int, std::uint32_t (&words)[kWords]) const {
#pragma unroll
      for (int i = 0; i < kWords; ++i) {
        if constexpr (sizeof(Operand) == 4) {
          words[i] = operand_bits<Operand>(values[i]);
        } else {
          words[i] = operand_pair<Operand>(values[2 * i], values[2 * i + 1]);
        }
      }
    }
    __device__ __forceinline__ bool nonzero(int) const {
      bool result = false;
#pragma unroll
      for (const Element value : values) result |= value != Element{};
      return result;
    }
  };
  using Item = std::conditional_t<T::kGather == Gather::kQuads, Quads<T>, Pack>;

  // Of the patch. Neighbouring lanes have neighbouring vectors of a pixel where those lie together, else one of each of
  // neighbouring pixels.
  __device__ __forceinline__ int pixel_of(unsigned item) const {
    return T::kGather == Gather::kChannels ? item / T::kPacks
                                           : static_cast<int>(params_.by_patch_pixels.divide(item).remainder);
  }
  __device__ __forceinline__ int pack_of(unsigned item) const {
    static_assert(T::kLoading % T::kPacks == 0, "a thread's vectors are all of one pack where those lie together");
    return T::kGather == Gather::kChannels ? thread_ % T::kPacks
                                           : static_cast<int>(params_.by_patch_pixels.divide(item).quotient);
  }

  template <int kCount>
  __device__ __forceinline__ void load(Item (&items)[kCount], int (&targets)[kCount]) {
#pragma unroll
    for (int i = 0; i < kCount; ++i, item_ += T::kLoading) {
      targets[i] = 0;
      if constexpr (T::kSpecialized || kCount > T::kItems) {
        if (item_ >= params_.items) continue;
      }
      if constexpr (T::kGather == Gather::kQuads) {
        load_quad(items[i], targets[i], item_);
      } else if (T::kSpecialized || i == 0 || item_ < params_.items) {
        load_pack(items[i], targets[i], item_);
      }
    }
  }
  template <int kCount>
  __device__ __forceinline__ void store(Item (&items)[kCount], int (&targets)[kCount]) {
    std::uint8_t* const patch = this->patch();
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int place = targets[i] >> 4;
      std::uint32_t words[Item::kPixels][Item::kWords];
#pragma unroll
      for (int j = 0; j < Item::kPixels; ++j) items[i].pixel(j, words[j]);
      if constexpr (T::kScaled) {
        if (watches_range_ && (kCount == 1 || targets[i] != 0)) {
          range_.add(words, place, targets[i], faint_parts(), [&](int j) { return items[i].nonzero(j); });
        }
      }
      std::uint8_t* const target = patch + place;
#pragma unroll
      for (int j = 0; j < Item::kPixels; ++j) {
        if ((targets[i] >> j & 1) != 0) store_words(target + j * kPixelBytes, words[j]);
      }
    }
  }

  __device__ __forceinline__ void load_quad(Quads<T>& out, int& target, unsigned item) const {
    const Source quad = table<Source>()[Item::quad_of(item)];
    const int part = Item::part_of(item);
    const int left = params_.group_channels - stage_.chunk * T::kChunk - part * Item::kChannels;
    target = quad.target + target_of(part * Item::kBytes, 0);
    out.load(source_ + quad.offset, params_.input_stride_c, quad.inside != 0 ? left : 0);
  }
  __device__ __forceinline__ void load_pack(Pack& out, int& target, unsigned item) const {
    const int e = pixel_of(item), pack = pack_of(item);
    if constexpr (T::kGather == Gather::kTaps) {
      target = target_of(place(e) + pack * 16, 1);
      load_taps(out, table<Pixel>()[e], pack);
      return;
    }
    const Source source = source_of(e);
    target = source.target + target_of(pack * 16, 0);
    const int left = params_.group_channels - stage_.chunk * T::kChunk - pack * T::kPack;
    const int count = source.inside != 0 ? left : 0;
    if constexpr (T::kGather == Gather::kChannels) {
      load_vectors(out, source_ + source.offset + pack * T::kPack * sizeof(Element), count);
    } else {
      load_channels(out, source_ + source.offset + pack * T::kPack * params_.input_stride_c, count);
    }
  }
  __device__ __forceinline__ Source source_of(int e) const {
    if constexpr (T::kWholeWindow) {
      return table<Source>()[e];
    } else {
      const Pixel pixel = table<Pixel>()[e];
      return {pixel.offset, target_of(place(e), 1), inside(pixel, dh_, dw_)};
    }
  }

  __device__ __forceinline__ std::uint8_t* patch() const {
    return shared_ + params_.patches + patch_slot_ * params_.patch_bytes;
  }

  // What of the input lies where in the patch.
  template <typename Entry>
  __device__ __forceinline__ Entry* table() const {
    return reinterpret_cast<Entry*>(shared_ + params_.pixels);
  }

  // Of the patch's e-th pixel, in bytes.
  __device__ __forceinline__ int place(int e) const {
    const int row = static_cast<int>(params_.by_patch_columns.divide(e).quotient);
    return (e + row * (params_.patch_pitch - params_.patch_columns)) * kPixelBytes;
  }

  // For a stage's first chunk of channels.
  __device__ __forceinline__ void locate_stage() {
    if constexpr (!T::kWholeWindow) {
      const QuotientRemainder at = params_.by_s.divide(stage_.tap);
      dh_ = static_cast<int>(at.quotient) * params_.dilation_h;
      dw_ = static_cast<int>(at.remainder) * params_.dilation_w;
    }
    const auto group = static_cast<std::int64_t>(params_.by_group_blocks.divide(stage_.block).quotient);
    source_ = static_cast<const char*>(params_.input) + group * params_.group_channels * params_.input_stride_c +
              dh_ * params_.input_stride_h + dw_ * params_.input_stride_w;
    if constexpr (T::kGather == Gather::kQuads) {
      source_ += Item::part_of(thread_) * Item::kChannels * params_.input_stride_c;
    }
  }

  __device__ __forceinline__ Tap window_element(int e) const {
    if (e >= params_.reduction) return {0, kOutsideTap, kOutsideTap};
    const int at = e / params_.group_channels, channel = e - at * params_.group_channels;
    const int r = at / params_.s, s = at - r * params_.s;
    const int dh = r * params_.dilation_h, dw = s * params_.dilation_w;
    return {channel * params_.input_stride_c + dh * params_.input_stride_h + dw * params_.input_stride_w, dh, dw};
  }

  __device__ __forceinline__ bool inside(const Pixel& pixel, int dh, int dw) const {
    return static_cast<unsigned>(pixel.ih) + static_cast<unsigned>(dh) < static_cast<unsigned>(params_.h) &&
           static_cast<unsigned>(pixel.iw) + static_cast<unsigned>(dw) < static_cast<unsigned>(params_.w);
  }

  // Of the patch's places, rows' pitch and all: what Range counts.
  __device__ __forceinline__ unsigned* faint_parts() const {
    return reinterpret_cast<unsigned*>(shared_ + params_.faint_parts);
  }
  __device__ __forceinline__ int patch_places() const { return params_.patch_bytes / kPixelBytes; }
  // As one part of a tile's blocks left them: of the patch's places, and whether a pixel is too large.
  __device__ __forceinline__ unsigned* part_counts(const Share& share, int part) const {
    return params_.range_counts + (static_cast<std::int64_t>(share.tile) * params_.parts + part) * (patch_places() + 1);
  }

  // Channels next to each other in aligned vectors.
  __device__ __forceinline__ void load_vectors(Pack& out, const char* source, int count) const {
    constexpr int kVector = 16 / static_cast<int>(sizeof(Element));
    auto* vectors = reinterpret_cast<uint4*>(&out);
#pragma unroll
    for (int v = 0; v < T::kPack / kVector; ++v) {
      vectors[v] = v * kVector < count ? __ldg(reinterpret_cast<const uint4*>(source) + v) : uint4{0, 0, 0, 0};
    }
  }

  __device__ __forceinline__ void load_channels(Pack& out, const char* source, int count) const {
#pragma unroll
    for (int j = 0; j < T::kPack; ++j) {
      out.values[j] = j < count ? load_read_only(reinterpret_cast<const Element*>(source)) : Element{};
      source += params_.input_stride_c;
    }
  }

  __device__ __forceinline__ void load_taps(Pack& out, const Pixel& pixel, int pack) const {
    const Tap* taps = reinterpret_cast<const Tap*>(shared_ + params_.offsets) + stage_.chunk * T::kChunk;
    const char* source = source_ + pixel.offset;
#pragma unroll
    for (int j = 0; j < T::kPack; ++j) {
      const Tap tap = taps[pack * T::kPack + j];
      out.values[j] = inside(pixel, tap.dh, tap.dw)
                          ? load_read_only(reinterpret_cast<const Element*>(source + tap.offset))
                          : Element{};
    }
  }

  template <int kWords>
  static __device__ __forceinline__ void store_words(std::uint8_t* target, const std::uint32_t (&words)[kWords]) {
    if constexpr (kWords == 4) {
      *reinterpret_cast<uint4*>(target) = {words[0], words[1], words[2], words[3]};
    } else {
      *reinterpret_cast<uint2*>(target) = {words[0], words[1]};
    }
  }

  const Params& params_;
  std::uint8_t* const shared_;
  const std::uint8_t* weight_;
  int patch_slot_ = 0;
  Stage stage_;
  const char* source_;   // of the stage's first channel, for a pixel at offset 0
  int dh_ = 0, dw_ = 0;  // of the stage's outer tap
  const int thread_;
  bool watches_range_ = false;
  unsigned item_;    // the next of the stage's
  int waiting_ = 0;  // windows until the one in registers is stored
  Item items_[T::kItems];
  int targets_[T::kItems];  // see target_of(); 0: none
  Range range_;
};

}  // namespace convmin::sm80
