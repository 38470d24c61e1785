// The sparse gradients on the CPU. No torch header.
#pragma once

#include <cstdint>

namespace convmin {

struct GradientProblem {
  std::int64_t n, c, h, w;  // input
  std::int64_t k, r, s;     // weight [k, c / groups, r, s]
  std::int64_t oh, ow;
  std::int64_t stride[2], padding[2], dilation[2];
  std::int64_t groups;

  std::int64_t channels() const { return c / groups; }
  std::int64_t outputs() const { return k / groups; }
  std::int64_t taps() const { return r * s; }
};

// Rows [begin, end) of the n * h rows of grad_input, dense [n, c, h, w] or, channels_last, [n, h, w, c].
// gradient [n, oh, ow], times the scale; indices [n, oh, ow]; weight [k, r, s, c / groups].
void grad_input_rows(const GradientProblem& problem, const float* gradient, const std::int32_t* indices,
                     const float* weight, bool channels_last, std::int64_t begin, std::int64_t end, float* grad_input);
void grad_input_rows(const GradientProblem& problem, const double* gradient, const std::int32_t* indices,
                     const double* weight, bool channels_last, std::int64_t begin, std::int64_t end,
                     double* grad_input);

// How grad_weight is divided: `slices` runs of the n * oh output rows, whose sums are added in order, and blocks of
// input channels. Depends on the problem alone, not on the number of threads.
struct GradientTasks {
  std::int64_t slices, blocks, block_channels;
};
GradientTasks plan_grad_weight(const GradientProblem& problem);

// One task: the sums of a slice for a block of channels, into sums [k, r, s, c / groups] of that slice (the block's
// channels alone are written); null where they are not wanted. `strides` are the input's. bias_sums [k], which
// block 0 alone writes, may be null.
void grad_weight_task(const GradientProblem& problem, const GradientTasks& tasks, std::int64_t slice,
                      std::int64_t block, const float* gradient, const std::int32_t* indices, const float* input,
                      const std::int64_t (&strides)[4], float* sums, double* bias_sums);
void grad_weight_task(const GradientProblem& problem, const GradientTasks& tasks, std::int64_t slice,
                      std::int64_t block, const double* gradient, const std::int32_t* indices, const double* input,
                      const std::int64_t (&strides)[4], double* sums, double* bias_sums);

}  // namespace convmin
