// Packs the weight into the order of the multiplication's fragments, zero-padded to whole tiles: a thread's share of a
// fragment pair is one 16-byte vector, next to its neighbour's, so shared memory holds it without padding or swizzle.
// Where float32 multiplies as float16, filters are scaled by a power of two each (see range.cuh).
#pragma once

#include "common/load.cuh"
#include "sm80/operand.cuh"
#include "sm80/params.h"
#include "sm80/range.cuh"
#include "sm80/traits.h"

namespace convmin::sm80 {

inline constexpr int kPackThreads = 256;
inline constexpr int kPackOutputs = 16, kPackTaps = 16;  // of a block at a time
inline constexpr int kPackTogether = 6;                  // elements that a thread loads before it stores the first

// One block per kPackOutputs output channels and chunk of the reduction: read in the order of memory, written in that
// of [group][block of outputs][step][half of the step][16 outputs][lane].
template <typename T>
__global__ void __launch_bounds__(kPackThreads) conv_scale_min_sm80_pack(const __grid_constant__ Params params) {
  using Element = typename T::Element;
  using Operand = typename T::Operand;
  using Bits = std::conditional_t<sizeof(Operand) == 4, std::uint32_t, std::uint16_t>;
  constexpr int kWords = T::kChunk * static_cast<int>(sizeof(Bits)) / 4;
  __shared__ union {
    Bits bits[kPackTaps][kPackOutputs][T::kChunk + 4 / sizeof(Bits)];
    std::uint32_t words[kPackTaps][kPackOutputs][kWords + 1];
  } shared;

  const int thread = static_cast<int>(threadIdx.x);
  for (std::int64_t i = std::int64_t{blockIdx.x} * kPackThreads + thread; i < params.counter_count;
       i += std::int64_t{gridDim.x} * kPackThreads) {
    params.counters[i] = 0;
  }

  const int chunk = static_cast<int>(blockIdx.x % params.chunks);
  const int pairs = T::kTileN / kPackOutputs;
  const int pair = static_cast<int>(blockIdx.x / params.chunks % pairs);
  const auto block = static_cast<std::int64_t>(blockIdx.x / params.chunks / pairs);  // of outputs, of all groups
  const int group = static_cast<int>(block / params.group_blocks);
  const int first_output =
      static_cast<int>(block - static_cast<std::int64_t>(group) * params.group_blocks) * T::kTileN +
      pair * kPackOutputs;
  const int first_k = group * params.group_outputs + first_output;
  const auto* weight = static_cast<const Element*>(params.weight) + first_k * params.weight_stride_k;

  const int taps = T::kGather == Gather::kTaps ? 1 : params.r * params.s;
  const bool channels_inside = params.weight_stride_c < params.weight_stride_s;
  for (int first_tap = 0; first_tap < taps; first_tap += kPackTaps) {
    const int batch = min(taps - first_tap, kPackTaps);
    const int count = kPackOutputs * T::kChunk * batch;
    for (int base = 0; base < count; base += kPackTogether * kPackThreads) {
      const int first = base + thread;
      Element values[kPackTogether];
      Bits* targets[kPackTogether];
#pragma unroll
      for (int j = 0; j < kPackTogether; ++j) {
        if (base + j * kPackThreads >= count) break;
        const int i = min(first + j * kPackThreads, count - 1);
        const int outer = channels_inside ? i / T::kChunk : i / batch;
        const int element = channels_inside ? i % T::kChunk : outer % T::kChunk;
        const int tap = channels_inside ? outer % batch : i % batch;
        const int output = channels_inside ? outer / batch : outer / T::kChunk;
        int channel = chunk * T::kChunk + element, at = first_tap + tap;
        bool real = output + first_output < params.group_outputs && channel < params.group_channels;
        if constexpr (T::kGather == Gather::kTaps) {
          real = output + first_output < params.group_outputs && channel < params.reduction;
          at = channel / params.group_channels;
          channel -= at * params.group_channels;
        }
        values[j] =
            real ? load_read_only(weight + output * params.weight_stride_k + channel * params.weight_stride_c +
                                  at / params.s * params.weight_stride_r + at % params.s * params.weight_stride_s)
                 : Element{};
        if constexpr (T::kScaled) values[j] *= real ? 1.0f / __ldg(&params.channel_factor[first_k + output]) : 1.0f;
        targets[j] = &shared.bits[tap][output][element];
      }
#pragma unroll
      for (int j = 0; j < kPackTogether; ++j) {
        if (first + j * kPackThreads < count) *targets[j] = static_cast<Bits>(operand_bits<Operand>(values[j]));
      }
    }
    __syncthreads();
    for (int i = thread; i < batch * T::kHalves * 32; i += kPackThreads) {
      const int lane = i % 32, half = i / 32 % T::kHalves, tap = i / 32 / T::kHalves;
      const auto& outputs = shared.words[tap];
      const int word = half * 8 + lane % 4, output = lane / 4;
      // Steps run over taps within chunks where a patch serves all taps, else over chunks within taps.
      const int at = first_tap + tap;
      const int step = params.taps > 1 ? chunk * params.taps + at : at * params.chunks + chunk;
      auto* image = static_cast<uint4*>(params.packed_weight) + (block * params.steps + step) * T::kWeightVectors;
      image[(half * pairs + pair) * 32 + lane] = {outputs[output][word], outputs[output][word + 4],
                                                  outputs[output + 8][word], outputs[output + 8][word + 4]};
    }
    __syncthreads();
  }
}

// One block per filter: its power of two, and how large the weights of each input channel get in any filter.
template <typename T>
__global__ void __launch_bounds__(kPackThreads) conv_scale_min_sm80_scale(const __grid_constant__ Params params) {
  const int k = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const auto* filter = static_cast<const float*>(params.weight) + k * params.weight_stride_k;
  const int taps = params.r * params.s;
  const auto read = [&](int channel, int tap) {
    return fabsf(filter[channel * params.weight_stride_c + tap / params.s * params.weight_stride_r +
                        tap % params.s * params.weight_stride_s]);
  };
  __shared__ unsigned largest;  // as bits of a float, which order as the floats do
  if (thread == 0) largest = 0;
  __syncthreads();
  unsigned mine = 0;
  const bool channels_inside = params.weight_stride_c < params.weight_stride_s;
  for (int i = thread; i < params.reduction; i += kPackThreads) {
    const int channel = channels_inside ? i % params.group_channels : i / taps;
    mine = max(mine, __float_as_uint(read(channel, channels_inside ? i / params.group_channels : i % taps)));
  }
  atomicMax(&largest, mine);  // of integers: the same whatever the order
  __syncthreads();
  const float up = filter_scale(largest);
  if (thread == 0) {
    params.channel_factor[k] = 1.0f / up;
    if (out_of_scale(largest)) *params.fallback.everything = 1;
  }
  for (int channel = thread; channel < params.group_channels; channel += kPackThreads) {
    float peak = 0.0f;
    for (int tap = 0; tap < taps; ++tap) peak = fmaxf(peak, read(channel, tap));
    atomicMax(&params.channel_peak[channel], __float_as_uint(peak * up));
  }
}

}  // namespace convmin::sm80
