#include "sm80/kernel.cuh"

namespace convmin::sm80 {

int launch_bfloat16_quads(const Params& params, const Plan& plan, cudaStream_t stream) {
  return launch_element<__nv_bfloat16, __nv_bfloat16, Gather::kQuads>(params, plan, stream);
}

}  // namespace convmin::sm80
