#include "sm90/patch/kernel.cuh"

namespace convmin::sm90::patch {

int launch_float32_scaled(const Params& params, const Plan& plan, cudaStream_t stream) {
  return launch_element<float, __half>(params, plan, stream);
}

}  // namespace convmin::sm90::patch
