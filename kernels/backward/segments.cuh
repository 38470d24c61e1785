// kWindow: a tile's pixels, sorted by channel, added to the sums of their channels. Each warp takes an equal segment of
// the sorted pixels, whatever the channels are, and keeps a run of one channel in registers; a lane is a column of the
// input. A run that an earlier warp began is handed over and added afterwards, in the order of the warps: so every sum
// has one owner at a time, and an order that no schedule changes.
#pragma once

#include "backward/read.cuh"

namespace convmin::backward {

inline constexpr int kPitch = 33;  // of a pixel's 32 columns in shared memory: columns of pixels meet no bank twice
inline constexpr int kOffsetBits = 17;

struct alignas(8) SortedPixel {
  float gradient;
  std::uint32_t packed;  // channel of the block's range << kOffsetBits | where the pixel's columns are

  __device__ __forceinline__ int channel() const { return static_cast<int>(packed >> kOffsetBits); }
  __device__ __forceinline__ int place() const { return static_cast<int>(packed & ((1u << kOffsetBits) - 1)); }
};

// The pixels [begin, end) of the tile's list that belong to the block's channels.
struct Bounds {
  int begin, end;
};

// T: kParts columns a lane, kWarps, kUnroll, and T::part_offset(part) in elements. A pixel's place is in bytes.
template <typename T>
struct Segments {
  static constexpr int kParts = T::kParts;

  float* sums;        // [range][kParts][32]
  double* bias_sums;  // [range]; one lane of one block's works for it, so that its precision costs nothing
  float* columns;     // [pixels][kPitch], and then the runs handed over
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
    float values[kCount][kParts];

    __device__ __forceinline__ Batch(const Segments& segments, int at) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        pixels[i] = segments.pixels[at + i];
        const auto* from = reinterpret_cast<const float*>(
            reinterpret_cast<const char*>(segments.columns + segments.lane) + pixels[i].place());
#pragma unroll
        for (int j = 0; j < kParts; ++j) values[i][j] = from[T::part_offset(j)];
      }
    }
    __device__ __forceinline__ void add_to(Run& run, int i) const {
#pragma unroll
      for (int j = 0; j < kParts; ++j) run.parts[j] += pixels[i].gradient * values[i][j];
      run.bias += pixels[i].gradient;
    }
  };

  __device__ __forceinline__ void settle(Run& run, int channel) const {
    float* to = sums + channel * kParts * 32 + lane;
#pragma unroll
    for (int j = 0; j < kParts; ++j) to[j * 32] += run.parts[j];
    if (keeps_bias) bias_sums[channel] += static_cast<double>(run.bias);
    run.clear();
  }

  // Starts and ends with all of the block's threads in step.
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
        run.clear();
        current = pixels[at].channel();
        for (; at + T::kUnroll <= last; at += T::kUnroll) {
          const Batch<T::kUnroll> batch(*this, at);
#pragma unroll
          for (int i = 0; i < T::kUnroll; ++i) {
            const int channel = batch.pixels[i].channel();
            if (channel != current) settle(run, current);
            current = channel;
            batch.add_to(run, i);
          }
        }
        for (; at < last; ++at) {
          const Batch<1> batch(*this, at);
          const int channel = batch.pixels[0].channel();
          if (channel != current) settle(run, current);
          current = channel;
          batch.add_to(run, 0);
        }
        settle(run, current);
      }
    }
    if (lane == 0) handed_over[warp] = carried;
    __syncthreads();        // the columns have been read: their place takes the runs handed over
    float* runs = columns;  // [kWarps][kParts][32], then [kWarps] of the bias
    float* bias_runs = runs + T::kWarps * kParts * 32;
    if (carried >= 0) {
#pragma unroll
      for (int j = 0; j < kParts; ++j) runs[(warp * kParts + j) * 32 + lane] = carry.parts[j];
      if (lane == 0) bias_runs[warp] = carry.bias;
    }
    __syncthreads();
    // The first of the warps that a channel's run was handed on by adds what they all have of it, in their order.
    if (carried >= 0 && handed_over[warp - 1] != carried) {
      float* to = sums + carried * kParts * 32 + lane;
      Run total;
#pragma unroll
      for (int j = 0; j < kParts; ++j) total.parts[j] = to[j * 32];
#pragma unroll 1
      for (int from = warp; from < T::kWarps && handed_over[from] == carried; ++from) {
#pragma unroll
        for (int j = 0; j < kParts; ++j) total.parts[j] += runs[(from * kParts + j) * 32 + lane];
        if (keeps_bias) bias_sums[carried] += static_cast<double>(bias_runs[from]);
      }
#pragma unroll
      for (int j = 0; j < kParts; ++j) to[j * 32] = total.parts[j];
    }
    __syncthreads();
  }
};

}  // namespace convmin::backward
