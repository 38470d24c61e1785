#include "checks.h"

#include "conv_scale_min.h"

namespace convmin {
namespace {

void check_dense(const char* op, const char* name, const at::Tensor& tensor) {
  TORCH_CHECK(tensor.defined(), op, ": expected ", name, " to be a tensor, got none");
  TORCH_CHECK(tensor.layout() == at::kStrided, op, ": expected ", name, " to be a dense (strided) tensor, got layout ",
              tensor.layout());
  // Their layout is strided, too, but they have no sizes to ask for.
  TORCH_CHECK(!tensor.is_nested(), op, ": expected ", name, " to be a dense (strided) tensor, got a nested one");
}

void check_like_input(const char* op, const char* name, const at::Tensor& tensor, const at::Tensor& input) {
  check_place(op, name, tensor, input);
  TORCH_CHECK(tensor.scalar_type() == input.scalar_type(), op, ": expected ", name, " of the input's dtype ",
              input.scalar_type(), ", got ", tensor.scalar_type());
}

}  // namespace

void check_place(const char* op, const char* name, const at::Tensor& tensor, const at::Tensor& input) {
  check_dense(op, name, tensor);
  TORCH_CHECK(tensor.device() == input.device(), op, ": expected ", name, " on the input's device ", input.device(),
              ", got ", tensor.device());
}

void check_tensors(const char* op, const at::Tensor& input, const at::Tensor& weight,
                   const std::optional<at::Tensor>& bias) {
  check_dense(op, "input", input);
  const at::ScalarType dtype = input.scalar_type();
  TORCH_CHECK_NOT_IMPLEMENTED(
      dtype == at::kFloat || dtype == at::kDouble || dtype == at::kHalf || dtype == at::kBFloat16, op,
      ": expected input of dtype Float, Double, Half or BFloat16, got ", dtype);
  check_like_input(op, "weight", weight, input);
  if (bias.has_value()) check_like_input(op, "bias", *bias, input);
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
