#pragma once

#include <cuda_fp16.h>

#include "ptx/mma.cuh"

namespace convmin::sm80 {

// Bits of a value as the tensor cores take it: float as TF32, or as float16.
template <typename Operand, typename Element>
__device__ __forceinline__ std::uint32_t operand_bits(Element value) {
  if constexpr (sizeof(Operand) == 4) {
    return ptx::round_to_tf32(value);
  } else if constexpr (sizeof(Element) == 4) {
    return __half_as_ushort(__float2half_rn(value));
  } else {
    return *reinterpret_cast<const std::uint16_t*>(&value);
  }
}

// Of two neighbours, 16 bits each.
template <typename Operand, typename Element>
__device__ __forceinline__ std::uint32_t operand_pair(Element first, Element second) {
  static_assert(sizeof(Operand) == 2, "a word holds two");
  return operand_bits<Operand>(first) | operand_bits<Operand>(second) << 16;
}

}  // namespace convmin::sm80
