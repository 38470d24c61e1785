// What the kernels' plans are told of a tensor.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>

#include "conv_scale_min.h"

namespace convmin {

inline DType dtype_of(at::ScalarType type) {
  switch (type) {
    case at::kFloat: return DType::kFloat32;
    case at::kDouble: return DType::kFloat64;
    case at::kHalf: return DType::kFloat16;
    default: return DType::kBFloat16;  // check_tensors lets nothing else through
  }
}

// Of its address: bytes, a power of two, 16 counting for more.
inline int alignment_of(const at::Tensor& tensor) {
  const auto address = reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr());
  return static_cast<int>(address == 0 ? 16 : std::min<std::uintptr_t>(16, address & -address));
}

}  // namespace convmin
