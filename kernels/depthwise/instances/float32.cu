#include "depthwise/kernel.cuh"

namespace convmin::depthwise {

int launch_float32(const Params& params, const Plan& plan, const Variant& variant, cudaStream_t stream) {
  return launch_element<float>(params, plan, variant, stream);
}

}  // namespace convmin::depthwise
