// grad_weight and grad_bias for any convolution: the output pixels in the order of their channels, cut into equal
// segments, so that no spread of the channels makes any of them longer. A team of lanes walks a segment; each lane has
// a few vectors of columns, which it loads straight from the input for one pixel after another, and keeps the sums of a
// run of one channel in registers. A run inside a segment is final; one that an end of the segment cuts is a piece.
#pragma once

#include <type_traits>

#include "backward/runs.cuh"

namespace convmin::backward {

// kVector_: 16 bytes of neighbouring channels, or 1 for an input without them.
template <typename Element_, int kVector_>
struct Runs {
  using Element = Element_;
  using Accum = typename Numeric<Element>::Accum;
  static constexpr int kVector = kVector_, kParts = parts_of(kVector), kUnroll = 4;
  static constexpr int kWarps = kRunsThreads / 32;
  // A staged round of a warp's teams, each a slot apart, so that small teams meet no bank twice.
  static constexpr int kSlots = 32 / kMinTeam * (kRoundPixels + 1);
  static_assert(kSlots >= kMaxTeam + 1 && kRoundPixels % kUnroll == 0, "one round of the largest team fits");
  using Raw = std::conditional_t<kVector == 1, Element, uint4>;
  static_assert(kVector == 1 || kVector == Vector<Element>::kCount, "scalars, or all of 16 bytes");

  static __device__ __forceinline__ Raw zero() {
    if constexpr (kVector == 1) {
      return Numeric<Element>::round(0);
    } else {
      return uint4{0, 0, 0, 0};
    }
  }
  // By words: an array of elements inside the vector would be one in memory.
  static __device__ __forceinline__ Accum value(const Raw& raw, int v) {
    if constexpr (kVector == 1) {
      return Numeric<Element>::widen(raw);
    } else {
      const std::uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
      if constexpr (sizeof(Element) == 8) {
        return __hiloint2double(static_cast<int>(words[2 * v + 1]), static_cast<int>(words[2 * v]));
      } else if constexpr (sizeof(Element) == 4) {
        return __uint_as_float(words[v]);
      } else {
        const auto bits = static_cast<unsigned short>(words[v / 2] >> (v % 2 * 16));
        return Numeric<Element>::widen(*reinterpret_cast<const Element*>(&bits));
      }
    }
  }
};

// Where a pixel's window starts, and a column relative to it.
struct alignas(16) Corner {
  std::int64_t offset;  // elements
  int h, w;
};
// A Corner or column past the end fails every bounds check: extents are below 2^30, so neither sentinel, nor their sum,
// nor either one's sum with a real coordinate lies in [0, 2^30) when taken as unsigned.
inline constexpr unsigned kOutsidePixel = 0x80000000u, kOutsideColumn = 0xc0000000u;

template <typename Accum>
struct alignas(2 * sizeof(Accum)) Term {
  Accum gradient;
  std::uint32_t channel;
};

// A lane's sums of one run.
template <typename T>
struct RunSums {
  using Element = typename T::Element;
  using Accum = typename T::Accum;
  Accum parts[T::kParts][T::kVector];
  double bias;

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int j = 0; j < T::kParts; ++j) {
#pragma unroll
      for (int v = 0; v < T::kVector; ++v) parts[j][v] = 0;
    }
    bias = 0;
  }
};

// A lane's vectors of columns.
template <typename T>
struct LaneColumns {
  int vectors[T::kParts];  // the number, beyond the last where there is none
  Corner corners[T::kParts];
  std::int64_t places[T::kParts];  // in grad_weight
  int counts[T::kParts];           // of its channels, those that are no padding of a copy

  __device__ __forceinline__ LaneColumns(const Params& params, int chunk, int lane) {
#pragma unroll
    for (int j = 0; j < T::kParts; ++j) {
      vectors[j] = (chunk * T::kParts + j) * params.team + lane;
      corners[j] = {0, static_cast<int>(kOutsideColumn), static_cast<int>(kOutsideColumn)};
      places[j] = 0, counts[j] = 0;
      if (vectors[j] >= params.column_vectors) continue;
      const Column column = column_at(params, vectors[j] * T::kVector);
      const int dh = column.r * params.dilation_h, dw = column.s * params.dilation_w;
      corners[j] = {column.channel * params.source_stride_c + dh * params.source_stride_h + dw * params.source_stride_w,
                    dh, dw};
      places[j] = grad_weight_place(params, column);
      counts[j] = min(params.group_channels - column.channel, T::kVector);
    }
  }
};

