// The producer warpgroup: input rows from global memory, converted to the tensor cores' type and swizzled, into the
// ring. A row's loads are issued before its slot is waited for, so that they overlap the consumers' work.
#pragma once

#include "ptx/warpgroup.cuh"
#include "sm90/ring.cuh"
#include "sm90/traits.h"

namespace convmin::sm90 {

template <typename T>
class Producer {
 public:
  using Element = typename T::Element;
  using Mma = typename T::Mma;

  __device__ __forceinline__ Producer(const Params& params, SharedStorage<T>& shared, std::uint8_t* ring)
      : params_(params), shared_(shared), ring_(ring), thread_(static_cast<int>(threadIdx.x) % 128) {}

  __device__ __forceinline__ void run() {
    RingCursor cursor;
    for_each_run(params_, [&](const Run& run) {
      const int first = run.first_row - params_.padding_h;
      const int rows = run.rows - 1 + params_.window;
      for (int row = 0; row < rows; ++row) {
        produce(run, first + row, cursor);
        cursor.advance(params_.ring);
      }
    });
  }

 private:
  static constexpr int kPacked = 8;  // channels of a 16-byte store
  static constexpr int kPerRow = kChunk / kPacked;
  // Packs that a thread loads before it stores the first: 64 float32 fill the producer's registers, and their addresses
  // come on top where packs are not a constant stride apart.
  static constexpr int kInFlight = sizeof(Element) == 4 && T::kGather == Gather::kChannels ? kPerRow / 2 : kPerRow;
  struct Pack {
    Element values[kPacked];
  };

  __device__ __forceinline__ void produce(const Run& run, int ih, const RingCursor& cursor) {
    const bool row_inside = static_cast<unsigned>(ih) < static_cast<unsigned>(params_.h);
    const Element* row = static_cast<const Element*>(params_.input) + run.n * params_.input_stride_n +
                         (row_inside ? ih : 0) * params_.input_stride_h;
    const int first_iw = run.first_column - params_.padding_w;
    std::uint8_t* slot = ring_ + cursor.slot * params_.chunks * params_.row_pixels * kRowBytes;
    bool outside = false;
    for (int chunk = 0; chunk < params_.chunks; ++chunk) {
      std::uint8_t* rows = slot + chunk * params_.row_pixels * kRowBytes;
      const int first_channel = chunk * kChunk;
      Pack extra;
      const int extra_pixel = kTileM + thread_ / kPerRow, extra_index = thread_ % kPerRow;
      const bool has_extra = extra_pixel < params_.row_pixels;
      float largest = 0.0f;  // of this thread's pixel, where it has one to itself
#pragma unroll 1             // or the second half's loads would be moved up to the first's
      for (int first = 0; first < kPerRow; first += kInFlight) {
        Pack packs[kInFlight];
#pragma unroll
        for (int i = 0; i < kInFlight; ++i) {
          load(packs[i], row, row_inside, first_iw, pixel(first + i), first_channel, pack(first + i));
        }
        if (first == 0 && has_extra) {
          load(extra, row, row_inside, first_iw, extra_pixel, first_channel, extra_index);
        }
        if (first == 0 && chunk == 0) {
          ptx::mbarrier_wait(ptx::shared_address(&shared_.empty[cursor.slot]), cursor.parity ^ 1);
        }
#pragma unroll
        for (int i = 0; i < kInFlight; ++i) {
          store(packs[i], rows, pixel(first + i), pack(first + i));
          if constexpr (T::kChecksRange && T::kGather == Gather::kPixels) {
            largest = fmaxf(largest, magnitude(packs[i]));
          } else if constexpr (T::kChecksRange) {
            outside |= out_of_range(largest_of_lanes(magnitude(packs[i])));
          }
        }
      }
      if (has_extra) {
        store(extra, rows, extra_pixel, extra_index);
        if constexpr (T::kChecksRange) outside |= out_of_range(largest_of_lanes(magnitude(extra)));
      }
      if constexpr (T::kChecksRange) outside |= out_of_range(largest);
    }
    if constexpr (T::kChecksRange) {
      if (outside) shared_.outside[cursor.slot] = cursor.row;
    }
    ptx::fence_proxy_async();
    ptx::mbarrier_arrive(ptx::shared_address(&shared_.full[cursor.slot]));
  }

