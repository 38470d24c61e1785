// Named barriers: some threads arrive and go on, others wait for them. PTX ISA, "barrier".
#pragma once

namespace convmin::ptx {

// Waits until `threads` threads, the caller's among them, have arrived at barrier `id`.
__device__ __forceinline__ void named_barrier_wait(int id, int threads) {
  asm volatile("barrier.cta.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
  asm volatile("barrier.cta.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

}  // namespace convmin::ptx
