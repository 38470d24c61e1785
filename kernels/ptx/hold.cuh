// A value that the compiler can't see through.
#pragma once

#include <cstdint>

namespace convmin::ptx {

// In a loop: what is computed from the value there is not computed before the loop instead, and kept in registers.
__device__ __forceinline__ void hold(std::uint32_t& value) { asm volatile("" : "+r"(value)); }

}  // namespace convmin::ptx