  // Which (pixel, pack of channels) a thread's i-th load brings. NCHW: neighbouring threads, neighbouring pixels, and a
  // thread holds a whole pixel; channels_last: neighbouring threads, neighbouring packs of a pixel.
  __device__ __forceinline__ int pixel(int i) const {
    return T::kGather == Gather::kPixels ? thread_ : i * (128 / kPerRow) + thread_ / kPerRow;
  }
  __device__ __forceinline__ int pack(int i) const { return T::kGather == Gather::kPixels ? i : thread_ % kPerRow; }

  __device__ __forceinline__ void load(Pack& out, const Element* row, bool row_inside, int first_iw, int pixel,
                                       int first_channel, int pack) const {
    const int iw = first_iw + pixel, c = first_channel + pack * kPacked;
    const bool inside = row_inside && static_cast<unsigned>(iw) < static_cast<unsigned>(params_.w);
    const Element* source = row + iw * params_.input_stride_w + c * params_.input_stride_c;
    if constexpr (T::kGather == Gather::kPixels) {
      if (c + kPacked <= params_.c) {
#pragma unroll
        for (int j = 0; j < kPacked; ++j) {
          out.values[j] = inside ? __ldg(source + j * params_.input_stride_c) : Element{};
        }
      } else {
#pragma unroll
        for (int j = 0; j < kPacked; ++j) {
          out.values[j] = inside && c + j < params_.c ? __ldg(source + j * params_.input_stride_c) : Element{};
        }
      }
    } else {
      // Channels lie next to each other, aligned, and their number is a multiple of the pack: plan() sees to it.
      constexpr int kVectors = sizeof(Pack) / 16;
      const bool whole = inside && c < params_.c;
      auto* vectors = reinterpret_cast<uint4*>(&out);
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        vectors[v] = whole ? __ldg(reinterpret_cast<const uint4*>(source) + v) : uint4{0, 0, 0, 0};
      }
    }
  }

  static __device__ __forceinline__ void store(const Pack& pack, std::uint8_t* rows, int pixel, int pack_index) {
    union {
      uint4 vector;
      __half2 halves[4];
      Mma values[kPacked];
    } out;
    if constexpr (sizeof(Element) == 4) {
#pragma unroll
      for (int j = 0; j < 4; ++j) out.halves[j] = __floats2half2_rn(pack.values[2 * j], pack.values[2 * j + 1]);
    } else {
#pragma unroll
      for (int j = 0; j < kPacked; ++j) out.values[j] = pack.values[j];
    }
    *reinterpret_cast<uint4*>(rows + pixel * kRowBytes + ((pack_index ^ (pixel & 7)) * 16)) = out.vector;
  }

  // Whether a pixel leaves what float16 holds as well as TF32 does; NaN passes, since it stays NaN. Above, values round
  // to infinity. Below, float16's subnormal step of 2^-24 is coarser than TF32's: what a pixel's small channels lose is
  // to be no more than TF32 loses of its largest product. Channels' weights peak within 8 of each other
  // (kFaintestPeak), so that product is at least 2^-11 * 2^12, and the loss at most 2^-25 * 2^15, a 2^-11th of it.
  static __device__ __forceinline__ bool out_of_range(float largest) {
    return largest > 65504.0f || (largest != 0.0f && largest < 0x1p-11f);
  }

  static __device__ __forceinline__ float magnitude(const Pack& pack) {
    float largest = 0.0f;
#pragma unroll
    for (int j = 0; j < kPacked; ++j) largest = fmaxf(largest, fabsf(pack.values[j]));
    return largest;
  }

  // Over the neighbouring lanes that hold one pixel. The whole warp must call it.
  static __device__ __forceinline__ float largest_of_lanes(float largest) {
#pragma unroll
    for (int offset = 1; offset < kPerRow; offset *= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, offset));
    }
    return largest;
  }

  const Params& params_;
  SharedStorage<T>& shared_;
  std::uint8_t* ring_;
  const int thread_;
};

}  // namespace convmin::sm90
