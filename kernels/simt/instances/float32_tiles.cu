#include "simt/kernel.cuh"

namespace convmin::simt {

int launch_float32_tiles(const Params& params, const Plan& plan, const Fallback& tiles, cudaStream_t stream) {
  return plan.gather == Gather::kPixels ? launch_noted_tiles<Gather::kPixels>(params, plan, tiles, stream)
                                        : launch_noted_tiles<Gather::kChannels>(params, plan, tiles, stream);
}

}  // namespace convmin::simt
