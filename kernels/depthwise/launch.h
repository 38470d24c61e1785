// Entry points of the instantiation files, one per element type. Each returns a cudaError_t.
#pragma once

#include <cuda_runtime_api.h>

#include "depthwise/params.h"
#include "depthwise/plan.h"

namespace convmin::depthwise {

struct Variant {
  int window, step;
  Unit unit;
};

int launch_float32(const Params& params, const Plan& plan, const Variant& variant, cudaStream_t stream);
int launch_float16(const Params& params, const Plan& plan, const Variant& variant, cudaStream_t stream);
int launch_bfloat16(const Params& params, const Plan& plan, const Variant& variant, cudaStream_t stream);

// Plan -> instantiation.
int launch(const Problem& problem, const Plan& plan, const Arguments& arguments, cudaStream_t stream);

}  // namespace convmin::depthwise
