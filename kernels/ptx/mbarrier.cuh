// mbarrier: a shared-memory barrier with phases. PTX ISA, "Parallel synchronization: mbarrier".
#pragma once

#include <cstdint>

#include "ptx/shared_address.cuh"

namespace convmin::ptx {

__device__ __forceinline__ void mbarrier_init(std::uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}

// Makes initialized barriers visible to the other threads' asynchronous operations.
__device__ __forceinline__ void mbarrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;"); }

__device__ __forceinline__ void mbarrier_arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Of a thread for which `arrives` is not zero, without a branch.
__device__ __forceinline__ void mbarrier_arrive_if(std::uint32_t arrives, std::uint32_t barrier) {
  asm volatile(
      "{\n"
      ".reg .pred arrives;\n"
      ".reg .b64 state;\n"
      "setp.ne.b32 arrives, %0, 0;\n"
      "@arrives mbarrier.arrive.shared::cta.b64 state, [%1];\n"
      "}\n" ::"r"(arrives),
      "r"(barrier)
      : "memory");
}

// Whether the phase of the given parity has completed.
__device__ __forceinline__ bool mbarrier_test(std::uint32_t barrier, int parity) {
  int done;
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "mbarrier.test_wait.parity.shared::cta.b64 done, [%1], %2;\n"
      "selp.s32 %0, 1, 0, done;\n"
      "}\n"
      : "=r"(done)
      : "r"(barrier), "r"(parity)
      : "memory");
  return done != 0;
}

// Returns once the phase of the given parity has completed. Before compute capability 9.0 there is no `try_wait`, which
// sleeps until then or a limit.
__device__ __forceinline__ void mbarrier_wait(std::uint32_t barrier, int parity) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  while (!mbarrier_test(barrier, parity)) {
  }
#else
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
#endif
}

}  // namespace convmin::ptx
