// What every backend's backward receives and checks.
#pragma once

#include <ATen/ops/empty_like.h>
#include <c10/core/SymBool.h>

#include "checks.h"

namespace convmin {

using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;  // of input, weight, bias; undefined if not wanted

template <typename Int>
void check_saved(const char* name, const at::Tensor& tensor, const at::Tensor& input, ArrayRef<Int> sizes) {
  check_place(kBackwardOp, name, tensor, input);
  TORCH_CHECK(sizes_of<Int>(tensor) == sizes, kBackwardOp, ": expected ", name, " of shape ", sizes, " for input ",
              sizes_of<Int>(input), ", got ", sizes_of<Int>(tensor));
}

template <typename Int>
Geometry<Int> check_backward(const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& weight,
                             const at::Tensor& indices, const Convolution<Int>& convolution) {
  const auto geometry = check_arguments<Int>(kBackwardOp, input, weight, std::nullopt, convolution);
  const auto sizes = geometry.output_sizes();
  check_saved<Int>("grad_output", grad_output, input, sizes);
  check_saved<Int>("indices", indices, input, sizes);
  TORCH_CHECK(grad_output.scalar_type() == input.scalar_type(), kBackwardOp,
              ": expected grad_output of the input's dtype ", input.scalar_type(), ", got ", grad_output.scalar_type());
  const at::ScalarType index = indices.scalar_type();
  TORCH_CHECK(index == at::kByte || index == at::kShort || index == at::kInt, kBackwardOp,
              ": expected indices of dtype Byte, Short or Int, got ", index);
  return geometry;
}

// The memory format of the gradients of input and weight, as PyTorch's convolution gives them: channels_last where
// either of the two is. An empty batch it doesn't convolve: each gradient has the strides of what it is of.
inline at::MemoryFormat gradient_format(const at::Tensor& input, const at::Tensor& weight) {
  if (TORCH_GUARD_OR_FALSE(input.sym_size(0).sym_eq(0))) return at::MemoryFormat::Preserve;
  const bool channels_last = input.suggest_memory_format() == at::MemoryFormat::ChannelsLast ||
                             weight.suggest_memory_format() == at::MemoryFormat::ChannelsLast;
  return channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}

inline at::Tensor empty_gradient(const at::Tensor& tensor, at::MemoryFormat format, at::ScalarType type) {
  if (tensor.dim() == 3) return empty_gradient(tensor.unsqueeze(0), format, type).squeeze(0);
  return at::empty_like(tensor, tensor.options().dtype(type), format);
}

}  // namespace convmin
