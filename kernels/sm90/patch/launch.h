// Entry points of the instantiation files, one per element type. Each returns a cudaError_t.
#pragma once

#include <cuda_runtime_api.h>

#include "sm90/patch/params.h"

namespace convmin::sm90::patch {

int launch_float32(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_float32_scaled(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_float16(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_bfloat16(const Params& params, const Plan& plan, cudaStream_t stream);

// Plan -> instantiation.
int launch(const Problem& problem, const Plan& plan, const Arguments& arguments, cudaStream_t stream);

// Fills in Device::clusters of the current device.
int count_clusters(Device* device);

// Where the kernel of such a plan notes the tiles that it leaves.
Fallback fallback(const Problem& problem, const Plan& plan, const Arguments& arguments);

}  // namespace convmin::sm90::patch
