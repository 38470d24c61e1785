#pragma once

#include "conv_scale_min.h"
#include "depthwise/tiles.h"

namespace convmin::depthwise {

// Fills `plan` and returns null, or returns why the depthwise kernel can't take the problem.
const char* plan(const Problem& problem, const Device& device, Plan* plan);
// Why another kernel is faster, or null.
const char* drawback(const Problem& problem, const Device& device, const Plan& plan);

// Shared memory of a plan, by the names of Params, and how it is filled.
struct Stage {
  int rows, row_columns, units;
  int input_pitch;
  int first, input_bytes, bytes;
  int copied_channels;
  double copy, waits;  // about: instructions of a thread that copies, and cycles that it waits
};
Unit unit_of(const Problem& problem);
bool weight_vectors_fit(const Problem& problem);
Stage stage_of(const Problem& problem, const Plan& plan);

}  // namespace convmin::depthwise
