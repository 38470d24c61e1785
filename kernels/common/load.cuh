// Read-only loads of single elements, and loads of what is read once.
#pragma once

namespace convmin {

// __ldg of __half and __nv_bfloat16 is an asm that is not volatile (CUDA 13.0): the compiler may move it out from under
// the condition that makes its address valid. That of integers, and of float, stays where it is.
template <typename Element>
__device__ __forceinline__ Element load_read_only(const Element* source) {
  if constexpr (sizeof(Element) == sizeof(unsigned short)) {
    const unsigned short bits = __ldg(reinterpret_cast<const unsigned short*>(source));
    return *reinterpret_cast<const Element*>(&bits);
  } else {
    return __ldg(source);
  }
}

// Of 2, 4, 8 or 16 bytes, aligned to as many, which need not stay in any cache.
template <typename Vector>
__device__ __forceinline__ Vector load_streaming(const void* source) {
  const auto as = [&](auto bits) {
    bits = __ldcs(static_cast<const decltype(bits)*>(source));
    return *reinterpret_cast<const Vector*>(&bits);
  };
  if constexpr (sizeof(Vector) == 16) return as(uint4{});
  if constexpr (sizeof(Vector) == 8) return as(uint2{});
  if constexpr (sizeof(Vector) == 4) return as(0u);
  if constexpr (sizeof(Vector) == 2) return as(static_cast<unsigned short>(0));
}

}  // namespace convmin
