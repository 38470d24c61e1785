#include "sm80/window/kernel.cuh"

namespace convmin::sm80::window {

int launch_bfloat16(const Params& params, const Plan& plan, cudaStream_t stream) {
  return launch_element<__nv_bfloat16>(params, plan, stream);
}

}  // namespace convmin::sm80::window
