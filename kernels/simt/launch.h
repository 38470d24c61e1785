// Entry points of the instantiation files, one per element type and gather order. Each returns a cudaError_t.
#pragma once

#include <cuda_runtime_api.h>

#include "common/fallback.h"
#include "simt/params.h"

namespace convmin::simt {

int launch_float32_pixels(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_float32_channels(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_float64_pixels(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_float64_channels(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_float16_pixels(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_float16_channels(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_bfloat16_pixels(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_bfloat16_channels(const Params& params, const Plan& plan, cudaStream_t stream);

// The same over the tiles that a tensor-core kernel noted; nothing to do is decided on the device.
int launch_float32_tiles(const Params& params, const Plan& plan, const Fallback& tiles, cudaStream_t stream);
int launch_tiles(const Problem& problem, const Plan& plan, const Arguments& arguments, const Fallback& tiles,
                 cudaStream_t stream);

// Plan -> instantiation.
int launch(const Problem& problem, const Plan& plan, const Arguments& arguments, cudaStream_t stream);

}  // namespace convmin::simt
