// Read-only loads of single elements.
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

}  // namespace convmin
