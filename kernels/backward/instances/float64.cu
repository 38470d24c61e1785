#include "backward/launch.cuh"

namespace convmin::backward {

int launch_float64(const Params& params, const BackwardPlan& plan, cudaStream_t stream) {
  return launch_element<double>(params, plan, stream);
}

}  // namespace convmin::backward
