#include "backward/launch.cuh"

namespace convmin::backward {

int launch_float16(const Params& params, const BackwardPlan& plan, cudaStream_t stream) {
  return launch_element<__half>(params, plan, stream);
}

}  // namespace convmin::backward
