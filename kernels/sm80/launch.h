// Entry points of the instantiation files, one per element type and way to the input. Each returns a cudaError_t.
#pragma once

#include <cuda_runtime_api.h>

#include "sm80/params.h"

namespace convmin::sm80 {

int launch_float32_pixels(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_float32_channels(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_float32_taps(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_float32_quads(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_scaled_pixels(const Params& params, const Plan& plan, cudaStream_t stream);  // float32 as float16
int launch_scaled_channels(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_scaled_quads(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_float16_pixels(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_float16_channels(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_float16_taps(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_float16_quads(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_bfloat16_pixels(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_bfloat16_channels(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_bfloat16_taps(const Params& params, const Plan& plan, cudaStream_t stream);
int launch_bfloat16_quads(const Params& params, const Plan& plan, cudaStream_t stream);

int launch(const Problem& problem, const Plan& plan, const Arguments& arguments, cudaStream_t stream);
// What a launch with Plan::fallback_blocks left to the portable kernel.
Fallback fallback(const Problem& problem, const Plan& plan, const Arguments& arguments);

}  // namespace convmin::sm80
