#include "backward/launch.cuh"

namespace convmin::backward {

int launch_bfloat16(const Params& params, const BackwardPlan& plan, cudaStream_t stream) {
  return launch_element<__nv_bfloat16>(params, plan, stream);
}

}  // namespace convmin::backward