template <typename T>
struct RunsWalk {
  using Element = typename T::Element;
  using Accum = typename T::Accum;

  const Params& params;
  Corner* corners;                 // [kSlots] of the warp's
  Term<Accum>* terms;              // [kSlots]
  int segment, lane, slot, round;  // the lane's of the team; the team's first slot; pixels staged at a time
  LaneColumns<T> columns;
  bool keeps_bias;  // one lane of one chunk's does
  RunSums<T> run;

  __device__ __forceinline__ RunsWalk(const Params& params_, Corner* corners_, Term<Accum>* terms_, int segment_,
                                      int chunk, int team, int lane_)
      : params(params_),
        corners(corners_),
        terms(terms_),
        segment(segment_),
        lane(lane_),
        columns(params_, chunk, lane_) {
    round = max(params.team, kRoundPixels);
    slot = team * (round + 1);
    keeps_bias = params.grad_bias != nullptr && chunk == 0 && lane == 0;
    run.clear();
  }

  // What is beyond the list, or no channel's, is there with channel k: it reads nothing, and its sums go nowhere.
  __device__ __forceinline__ void stage(int first) const {
    for (int i = lane; i < round; i += params.team) {
      const int at = first + i;
      Corner corner{0, static_cast<int>(kOutsidePixel), static_cast<int>(kOutsidePixel)};
      Term<Accum> term{0, static_cast<std::uint32_t>(params.k)};
      std::uint32_t number = 0;
      if (at < params.list_pixels) term.channel = params.list.channels[at], number = params.list.numbers[at];
      if (term.channel < static_cast<std::uint32_t>(params.k)) {
        const PixelPlace place = place_of(params.first_pixel + number, params.oh, params.ow);
        term.gradient = read_gradient<Element>(params, locate(params, place.n, place.h, place.w).grad);
        const auto group = term.channel / static_cast<std::uint32_t>(params.group_outputs);
        corner.h = place.h * params.stride_h - params.padding_h;
        corner.w = place.w * params.stride_w - params.padding_w;
        corner.offset = static_cast<std::int64_t>(group) * params.tap_width * params.source_stride_c +
                        (place.n - params.first_image) * params.source_stride_n + corner.h * params.source_stride_h +
                        corner.w * params.source_stride_w;
      }
      corners[slot + i] = corner;
      terms[slot + i] = term;
    }
  }

  __device__ __forceinline__ void settle(std::uint32_t channel, bool continued, bool continues) {
    if (channel < static_cast<std::uint32_t>(params.k)) {
      const bool piece = continued || continues;
      const std::int64_t row = static_cast<std::int64_t>(segment) * 2 + (continued ? 0 : 1);
#pragma unroll
      for (int j = 0; j < T::kParts; ++j) {
        if (columns.vectors[j] >= params.column_vectors) continue;
        const int column = columns.vectors[j] * T::kVector;
        if (piece) {
          Accum* to = static_cast<Accum*>(params.pieces) + row * params.columns + column;
#pragma unroll
          for (int v = 0; v < T::kVector; ++v) to[v] = run.parts[j][v];
        } else {
          write(channel, column, j);
        }
      }
      if (keeps_bias) {
        if (piece) {
          params.bias_pieces[row] = run.bias;
        } else {
          deliver_bias<Element>(params, channel, run.bias);
        }
      }
    }
    run.clear();
  }

  __device__ __forceinline__ void write(std::int64_t k, int column, int j) const {
    if constexpr (T::kVector > 1) {
      if (params.weight_vectors) {
        Vector<Element> values;
#pragma unroll
        for (int v = 0; v < T::kVector; ++v) values.values[v] = Numeric<Element>::round(run.parts[j][v]);
        auto* to = static_cast<Element*>(params.grad_weight) + k * params.grad_weight_stride_k + columns.places[j];
        *reinterpret_cast<Vector<Element>*>(to) = values;
        return;
      }
    }
#pragma unroll
    for (int v = 0; v < T::kVector; ++v) {
      if (v < columns.counts[j]) {
        deliver<Element>(params, k, column + v, columns.places[j] + v * params.grad_weight_stride_c, run.parts[j][v]);
      }
    }
  }

