// Brings the weight and the input to shared memory, ahead of the multiplication. The weight comes packed, by cp.async.
// So does channels_last input; any other goes through registers, a batch at a time: loaded at the beginning of a window
// of time, rounded to the tensor cores' type and stored at the end of that or a later one, as far as time allows.
#pragma once

#include "common/load.cuh"
#include "ptx/cp_async.cuh"
#include "sm80/pack.cuh"
#include "sm80/share.cuh"

namespace convmin::sm80 {

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
  __device__ __forceinline__ Producer(const Params& params, std::uint8_t* shared, const BlockTile& tile,
                                      const Share& share)
      : params_(params),
        shared_(shared),
        pixels_(reinterpret_cast<Pixel*>(shared + params.pixels)),
        stage_{share.first_block, share.first_stage / params.chunks, share.first_stage % params.chunks},
        thread_(static_cast<int>(threadIdx.x)) {
    weight_ = static_cast<const std::uint8_t*>(params.packed_weight) +
              (static_cast<std::int64_t>(share.first_block) * params.steps + share.first_stage * params.taps) *
                  T::kWeightBytes +
              thread_ * 16;
    for (int e = thread_; e < params.patch_pixels; e += kThreads) pixels_[e] = tile.pixel(params, e);
    if constexpr (T::kGather == Gather::kTaps) {
      Tap* taps = reinterpret_cast<Tap*>(shared + params.offsets);
      for (int e = thread_; e < params.chunks * T::kChunk; e += kThreads) taps[e] = window_element(e);
    } else {
      int* offsets = reinterpret_cast<int*>(shared + params.offsets);
      for (int tap = thread_; tap < params.taps; tap += kThreads) offsets[tap] = tap_offset(params, tap);
    }
    if constexpr (T::kScaled) {
      for (int e = thread_; e < params.patch_pixels; e += kThreads) peaks()[e] = 0;
      watches_range_ = share.split == 0;
    }
    locate_stage();
    if constexpr (T::kGather != Gather::kTaps) source_ += stage_.chunk * T::kChunk * params.input_stride_c;
  }

  // The next step's weight.
  __device__ __forceinline__ void load_weight() {
    const std::uint32_t target = ptx::shared_address(shared_ + weight_slot_ * T::kWeightBytes + thread_ * 16);
#pragma unroll
    for (int i = 0; i < T::kWeightVectors; i += kThreads) ptx::cp_async_16(target + i * 16, weight_ + i * 16);
    weight_ += T::kWeightBytes;
    weight_slot_ = (weight_slot_ + 1) % kWeightStages;
  }

