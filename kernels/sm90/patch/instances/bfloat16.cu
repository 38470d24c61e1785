#include "sm90/patch/kernel.cuh"

namespace convmin::sm90::patch {

int launch_bfloat16(const Params& params, const Plan& plan, cudaStream_t stream) {
  return launch_element<__nv_bfloat16>(params, plan, stream);
}

}  // namespace convmin::sm90::patch
