// cp.async: global -> shared memory without registers, in groups that complete in order. PTX ISA, "cp.async".
#pragma once

#include <cstdint>

namespace convmin::ptx {

// 16 bytes past L1. Where `inside` is false nothing is read, and zeros are written.
__device__ __forceinline__ void cp_async_16(std::uint32_t target, const void* source, bool inside = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(source), "r"(inside ? 16 : 0)
               : "memory");
}

__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Returns when at most kPending of the thread's committed groups are still under way.
template <int kPending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace convmin::ptx
