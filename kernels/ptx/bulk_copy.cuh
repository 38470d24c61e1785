// The bulk copy engine: one thread starts a copy that completes on an mbarrier. PTX ISA, "cp.async.bulk".
#pragma once

#include <cstdint>

namespace convmin::ptx {

// One arrival at `barrier`, whose phase then waits for so many bytes as well.
__device__ __forceinline__ void mbarrier_arrive_expect(std::uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// From global to shared memory; `bytes` and both addresses are multiples of 16.
__device__ __forceinline__ void bulk_copy(std::uint32_t target, const void* source, int bytes, std::uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(target),
               "l"(source), "r"(bytes), "r"(barrier)
               : "memory");
}

}  // namespace convmin::ptx
