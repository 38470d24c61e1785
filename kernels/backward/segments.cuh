// A tile's pixels, sorted by channel, added to the sums of their channels. Each warp takes an equal segment of the
// sorted pixels, whatever the channels are, and keeps a run of one channel in registers; a lane is a column of the
// input. A run that an earlier warp began is handed over and added afterwards, in the order of the warps: so every sum
// has one owner at a time, and an order that no schedule changes.
#pragma once

#include "backward/read.cuh"

namespace convmin::backward {

inline constexpr int kPitch = 33;  // of a pixel's 32 columns in shared memory: columns of pixels meet no bank twice
inline constexpr int kOffsetBits = 15;

template <typename Accum>
struct alignas(2 * sizeof(Accum)) SortedPixel {
  Accum gradient;
  std::uint32_t packed;  // channel of the block's range << kOffsetBits | where the pixel's columns are

  __device__ __forceinline__ int channel() const { return static_cast<int>(packed >> kOffsetBits); }
  __device__ __forceinline__ int place() const { return static_cast<int>(packed & ((1u << kOffsetBits) - 1)); }
};

// The pixels [begin, end) of the tile's list that belong to the block's channels.
struct Bounds {
  int begin, end;
};

// T: kParts columns a lane, kWarps, kUnroll, Accum, and T::address(pixel, index of it in [begin, end), part).
template <typename T>
struct Segments {
  using Accum = typename T::Accum;
  static constexpr int kParts = T::kParts;

  Accum* sums;       // [range][kParts][32]
  Accum* bias_sums;  // [range]
  Accum* columns;    // [pixels][kPitch], and then the runs handed over
  SortedPixel<Accum>* pixels;
  int* handed_over;  // [kWarps]: the channel, or -1
  int warp, lane;

  struct Run {
    Accum parts[kParts], bias;
    __device__ __forceinline__ void clear() {
#pragma unroll
      for (int j = 0; j < kParts; ++j) parts[j] = 0;
      bias = 0;
    }
  };

  __device__ __forceinline__ void add(const Run& run, int channel) const {
#pragma unroll
    for (int j = 0; j < kParts; ++j) sums[(channel * kParts + j) * 32 + lane] += run.parts[j];
    if (lane == 0) bias_sums[channel] += run.bias;
  }

  // Starts and ends with all of the block's threads in step.
  __device__ __forceinline__ void sum(const Bounds& bounds, bool by_rank) const {
    const int count = bounds.end - bounds.begin;
    const int share = (count + T::kWarps * T::kUnroll - 1) / (T::kWarps * T::kUnroll) * T::kUnroll;
    const int first = min(bounds.begin + warp * share, bounds.end), last = min(first + share, bounds.end);
    Run run, carry;
    run.clear();
    int carried = -1;
    if (first < last) {
      int current = pixels[first].channel();
      bool begun = first > bounds.begin && pixels[first - 1].channel() == current;
      const auto finish = [&] {
        if (begun) {
          carry = run, carried = current, begun = false;
        } else {
          add(run, current);
        }
      };
      const auto take = [&](auto count_, int at) {
        constexpr int kCount = decltype(count_)::value;
        SortedPixel<Accum> pixel[kCount];
        Accum values[kCount][kParts];
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
          pixel[i] = pixels[at + i];
          const Accum* from = columns + T::offset(pixel[i].place(), at + i - bounds.begin, by_rank) + lane;
#pragma unroll
          for (int j = 0; j < kParts; ++j) values[i][j] = from[T::part_offset(j)];
        }
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
          if (pixel[i].channel() != current) {
            finish();
            run.clear();
            current = pixel[i].channel();
          }
#pragma unroll
          for (int j = 0; j < kParts; ++j) run.parts[j] += pixel[i].gradient * values[i][j];
          run.bias += pixel[i].gradient;
        }
      };
      int at = first;
      for (; at + T::kUnroll <= last; at += T::kUnroll) take(std::integral_constant<int, T::kUnroll>{}, at);
      for (; at < last; ++at) take(std::integral_constant<int, 1>{}, at);
      finish();
    }
    if (lane == 0) handed_over[warp] = carried;
    __syncthreads();  // the columns have been read: their place takes the runs handed over
    Accum* runs = columns;  // [kWarps][kParts][32], then [kWarps] of the bias
    Accum* bias_runs = runs + T::kWarps * kParts * 32;
    if (carried >= 0) {
#pragma unroll
      for (int j = 0; j < kParts; ++j) runs[(warp * kParts + j) * 32 + lane] = carry.parts[j];
      if (lane == 0) bias_runs[warp] = carry.bias;
    }
    __syncthreads();
    for (int j = warp; j <= kParts; j += T::kWarps) {
      for (int from = 1; from < T::kWarps; ++from) {
        const int channel = handed_over[from];
        if (channel < 0) continue;
        if (j < kParts) {
          sums[(channel * kParts + j) * 32 + lane] += runs[(from * kParts + j) * 32 + lane];
        } else if (lane == 0) {
          bias_sums[channel] += bias_runs[from];
        }
      }
    }
    __syncthreads();
  }
};

}  // namespace convmin::backward
