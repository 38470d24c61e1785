#include "sm90/kernel.cuh"

namespace convmin::sm90 {

int launch_float32_channels(const Params& params, const Plan& plan, cudaStream_t stream) {
  return launch_element<float, Gather::kChannels>(params, plan, stream);
}

}  // namespace convmin::sm90
