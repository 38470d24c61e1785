// A stable radix sort. Each block has an equal part of the list and each warp an equal part of that: a pixel's position
// is the number of pixels of lower digits, plus those of its own digit in earlier blocks, in earlier warps, and earlier
// in its own warp. Counts are integers, so that nothing depends on a schedule; and no step depends on how the channels
// are spread.
#include "backward/list.h"
#include "backward/read.cuh"
#include "common/warp_scan.cuh"

namespace convmin::backward {
namespace {

constexpr int kBatch = 4;  // rounds whose channels are in flight at once
constexpr int kMaxDigits = 1 << kMaxDigitBits;
constexpr int kDigitsPerThread = kMaxDigits / kListThreads;
static_assert(kMaxDigits * kListWarps * 4 <= 48 << 10, "counters need no opt-in");

struct Pass {
  PixelList from;  // null: the pixels in the order of their numbers
  PixelList to;
  int shift, digits;
  bool first, last;
};

struct Range {
  int begin, end;
};
__device__ __forceinline__ Range part_of(const Range& range, int index, int count) {
  const auto size = static_cast<std::int64_t>(range.end - range.begin);
  return {range.begin + static_cast<int>(size * index / count),
          range.begin + static_cast<int>(size * (index + 1) / count)};
}

__device__ __forceinline__ std::uint32_t channel_at(const Params& params, const Pass& pass, int at) {
  if (!pass.first) return pass.from.channels[at];
  const PixelPlace place = place_of(params.first_pixel + at, params.oh, params.ow);
  const auto channel =
      static_cast<std::uint32_t>(read_channel(params, locate(params, place.n, place.h, place.w).index));
  return min(channel, static_cast<std::uint32_t>(params.k));
}

// Calls visit(place in the list, channel, digit, whether there is a pixel) with all of a warp's lanes in step.
template <typename Visit>
__device__ __forceinline__ void for_each_pixel(const Params& params, const Pass& pass, const Range& range,
                                               const Visit& visit) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::uint32_t mask = pass.last && pass.first ? ~0u : static_cast<std::uint32_t>(pass.digits) - 1;
  for (int first = range.begin; first < range.end; first += 32 * kBatch) {
    std::uint32_t channels[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int at = first + 32 * i + lane;
      channels[i] = at < range.end ? channel_at(params, pass, at) : 0;
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int at = first + 32 * i + lane;
      visit(at, channels[i], channels[i] >> pass.shift & mask, at < range.end);
    }
  }
}

// The lanes of the warp that have the same digit; those without a pixel are by themselves.
struct Same {
  int rank, count;
};
__device__ __forceinline__ Same same_digits(std::uint32_t digit, bool there) {
  const unsigned lanes = __match_any_sync(0xffffffffu, there ? digit : ~0u);
  return {__popc(lanes & ((1u << threadIdx.x % 32) - 1)), __popc(lanes)};
}

// Fills counters [kListWarps][digits].
__device__ __forceinline__ void count_digits(const Params& params, const Pass& pass, const Range& range,
                                             std::uint32_t* counters) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < kListWarps * pass.digits; i += kListThreads) counters[i] = 0;
  __syncthreads();
  std::uint32_t* mine = counters + thread / 32 * pass.digits;
  for_each_pixel(params, pass, range, [&](int, std::uint32_t, std::uint32_t digit, bool there) {
    const Same same = same_digits(digit, there);
    if (there && same.rank == 0) mine[digit] += static_cast<std::uint32_t>(same.count);
    __syncwarp();
  });
  __syncthreads();
}

__device__ __forceinline__ Range block_range(const Params& params) {
  return part_of({0, params.list_pixels}, static_cast<int>(blockIdx.x), params.sort_parts);
}

__global__ void __launch_bounds__(kListThreads)
    conv_scale_min_backward_digits(const __grid_constant__ Params params, const __grid_constant__ Pass pass) {
  extern __shared__ std::uint32_t counters[];
  const int thread = static_cast<int>(threadIdx.x);
  if (pass.first) {
    const auto step = static_cast<int>(gridDim.x) * kListThreads;
    for (int k = static_cast<int>(blockIdx.x) * kListThreads + thread; k < params.k; k += step) params.present[k] = 0;
  }
  count_digits(params, pass, part_of(block_range(params), thread / 32, kListWarps), counters);
  for (int digit = thread; digit < pass.digits; digit += kListThreads) {
    std::uint32_t total = 0;
#pragma unroll
    for (int warp = 0; warp < kListWarps; ++warp) total += counters[warp * pass.digits + digit];
    params.digit_counts[static_cast<int>(blockIdx.x) * pass.digits + digit] = total;
  }
}

