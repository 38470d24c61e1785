// cp.async: global -> shared memory without registers, in groups that complete in order. PTX ISA, "cp.async".
#pragma once

#include <cstdint>

namespace convmin::ptx {

// 16 bytes past L1. Where `inside` is false nothing is read, and zeros are written.
__device__ __forceinline__ void cp_async_16(std::uint32_t target, const void* source, bool inside = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(source), "r"(inside ? 16 : 0)
               : "memory");
}

// 4 bytes, or zeros.
__device__ __forceinline__ void cp_async_4(std::uint32_t target, const void* source, bool inside = true) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(target), "l"(source), "r"(inside ? 4 : 0)
               : "memory");
}

__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Returns when at most kPending of the thread's committed groups are still under way.
template <int kPending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// An arrival at an mbarrier once all that this thread has asked for so far is in shared memory; the thread does not
// wait. `.noinc`: it is one of the arrivals that the barrier was initialized to expect. (Without, the barrier would
// expect one more.) PTX ISA, "cp.async.mbarrier.arrive".
__device__ __forceinline__ void cp_async_arrive(std::uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

}  // namespace convmin::ptx
