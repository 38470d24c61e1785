// Half a step's multiplication: 32 bytes of the reduction of a warp's pixels and output channels. The pixels' fragments
// are loaded half a step ahead, so that their latency runs under the multiplications; the weight's too, or the first of
// them, as the producer leaves registers for it.
#pragma once

#include "ptx/ldmatrix.cuh"
#include "ptx/mma.cuh"
#include "ptx/shared_address.cuh"
#include "sm80/patch.cuh"

namespace convmin::sm80 {

template <typename T>
class Mainloop {
 public:
  // Of 16 pixels x 8 channels each, as ptx::Mma says.
  using Accumulators = float[T::kFragmentsM][T::kFragmentsN][4];
  using Pixels = std::uint32_t[T::kFragmentsM][4];
  using Weights = uint4[T::kFragmentsN / 2];  // two fragments each

  __device__ __forceinline__ Mainloop(const Params& params, const std::uint8_t* shared, const BlockTile& tile) {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int first = warp % T::kWarpsM * T::kWarpM;
#pragma unroll
    for (int m = 0; m < T::kFragmentsM; ++m) {
      windows_[m] = ptx::shared_address(shared + params.patches) + tile.window(params, first + m * 16 + lane % 16) +
                    lane / 16 * 16;
    }
    weight_ = ptx::shared_address(shared) + (warp / T::kWarpsM * (T::kWarpN / 16) * 32 + lane) * 16;
  }

  // `patch` is the tap's offset in the ring of patches.
  template <int kHalf>
  __device__ __forceinline__ void load(int patch, Pixels& a) const {
#pragma unroll
    for (int m = 0; m < T::kFragmentsM; ++m) ptx::ldmatrix_x4(a[m], windows_[m] + patch + kHalf * 32);
  }

  // `weight` is the step's offset in the ring of weights; pairs of fragments from kFirst to before kEnd.
  template <int kHalf, int kFirst = 0, int kEnd = T::kFragmentsN / 2>
  __device__ __forceinline__ void load(int weight, Weights& b) const {
#pragma unroll
    for (int n = kFirst; n < kEnd; ++n) {
      b[n] = ptx::load_shared_16(weight_ + weight + (kHalf * (T::kTileN / 16) + n) * 32 * 16);
    }
  }

  static __device__ __forceinline__ void multiply(Pixels& a, const Weights& b, Accumulators& accumulators) {
    if constexpr (T::kRoundsFragments) {
#pragma unroll
      for (auto& fragment : a)
#pragma unroll
        for (std::uint32_t& word : fragment) word = ptx::round_to_tf32(__uint_as_float(word));
    }
#pragma unroll
    for (int n = 0; n < T::kFragmentsN; n += 2) {
#pragma unroll
      for (int m = 0; m < T::kFragmentsM; ++m) {
        ptx::Mma<typename T::Operand>::multiply(accumulators[m][n], a[m], b[n / 2].x, b[n / 2].y);
        ptx::Mma<typename T::Operand>::multiply(accumulators[m][n + 1], a[m], b[n / 2].z, b[n / 2].w);
      }
    }
  }

 private:
  std::uint32_t weight_;
  std::uint32_t windows_[T::kFragmentsM];
};

}  // namespace convmin::sm80