  // Moves on to the next stage, whose patch goes to the next slot.
  __device__ __forceinline__ void next_stage() {
    if (++patch_slot_ == params_.patch_slots) patch_slot_ = 0;
    batch_ = 0;
    if (++stage_.chunk < params_.chunks) {
      if constexpr (T::kGather != Gather::kTaps) source_ += T::kChunk * params_.input_stride_c;
      return;
    }
    stage_.chunk = 0;
    if (++stage_.tap == params_.outer_taps) {
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
    for (int e = thread_ / T::kPacks; e < params_.patch_pixels; e += kThreads / T::kPacks) {
      const Pixel pixel = pixels_[e];
      ptx::cp_async_16(target + place(e), source + pixel.offset, real && inside(pixel, dh_, dw_));
    }
  }

  // Notes the tile's runs of output pixels where a pixel under it is out of float16's range. All channels have been
  // loaded, a barrier ago.
  __device__ __forceinline__ void note_range(const BlockTile& tile) const {
    bool outside = false;
    for (int e = thread_; e < params_.patch_pixels; e += kThreads) {
      const float largest = __uint_as_float(peaks()[e]);
      outside |= too_large(largest) || too_faint(largest);
    }
    if (__syncthreads_or(outside) == 0) return;
    for (int m = thread_; m < T::kTileM; m += kThreads) {
      if (m % params_.tile_columns % kFallbackTile != 0) continue;
      const std::int64_t at = tile.output(params_, m);
      if (at >= 0) params_.fallback.tiles[atomicAdd(params_.fallback.count, 1)] = at;
    }
  }

  // The whole patch of the current stage, through registers.
  __device__ __forceinline__ void fill_patch() {
    while (batch_ * T::kItems * kThreads < items()) {
      load();
      ++batch_;
      store();
    }
  }

  // A stage has T::kWindows windows a step; all its batches are stored by the end of the last.
  __device__ __forceinline__ void begin_window() {
    if (waiting_ > 0 || batch_ * T::kItems * kThreads >= items()) return;
    load();
    ++batch_;
    waiting_ = params_.windows_per_batch;
  }
  __device__ __forceinline__ void end_window() {
    if (waiting_ > 0 && --waiting_ == 0) store();
  }

 private:
  // Of the patch. Neighbouring lanes have neighbouring vectors of a pixel where those lie together, else one of each of
  // neighbouring pixels.
  __device__ __forceinline__ int pixel_of(int item) const {
    return T::kGather == Gather::kChannels ? item / T::kPacks
                                           : static_cast<int>(params_.by_patch_pixels.divide(item).remainder);
  }
  __device__ __forceinline__ int pack_of(int item) const {
    return T::kGather == Gather::kChannels ? item % T::kPacks
                                           : static_cast<int>(params_.by_patch_pixels.divide(item).quotient);
  }
  __device__ __forceinline__ int items() const { return T::kPacks * params_.patch_pixels; }

  // A batch of the current stage's patch, into registers and from there to shared memory.
  __device__ __forceinline__ void load() {
#pragma unroll
    for (int i = 0; i < T::kItems; ++i) {
      const int item = (batch_ * T::kItems + i) * kThreads + thread_;
      targets_[i] = -1;
      if (item >= items()) continue;
      const int e = pixel_of(item), pack = pack_of(item);
      targets_[i] = place(e) + pack * 16;
      const Pixel pixel = pixels_[e];
      if constexpr (T::kGather == Gather::kTaps) {
        load_taps(items_[i], pixel, pack);
      } else if constexpr (T::kGather == Gather::kChannels) {
        load_vectors(items_[i], pixel, pack);
      } else {
        load_channels(items_[i], pixel, pack);
      }
    }
  }
  __device__ __forceinline__ void store() const {
#pragma unroll
    for (int i = 0; i < T::kItems; ++i) {
      if (targets_[i] < 0) continue;
      *reinterpret_cast<uint4*>(patch() + targets_[i]) = vector(items_[i]);
      if constexpr (T::kScaled) {
        if (watches_range_) watch_range(items_[i], (batch_ - 1) * T::kItems * kThreads + i * kThreads + thread_);
      }
    }
  }

  struct alignas(16) Pack {
    Element values[T::kPack];
  };

  __device__ __forceinline__ std::uint8_t* patch() const {
    return shared_ + params_.patches + patch_slot_ * params_.patch_bytes;
  }

  // Of the patch's e-th pixel, in bytes.
  __device__ __forceinline__ int place(int e) const {
    const int row = static_cast<int>(params_.by_patch_columns.divide(e).quotient);
    return (e + row * (params_.patch_pitch - params_.patch_columns)) * kPixelBytes;
  }

  // For a stage's first chunk of channels.
  __device__ __forceinline__ void locate_stage() {
    const QuotientRemainder at = params_.by_s.divide(stage_.tap);
    dh_ = static_cast<int>(at.quotient) * params_.dilation_h;
    dw_ = static_cast<int>(at.remainder) * params_.dilation_w;
    const auto group = static_cast<std::int64_t>(params_.by_group_blocks.divide(stage_.block).quotient);
    source_ = static_cast<const char*>(params_.input) + group * params_.group_channels * params_.input_stride_c +
              dh_ * params_.input_stride_h + dw_ * params_.input_stride_w;
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

  __device__ __forceinline__ unsigned* peaks() const { return reinterpret_cast<unsigned*>(shared_ + params_.peaks); }

  // Magnitudes are compared as unsigned integers, which order as the floats do. NaN passes for large, and may.
  __device__ __forceinline__ void watch_range(const Pack& pack, int item) const {
    float largest = 0.0f;
#pragma unroll
    for (const float value : pack.values) largest = fmaxf(largest, fabsf(value));
    if (largest != 0.0f) {
      atomicMax(&peaks()[pixel_of(item)], __float_as_uint(largest));
    }
  }

  // Channels next to each other in aligned vectors.
  __device__ __forceinline__ void load_vectors(Pack& out, const Pixel& pixel, int pack) const {
    constexpr int kVector = 16 / static_cast<int>(sizeof(Element));
    const int left = params_.group_channels - stage_.chunk * T::kChunk - pack * T::kPack;
    const auto* source = reinterpret_cast<const uint4*>(source_ + pixel.offset) + pack * (T::kPack / kVector);
    const bool in = inside(pixel, dh_, dw_);
    auto* vectors = reinterpret_cast<uint4*>(&out);
#pragma unroll
    for (int v = 0; v < T::kPack / kVector; ++v) {
      vectors[v] = in && v * kVector < left ? __ldg(source + v) : uint4{0, 0, 0, 0};
    }
  }

  __device__ __forceinline__ void load_channels(Pack& out, const Pixel& pixel, int pack) const {
    const int left = params_.group_channels - stage_.chunk * T::kChunk - pack * T::kPack;
    const char* source = source_ + pixel.offset + pack * T::kPack * params_.input_stride_c;
    const bool in = inside(pixel, dh_, dw_);
#pragma unroll
    for (int j = 0; j < T::kPack; ++j) {
      out.values[j] = in && j < left ? load_read_only(reinterpret_cast<const Element*>(source)) : Element{};
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

  static __device__ __forceinline__ uint4 vector(const Pack& pack) {
    std::uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (sizeof(Operand) == 4) {
        words[i] = operand_bits<Operand>(pack.values[i]);
      } else {
        words[i] = operand_bits<Operand>(pack.values[2 * i]) | operand_bits<Operand>(pack.values[2 * i + 1]) << 16;
      }
    }
    return {words[0], words[1], words[2], words[3]};
  }

  const Params& params_;
  std::uint8_t* const shared_;
  Pixel* const pixels_;
  const std::uint8_t* weight_;
  int weight_slot_ = 0, patch_slot_ = 0;
  Stage stage_;
  const char* source_;  // of the stage's first channel, for a pixel at offset 0
  int dh_, dw_;         // of the stage's outer tap
  const int thread_;
  bool watches_range_ = false;
  int batch_ = 0;    // the next of the stage
  int waiting_ = 0;  // windows until the one in registers is stored
  Pack items_[T::kItems];
  int targets_[T::kItems];
};

}  // namespace convmin::sm80
