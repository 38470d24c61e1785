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

// As named_barrier_wait(); true where any of them says so.
__device__ __forceinline__ bool named_barrier_or(int id, int threads, bool says) {
  int any;
  asm volatile(
      "{\n"
      ".reg .pred says, any;\n"
      "setp.ne.s32 says, %3, 0;\n"
      "barrier.cta.red.or.pred any, %1, %2, says;\n"
      "selp.s32 %0, 1, 0, any;\n"
      "}\n"
      : "=r"(any)
      : "r"(id), "r"(threads), "r"(static_cast<int>(says))
      : "memory");
  return any != 0;
}

}  // namespace convmin::ptx
