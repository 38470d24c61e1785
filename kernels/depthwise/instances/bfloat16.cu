#include "depthwise/kernel.cuh"

namespace convmin::depthwise {

int launch_bfloat16(const Params& params, const Plan& plan, const Variant& variant, cudaStream_t stream) {
  return launch_element<__nv_bfloat16>(params, plan, variant, stream);
}

}  // namespace convmin::depthwise
