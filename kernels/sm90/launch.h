// Entry points of the instantiation files, one per element type and gather order. Each returns a cudaError_t.
#pragma once

#include <cuda_runtime_api.h>

#include "sm90/params.h"

namespace convmin::sm90 {

int launch_float32_pixels(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_float32_channels(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_float16_pixels(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_float16_channels(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_bfloat16_pixels(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_bfloat16_channels(const Params& params, const Plan& plan, cudaStream_t stream);

// Plan -> instantiation. Where Plan::fallback_blocks is not 0, the tiles in fallback() are still to be computed then.
int launch(const Problem& problem, const Plan& plan, const Arguments& arguments, cudaStream_t stream);
Fallback fallback(const Problem& problem, const Plan& plan, const Arguments& arguments);

}  // namespace convmin::sm90
