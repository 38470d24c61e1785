#include "sm80/kernel.cuh"

namespace convmin::sm80 {

int launch_float16_pixels(const Params& params, const Plan& plan, cudaStream_t stream) {
  return launch_element<__half, __half, Gather::kPixels>(params, plan, stream);
}

}  // namespace convmin::sm80
