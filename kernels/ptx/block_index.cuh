// The block's index, read anew each time. PTX ISA, "Special Registers: %ctaid".
#pragma once

namespace convmin::ptx {

// Volatile: what is computed from it after a loop is not kept in registers over the loop because it was needed before.
__device__ __forceinline__ unsigned block_index() {
  unsigned index;
  asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(index));
  return index;
}

}  // namespace convmin::ptx
