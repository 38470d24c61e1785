// The block's index and the thread's, read anew each time. PTX ISA, "Special Registers".
#pragma once

namespace convmin::ptx {

// Volatile: what is computed from it after a loop is not kept in registers over the loop because it was needed before.
__device__ __forceinline__ unsigned block_index() {
  unsigned index;
  asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(index));
  return index;
}

__device__ __forceinline__ unsigned thread_index() {
  unsigned index;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
  return index;
}

}  // namespace convmin::ptx
