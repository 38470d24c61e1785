#include "simt/kernel.cuh"

namespace convmin::simt {

int launch_float64_pixels(const Params& params, const Plan& plan, cudaStream_t stream) {
  return launch_element<double, Gather::kPixels>(params, plan, stream);
}

}  // namespace convmin::simt
