// Shared memory by its 32-bit address.
#pragma once

#include <cstdint>

namespace convmin::ptx {

__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ uint4 load_shared_16(std::uint32_t address) {
  uint4 value;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "r"(address)
               : "memory");
  return value;
}

__device__ __forceinline__ float4 load_shared_float4(std::uint32_t address) {
  float4 value;
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
               : "r"(address)
               : "memory");
  return value;
}

__device__ __forceinline__ uint2 load_shared_8(std::uint32_t address) {
  uint2 value;
  asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];" : "=r"(value.x), "=r"(value.y) : "r"(address) : "memory");
  return value;
}

__device__ __forceinline__ void store_shared_16(std::uint32_t address, const uint4& value) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(value.x), "r"(value.y), "r"(value.z),
               "r"(value.w)
               : "memory");
}

// An element of 2 or 4 bytes.
template <typename Element>
__device__ __forceinline__ void store_shared(std::uint32_t address, const Element& value) {
  if constexpr (sizeof(Element) == 2) {
    asm volatile("st.shared.b16 [%0], %1;" ::"r"(address), "h"(*reinterpret_cast<const std::uint16_t*>(&value))
                 : "memory");
  } else {
    static_assert(sizeof(Element) == 4, "one register");
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(*reinterpret_cast<const std::uint32_t*>(&value))
                 : "memory");
  }
}

}  // namespace convmin::ptx
