// A value that the compiler can't see through.
#pragma once

#include <cstdint>

namespace convmin::ptx {

// In a loop: what is computed from the value there is not computed before the loop instead, and kept in registers.
__device__ __forceinline__ void hold(std::uint32_t& value) { asm volatile("" : "+r"(value)); }

// Lane 0's copy of a value that is the same in all lanes. The compiler then knows that it is the warp's, and computes
// with it in uniform registers; and it can't load a kernel's parameter anew, and wait for it, wherever it is needed.
// The whole warp must call it.
template <typename T>
__device__ __forceinline__ T uniform(T value) {
  return __shfl_sync(0xffffffffu, value, 0);
}

// What steps on from an address is added to it, not to an index that each access shifts and adds to its array's. Of
// global memory, read only: the address alone no longer says so (common/load.cuh does).
template <typename Element>
__device__ __forceinline__ void hold(const Element*& address) {
  asm volatile("" : "+l"(address));
}

}  // namespace convmin::ptx
