#include "sm90/patch/kernel.cuh"

namespace convmin::sm90::patch {

int launch_float32(const Params& params, const Plan& plan, cudaStream_t stream) {
  return launch_element<float>(params, plan, stream);
}

}  // namespace convmin::sm90::patch
