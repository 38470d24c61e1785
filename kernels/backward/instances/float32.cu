#include "backward/launch.cuh"

namespace convmin::backward {

int launch_float32(const Params& params, const BackwardPlan& plan, cudaStream_t stream) {
  return launch_element<float>(params, plan, stream);
}

}  // namespace convmin::backward