  // Adds the staged pixels [at, at + kUnroll), whose loads are in flight together.
  __device__ __forceinline__ void add(int at, std::uint32_t& current, bool& continued) {
    Term<Accum> batch[T::kUnroll];
    typename T::Raw values[T::kUnroll][T::kParts];
    const auto* source = static_cast<const Element*>(params.source);
#pragma unroll
    for (int i = 0; i < T::kUnroll; ++i) {
      const Corner corner = corners[slot + at + i];
      batch[i] = terms[slot + at + i];
#pragma unroll
      for (int j = 0; j < T::kParts; ++j) {
        const unsigned h = static_cast<unsigned>(corner.h) + static_cast<unsigned>(columns.corners[j].h);
        const unsigned w = static_cast<unsigned>(corner.w) + static_cast<unsigned>(columns.corners[j].w);
        values[i][j] = T::zero();
        if (h < static_cast<unsigned>(params.h) && w < static_cast<unsigned>(params.w)) {
          values[i][j] =
              *reinterpret_cast<const typename T::Raw*>(source + (corner.offset + columns.corners[j].offset));
        }
      }
    }
    // A turn for each channel of the batch: they ascend, and mostly there is one.
    while (true) {
      double bias = 0;
#pragma unroll
      for (int i = 0; i < T::kUnroll; ++i) {
        if (batch[i].channel != current) continue;
#pragma unroll
        for (int j = 0; j < T::kParts; ++j) {
#pragma unroll
          for (int v = 0; v < T::kVector; ++v) run.parts[j][v] += batch[i].gradient * T::value(values[i][j], v);
        }
        if (keeps_bias) bias += static_cast<double>(batch[i].gradient);
      }
      if (keeps_bias) run.bias += bias;
      if (batch[T::kUnroll - 1].channel == current) break;
      settle(current, continued, false);
      continued = false;
      std::uint32_t next = batch[T::kUnroll - 1].channel;
#pragma unroll
      for (int i = T::kUnroll - 2; i >= 0; --i) next = batch[i].channel > current ? batch[i].channel : next;
      current = next;
    }
  }

  // With all of the warp's lanes in step.
  __device__ __forceinline__ void walk() {
    const auto none = static_cast<std::uint32_t>(params.k);
    const auto channel_of = [&](std::int64_t at) { return at < params.list_pixels ? params.list.channels[at] : none; };
    const std::int64_t begin = static_cast<std::int64_t>(segment) * params.segment_pixels;
    const std::int64_t end = begin + params.segment_pixels;
    std::uint32_t current = channel_of(begin);
    bool continued = begin > 0 && channel_of(begin - 1) == current;
    const std::uint32_t after = channel_of(end);
    for (std::int64_t first = begin; first < end; first += round) {
      __syncwarp();  // the previous round has been read
      if (first < params.list_pixels) stage(static_cast<int>(first));
      __syncwarp();
      if (first >= params.list_pixels) continue;
      for (int at = 0; at < round; at += T::kUnroll) add(at, current, continued);
    }
    settle(current, continued, after == current);
  }
};

template <typename Element, int kVector>
__global__ void __launch_bounds__(kRunsThreads, kRunsResident)
    conv_scale_min_grad_weight_runs(const __grid_constant__ Params params) {
  using T = Runs<Element, kVector>;
  __shared__ Corner corners[T::kWarps][T::kSlots];
  __shared__ Term<typename T::Accum> terms[T::kWarps][T::kSlots];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  // Neighbouring warps have the same pixels' next columns.
  const std::int64_t unit = static_cast<std::int64_t>(blockIdx.x) * T::kWarps + warp;
  const auto chunk = static_cast<int>(unit % params.team_chunks);
  const int team = lane / params.team;
  const std::int64_t segment = unit / params.team_chunks * (32 / params.team) + team;
  RunsWalk<T> walk(params, corners[warp], terms[warp], static_cast<int>(segment), chunk, team, lane % params.team);
  walk.walk();
}

}  // namespace convmin::backward
