// kWindow: a tile's pixels, sorted by channel, added to the sums of their channels. Each warp takes an equal segment of
// the sorted pixels, whatever the channels are, and keeps a run of one channel in registers; a lane has columns of the
// input. A run that an earlier warp began is handed over and added afterwards, in the order of the warps: so every sum
// has one owner at a time, and an order that no schedule changes.
#pragma once

#include "backward/read.cuh"

namespace convmin::backward {

inline constexpr int kTaps = 9, kRow = kTaps * 32;  // sums of an output channel
inline constexpr int kOffsetBits = 17;

struct alignas(8) SortedPixel {
  float gradient;
  std::uint32_t packed;  // channel of the block's range << kOffsetBits | where the pixel's columns are

  __device__ __forceinline__ int channel() const { return static_cast<int>(packed >> kOffsetBits); }
  // Above all pixels of `channel`, and of no others, of a sorted list from there on.
  static __device__ __forceinline__ std::uint32_t limit(int channel) {
    return static_cast<std::uint32_t>(channel + 1) << kOffsetBits;
  }
  __device__ __forceinline__ int place() const { return static_cast<int>(packed & ((1u << kOffsetBits) - 1)); }
};

// The pixels [begin, end) of the tile's list that belong to the block's channels.
struct Bounds {
  int begin, end;
};

// T: kParts sums a lane, kWarps, kUnroll; T::Values, what a lane has of a pixel; T::Lane, which reads it and moves a
// channel's sums. A pixel's place is in bytes.
template <typename T>
struct Segments {
  static constexpr int kParts = T::kParts;

  float* sums;        // [range][kRow], of 32 channels under nine taps, as T::Lane has them
  double* bias_sums;  // [range]; one lane of one block's works for it, so that its precision costs nothing
  typename T::Lane columns;
  SortedPixel* pixels;
  int* handed_over;  // [kWarps]: the channel, or -1
  int warp, lane;
  bool keeps_bias;  // this lane does

  struct Run {
    float parts[kParts], bias;
    __device__ __forceinline__ void clear() {
#pragma unroll
      for (int j = 0; j < kParts; ++j) parts[j] = 0;
      bias = 0;
    }
  };

  template <int kCount>
  struct Batch {
    SortedPixel pixels[kCount];
    typename T::Values values[kCount];

    __device__ __forceinline__ Batch(const Segments& segments, int at) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        pixels[i] = segments.pixels[at + i];
        values[i] = segments.columns.read(pixels[i].place());
      }
    }
    __device__ __forceinline__ void add_to(Run& run, int i) const {
#pragma unroll
      for (int j = 0; j < kParts; ++j) run.parts[j] += pixels[i].gradient * values[i].part(j);
      run.bias += pixels[i].gradient;
    }
  };

  // A run that begins here goes on from its channel's sums: no other warp has them until it is left.
  __device__ __forceinline__ void resume(Run& run, int channel) const {
    columns.load(sums + channel * kRow, run.parts);
    run.bias = 0;
  }
  __device__ __forceinline__ void leave(const Run& run, int channel) const {
    columns.store(sums + channel * kRow, run.parts);
  }
  __device__ __forceinline__ void add_bias(const Run& run, int channel) const {
    if (keeps_bias) bias_sums[channel] += static_cast<double>(run.bias);
  }

  // Starts with all of the block's threads in step. When a thread returns, the pixels and their columns are no longer
  // needed, and the sums are complete after the next barrier.
  __device__ __forceinline__ void sum(const Bounds& bounds) const {
    const int count = bounds.end - bounds.begin;
    const int share = (count + T::kWarps * T::kUnroll - 1) / (T::kWarps * T::kUnroll) * T::kUnroll;
    const int first = min(bounds.begin + warp * share, bounds.end), last = min(first + share, bounds.end);
    Run carry;
    int carried = -1;
    if (first < last) {
      int at = first, current = pixels[first].channel();
      if (first > bounds.begin && pixels[first - 1].channel() == current) {
        // The pixels are sorted: where the last of a batch is of this channel, all of them are.
        carried = current;
        carry.clear();
        for (; at + T::kUnroll <= last && pixels[at + T::kUnroll - 1].channel() == current; at += T::kUnroll) {
          const Batch<T::kUnroll> batch(*this, at);
#pragma unroll
          for (int i = 0; i < T::kUnroll; ++i) batch.add_to(carry, i);
        }
        for (; at < last && pixels[at].channel() == current; ++at) {
          Batch<1>(*this, at).add_to(carry, 0);
        }
      }
      if (at < last) {
        Run run;
        current = pixels[at].channel();
        resume(run, current);
        std::uint32_t limit = SortedPixel::limit(current);
        const auto add = [&](const auto& batch, int i) {
          if (batch.pixels[i].packed >= limit) {
            const Run ended = run;
            const int channel = current;
            leave(ended, channel);
            current = batch.pixels[i].channel();
            resume(run, current);
            limit = SortedPixel::limit(current);
            add_bias(ended, channel);  // while the sums are on their way
          }
          batch.add_to(run, i);
        };
        for (; at + T::kUnroll <= last; at += T::kUnroll) {
          const Batch<T::kUnroll> batch(*this, at);
#pragma unroll
          for (int i = 0; i < T::kUnroll; ++i) add(batch, i);
        }
        for (; at < last; ++at) add(Batch<1>(*this, at), 0);
        leave(run, current);
        add_bias(run, current);
      }
    }
    if (lane == 0) handed_over[warp] = carried;
    __syncthreads();  // every run that was begun here is settled, and the columns have been read
    // A run handed on to several warps: each adds what it has of it when those before it have.
    const int other = handed_over[lane % T::kWarps], before = __shfl_up_sync(0xffffffffu, other, 1);
    const bool follows = lane > 0 && lane < T::kWarps && other >= 0 && other == before;
    const unsigned chains = __ballot_sync(0xffffffffu, follows);
    const int turn = __clz(static_cast<int>(~(chains << (31 - warp))));  // how many followers end with this warp
    int turns = 1;
    for (unsigned left = chains; left != 0; left &= left << 1) ++turns;
#pragma unroll 1
    for (int at = 0; at < turns; ++at) {
      if (at > 0) __syncthreads();
      if (carried < 0 || at != turn) continue;
      Run total;
      resume(total, carried);
#pragma unroll
      for (int j = 0; j < kParts; ++j) total.parts[j] += carry.parts[j];
      leave(total, carried);
      add_bias(carry, carried);
    }
  }
};

}  // namespace convmin::backward
