// Entry points of the instantiation files, one per element type. Each returns a cudaError_t.
#pragma once

#include <cuda_runtime_api.h>

#include "backward/params.h"

namespace convmin::backward {

int launch_float32(const Params& params, const BackwardPlan& plan, cudaStream_t stream);
int launch_float64(const Params& params, const BackwardPlan& plan, cudaStream_t stream);
int launch_float16(const Params& params, const BackwardPlan& plan, cudaStream_t stream);
int launch_bfloat16(const Params& params, const BackwardPlan& plan, cudaStream_t stream);

}  // namespace convmin::backward
