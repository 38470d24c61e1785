#include "sm80/window/kernel.cuh"

namespace convmin::sm80::window {

int launch_float16(const Params& params, const Plan& plan, cudaStream_t stream) {
  return launch_element<__half>(params, plan, stream);
}

}  // namespace convmin::sm80::window