__global__ void __launch_bounds__(kListThreads)
    conv_scale_min_backward_scatter(const __grid_constant__ Params params, const __grid_constant__ Pass pass) {
  extern __shared__ std::uint32_t counters[];
  __shared__ std::uint32_t warp_totals[kListWarps];
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const auto block = static_cast<int>(blockIdx.x);

  // Of each of the thread's digits: the pixels in earlier blocks, and in all.
  std::uint32_t earlier[kDigitsPerThread] = {}, totals[kDigitsPerThread] = {}, total = 0;
  const int per_thread = (pass.digits + kListThreads - 1) / kListThreads, first_digit = thread * per_thread;
#pragma unroll 4
  for (int part = 0; part < params.sort_parts; ++part) {
#pragma unroll
    for (int i = 0; i < kDigitsPerThread; ++i) {
      if (i >= per_thread || first_digit + i >= pass.digits) continue;
      const std::uint32_t count = params.digit_counts[part * pass.digits + first_digit + i];
      totals[i] += count;
      if (part < block) earlier[i] += count;
    }
  }
#pragma unroll
  for (int i = 0; i < kDigitsPerThread; ++i) total += totals[i];
  const Range range = part_of(block_range(params), warp, kListWarps);
  count_digits(params, pass, range, counters);

  const std::uint32_t inclusive = inclusive_sum(total, lane);
  if (lane == 31) warp_totals[warp] = inclusive;
  __syncthreads();
  std::uint32_t base = inclusive - total;
  for (int w = 0; w < warp; ++w) base += warp_totals[w];
#pragma unroll
  for (int i = 0; i < kDigitsPerThread; ++i) {
    if (i >= per_thread || first_digit + i >= pass.digits) continue;
    std::uint32_t position = base + earlier[i];
    base += totals[i];
#pragma unroll
    for (int w = 0; w < kListWarps; ++w) {
      std::uint32_t& counter = counters[w * pass.digits + first_digit + i];
      const std::uint32_t count = counter;
      counter = position;
      position += count;
    }
  }
  __syncthreads();

  std::uint32_t* mine = counters + warp * pass.digits;
  for_each_pixel(params, pass, range, [&](int at, std::uint32_t channel, std::uint32_t digit, bool there) {
    const Same same = same_digits(digit, there);
    if (there) {
      const std::uint32_t to = mine[digit] + static_cast<std::uint32_t>(same.rank);
      pass.to.channels[to] = channel;
      pass.to.numbers[to] = pass.first ? static_cast<std::uint32_t>(at) : pass.from.numbers[at];
      if (pass.last && channel < static_cast<std::uint32_t>(params.k)) params.present[channel] = 1;
    }
    __syncwarp();
    if (there && same.rank == 0) mine[digit] += static_cast<std::uint32_t>(same.count);
    __syncwarp();
  });
}

}  // namespace

int launch_list(const Params& params, const BackwardPlan& plan, cudaStream_t stream) {
  PixelList from{};
  for (int index = 0; index < plan.sort_passes; ++index) {
    Pass pass{};
    pass.first = index == 0, pass.last = index + 1 == plan.sort_passes;
    pass.shift = index * plan.digit_bits;
    pass.digits = plan.sort_passes == 1 ? params.k + 1 : 1 << plan.digit_bits;
    pass.from = from;
    pass.to = (plan.sort_passes - index) % 2 == 1 ? params.list : params.other_list;
    const int shared = kListWarps * pass.digits * 4;
    conv_scale_min_backward_digits<<<params.sort_parts, kListThreads, shared, stream>>>(params, pass);
    if (params.list_pixels == 0) break;  // all channels are known to be absent
    conv_scale_min_backward_scatter<<<params.sort_parts, kListThreads, shared, stream>>>(params, pass);
    from = pass.to;
  }
  return cudaGetLastError();
}

}  // namespace convmin::backward
