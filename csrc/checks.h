// What the operator accepts. One set of checks for every backend: Int is int64_t where sizes are known, c10::SymInt
// where they may be symbols (Meta). Each error names the argument, what was expected and what came.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/SymInt.h>
#include <c10/util/Exception.h>

#include <optional>
#include <type_traits>

namespace convmin {

// What error messages begin with: the forward's name or the backward's.
inline constexpr const char* kOp = "conv2d_scale_min";
inline constexpr const char* kBackwardOp = "conv2d_scale_min_backward";

template <typename Int>
using ArrayRef = std::conditional_t<std::is_same_v<Int, c10::SymInt>, c10::SymIntArrayRef, c10::IntArrayRef>;

template <typename Int>
ArrayRef<Int> sizes_of(const at::Tensor& tensor) {
  if constexpr (std::is_same_v<Int, c10::SymInt>) {
    return tensor.sym_sizes();
  } else {
    return tensor.sizes();
  }
}

// input [n, c, h, w] or, where batched is false, [c, h, w]; weight [k, c / groups, r, s]; output [n, 1, oh, ow].
template <typename Int>
struct Geometry {
  bool batched;
  Int n, c, h, w, k, r, s, oh, ow;

  c10::SmallVector<Int, 4> output_sizes() const {
    return batched ? c10::SmallVector<Int, 4>{n, Int(1), oh, ow} : c10::SmallVector<Int, 4>{Int(1), oh, ow};
  }
};

template <typename Int>
struct Convolution {
  ArrayRef<Int> stride, padding, dilation;
  Int groups;
};

// A dense tensor on the input's device.
void check_place(const char* op, const char* name, const at::Tensor& tensor, const at::Tensor& input);

// Layout, device and dtype of the tensors.
void check_tensors(const char* op, const at::Tensor& input, const at::Tensor& weight,
                   const std::optional<at::Tensor>& bias);

// Of strides, paddings, dilations, groups and the kernel's extents: 64 bits then hold what is computed of them.
inline constexpr std::int64_t kMaxInteger = (std::int64_t{1} << 31) - 1;

template <typename Int>
bool in_range(const Int& value, int minimum) {
  return value >= minimum && value <= kMaxInteger;
}

template <typename Int>
void check_pair(const char* op, const char* name, ArrayRef<Int> values, int minimum) {
  TORCH_CHECK(values.size() == 2 && in_range(values[0], minimum) && in_range(values[1], minimum), op, ": expected ",
              name, " to be two integers from ", minimum, " to ", kMaxInteger, ", got ", values);
}

// The output extent along one axis.
template <typename Int>
Int check_extent(const char* op, const at::Tensor& input, const at::Tensor& weight, const Convolution<Int>& convolution,
                 int axis, const Int& extent, const Int& kernel) {
  const Int padded = extent + convolution.padding[axis] * 2;
  const Int window = convolution.dilation[axis] * (kernel - 1) + 1;
  TORCH_CHECK(window <= padded, op, ": expected a kernel no larger than the padded input, got ",
              axis == 0 ? "height " : "width ", window, " (weight ", sizes_of<Int>(weight), ", dilation ",
              convolution.dilation[axis], ") against ", padded, " (input ", sizes_of<Int>(input), ", padding ",
              convolution.padding[axis], ")");
  return (padded - window) / convolution.stride[axis] + 1;
}

template <typename Int>
Geometry<Int> check_arguments(const char* op, const at::Tensor& input, const at::Tensor& weight,
                              const std::optional<at::Tensor>& bias, const Convolution<Int>& convolution) {
  check_tensors(op, input, weight, bias);
  const auto input_sizes = sizes_of<Int>(input);
  const auto weight_sizes = sizes_of<Int>(weight);
  const Int& groups = convolution.groups;
  TORCH_CHECK(input.dim() == 3 || input.dim() == 4, op, ": expected input of shape [N, C, H, W] or [C, H, W], got ",
              input_sizes);
  TORCH_CHECK(weight.dim() == 4, op, ": expected weight of shape [K, C/groups, R, S], got ", weight_sizes);
  check_pair<Int>(op, "stride", convolution.stride, 1);
  check_pair<Int>(op, "dilation", convolution.dilation, 1);  // before the padding that 'same' makes of it
  check_pair<Int>(op, "padding", convolution.padding, 0);
  TORCH_CHECK(in_range(groups, 1), op, ": expected groups from 1 to ", kMaxInteger, ", got ", groups);

  Geometry<Int> geometry{};
  geometry.batched = input.dim() == 4;
  const int first = geometry.batched ? 1 : 0;
  geometry.n = geometry.batched ? input_sizes[0] : Int(1);
  geometry.c = input_sizes[first];
  geometry.h = input_sizes[first + 1];
  geometry.w = input_sizes[first + 2];
  geometry.k = weight_sizes[0];
  geometry.r = weight_sizes[2];
  geometry.s = weight_sizes[3];

  TORCH_CHECK(geometry.c >= 1 && geometry.h >= 1 && geometry.w >= 1, op,
              ": expected input whose dimensions other than N are not empty, got ", input_sizes);
  TORCH_CHECK(geometry.k >= 1, op, ": expected weight with at least one output channel to take the minimum over, got ",
              weight_sizes);
  TORCH_CHECK(in_range(geometry.r, 1) && in_range(geometry.s, 1), op, ": expected weight with a kernel of 1 to ",
              kMaxInteger, " rows and columns, got ", weight_sizes);
  TORCH_CHECK(weight_sizes[1] * groups == geometry.c, op, ": expected weight of shape [K, ", geometry.c,
              "/groups, R, S]", " with groups=", groups, " for input ", input_sizes, ", got ", weight_sizes);
  TORCH_CHECK(geometry.k % groups == 0, op, ": expected weight's output channels to be divisible by groups=", groups,
              ", got weight ", weight_sizes);
  if (bias.has_value()) {
    const auto bias_sizes = sizes_of<Int>(*bias);
    TORCH_CHECK(bias->dim() == 1 && bias_sizes[0] == geometry.k, op, ": expected bias of shape [", geometry.k,
                "] for weight ", weight_sizes, ", got ", bias_sizes);
  }
  geometry.oh = check_extent<Int>(op, input, weight, convolution, 0, geometry.h, geometry.r);
  geometry.ow = check_extent<Int>(op, input, weight, convolution, 1, geometry.w, geometry.s);
  return geometry;
}

// torch's name for index_type(k).
at::ScalarType index_scalar_type(std::int64_t channels);

}  // namespace convmin
