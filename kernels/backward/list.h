// The output pixels of a slice, ordered by winning channel and, where it is the same, by number.
#pragma once

#include <cuda_runtime_api.h>

#include "backward/params.h"

namespace convmin::backward {

// Fills params.list and params.present. Returns a cudaError_t.
int launch_list(const Params& params, const BackwardPlan& plan, cudaStream_t stream);

}  // namespace convmin::backward
