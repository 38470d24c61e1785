#pragma once

#include "conv_scale_min.h"

namespace convmin::direct {

// Fills `plan` and returns null, or returns why the direct kernel can't take the problem.
const char* plan(const Problem& problem, const Device& device, Plan* plan);
// Why another kernel is faster, or null.
const char* drawback(const Problem& problem, const Device& device, const Plan& plan);

// The instantiation of a plan; `direct/traits.h` says what the numbers are.
struct Variant {
  int vector, rows, outputs, window, step;
};
Variant variant_of(const Problem& problem, const Plan& plan);

// The weight's rows in shared memory.
struct WeightRows {
  std::int64_t rows, channels, pitch, bytes;  // the pitch is in bytes, too; groups have a row more, of the bias
};
WeightRows weight_rows(const Problem& problem);

}  // namespace convmin::direct
