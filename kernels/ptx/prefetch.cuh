// Has the L2 cache fetch a line of global memory. PTX ISA, "prefetch".
#pragma once

namespace convmin::ptx {

__device__ __forceinline__ void prefetch_l2(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

}  // namespace convmin::ptx
