#include "checks.h"

#include "conv_scale_min.h"

namespace convmin {
namespace {

void check_tensor(const char* name, const at::Tensor& tensor) {
  TORCH_CHECK(tensor.defined(), kOp, ": expected ", name, " to be a tensor, got none");
  TORCH_CHECK(tensor.layout() == at::kStrided, kOp, ": expected ", name, " to be a dense (strided) tensor, got layout ",
              tensor.layout());
}

void check_like_input(const char* name, const at::Tensor& tensor, const at::Tensor& input) {
  check_tensor(name, tensor);
  TORCH_CHECK(tensor.device() == input.device(), kOp, ": expected ", name, " on the input's device ", input.device(),
              ", got ", tensor.device());
  TORCH_CHECK(tensor.scalar_type() == input.scalar_type(), kOp, ": expected ", name, " of the input's dtype ",
              input.scalar_type(), ", got ", tensor.scalar_type());
}

}  // namespace

void check_tensors(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  check_tensor("input", input);
  const at::ScalarType dtype = input.scalar_type();
  TORCH_CHECK_NOT_IMPLEMENTED(
      dtype == at::kFloat || dtype == at::kDouble || dtype == at::kHalf || dtype == at::kBFloat16, kOp,
      ": expected input of dtype Float, Double, Half or BFloat16, got ", dtype);
  check_like_input("weight", weight, input);
  if (bias.has_value()) check_like_input("bias", *bias, input);
}

at::ScalarType index_scalar_type(std::int64_t channels) {
  switch (index_type(channels)) {
    case IndexType::kUInt8: return at::kByte;
    case IndexType::kInt16: return at::kShort;
    case IndexType::kInt32: return at::kInt;
  }
  TORCH_INTERNAL_ASSERT(false, "unhandled index type");
}

}  // namespace convmin
