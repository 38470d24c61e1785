// What the families' parameters have in common, by the same names in each. Host code only.
#pragma once

#include "conv_scale_min.h"

namespace convmin {

template <typename Params>
void set_results(const Problem& problem, const Arguments& arguments, Params* params) {
  params->bias = problem.has_bias ? arguments.bias : nullptr;
  params->values = arguments.values;
  params->indices = problem.with_indices ? arguments.indices : nullptr;
  params->scale = static_cast<decltype(params->scale)>(problem.scale);
  params->index_type = index_type(problem.k);
}

// `unit`: elements of a stride, or bytes where the kernel counts them.
template <typename Params>
void set_input_strides(const Problem& problem, std::int64_t unit, Params* params) {
  params->input_stride_n = problem.input_strides[0] * unit;
  params->input_stride_c = problem.input_strides[1] * unit;
  params->input_stride_h = problem.input_strides[2] * unit;
  params->input_stride_w = problem.input_strides[3] * unit;
}

template <typename Params>
void set_weight_strides(const Problem& problem, Params* params) {
  params->weight_stride_k = problem.weight_strides[0];
  params->weight_stride_c = problem.weight_strides[1];
  params->weight_stride_r = problem.weight_strides[2];
  params->weight_stride_s = problem.weight_strides[3];
}

template <typename Params>
void set_images(const Problem& problem, Params* params) {
  params->h = static_cast<int>(problem.h);
  params->w = static_cast<int>(problem.w);
  params->oh = static_cast<int>(problem.oh);
  params->ow = static_cast<int>(problem.ow);
  params->padding_h = static_cast<int>(problem.padding_h);
  params->padding_w = static_cast<int>(problem.padding_w);
  params->dilation_h = static_cast<int>(problem.dilation_h);
  params->dilation_w = static_cast<int>(problem.dilation_w);
}

template <typename Params>
void set_steps(const Problem& problem, Params* params) {
  params->stride_h = static_cast<int>(problem.stride_h);
  params->stride_w = static_cast<int>(problem.stride_w);
}

template <typename Params>
void set_groups(const Problem& problem, Params* params) {
  params->groups = static_cast<int>(problem.groups);
  params->group_channels = static_cast<int>(problem.c / problem.groups);
  params->group_outputs = static_cast<int>(problem.k / problem.groups);
}

}  // namespace convmin
