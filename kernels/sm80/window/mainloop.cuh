// A warp's 32 output pixels by T::kWidth output channels. The pixels' fragments are gathered from the patch element by
// element: a lane knows where its four pixels' windows begin, and a table where each element of a window lies.
#pragma once

#include "ptx/mma.cuh"
#include "sm80/window/params.h"
#include "sm80/window/traits.h"

namespace convmin::sm80::window {

template <typename T>
class Mainloop {
 public:
  // Of 16 pixels x 8 channels each, as ptx::Mma says.
  using Accumulators = float[2][2 * T::kPairs][4];

  __device__ __forceinline__ Mainloop(const Params& params, const char* shared) : params_(params), shared_(shared) {
    const auto thread = static_cast<int>(threadIdx.x);
    lane_ = thread % 32;
#pragma unroll
    for (int p = 0; p < T::kPixels; ++p) {
      const int m = thread / 32 * 32 + p * 8 + lane_ / 4;
      const int row = m >> params.log_columns, column = m & (params.tile_columns - 1);
      windows_[p] = shared + params.patch + row * params.stride_h * params.patch_stride_h +
                    column * params.stride_w * params.patch_stride_w;
    }
    // Of the last step's words, what is of the reduction: zero times infinity is NaN.
    const int left = params.reduction - (params.steps - 1) * T::kStep;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int count = left - (half * 4 + lane_ % 4) * T::kWord;  // elements
      masks_[half] = count >= T::kWord ? 0xffffffffu : count > 0 ? 0xffffu : 0u;
    }
  }

  // Adds to the sums.
  __device__ __forceinline__ void multiply(int pass, Accumulators& sums) const {
    const auto* offsets = reinterpret_cast<const int4*>(shared_ + params_.offsets) + lane_ % 4;
    const auto* weight = reinterpret_cast<const uint4*>(shared_) + pass * params_.steps * T::kPairs * 32 + lane_;
    for (int step = 0; step < params_.steps - 1; ++step) {
      std::uint32_t pixels[2][4];
      gather(offsets[step * 4], pixels);
      multiply(pixels, weight + step * T::kPairs * 32, sums);
    }
    std::uint32_t pixels[2][4];
    gather(offsets[(params_.steps - 1) * 4], pixels);
#pragma unroll
    for (auto& fragment : pixels)
#pragma unroll
      for (int i = 0; i < 4; ++i) fragment[i] &= masks_[i / 2];
    multiply(pixels, weight + (params_.steps - 1) * T::kPairs * 32, sums);
  }

 private:
  __device__ __forceinline__ void gather(const int4& offsets, std::uint32_t (&pixels)[2][4]) const {
#pragma unroll
    for (int p = 0; p < T::kPixels; ++p) {
      pixels[p / 2][p % 2] = word(windows_[p], offsets.x, offsets.y);
      pixels[p / 2][p % 2 + 2] =
          T::kWord == 1 ? word(windows_[p], offsets.y, 0) : word(windows_[p], offsets.z, offsets.w);
    }
  }

  static __device__ __forceinline__ std::uint32_t word(const char* window, int first, int second) {
    if constexpr (T::kWord == 1) {
      return *reinterpret_cast<const std::uint32_t*>(window + first);
    } else {
      return *reinterpret_cast<const std::uint16_t*>(window + first) |
             static_cast<std::uint32_t>(*reinterpret_cast<const std::uint16_t*>(window + second)) << 16;
    }
  }

  static __device__ __forceinline__ void multiply(const std::uint32_t (&pixels)[2][4], const uint4* weight,
                                                  Accumulators& sums) {
    using Multiply = ptx::Mma<typename T::Element>;
#pragma unroll
    for (int pair = 0; pair < T::kPairs; ++pair) {
      const uint4 b = weight[pair * 32];
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        Multiply::multiply(sums[m][2 * pair], pixels[m], b.x, b.y);
        Multiply::multiply(sums[m][2 * pair + 1], pixels[m], b.z, b.w);
      }
    }
  }

  const Params& params_;
  const char* const shared_;
  const char* windows_[T::kPixels];
  std::uint32_t masks_[2];
  int lane_;
};

}  // namespace convmin::sm80::window
