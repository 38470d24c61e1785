// Thread block clusters: blocks that run at once and read each other's shared memory. PTX ISA, "barrier.cluster",
// "mapa".
#pragma once

#include <cstdint>

namespace convmin::ptx {

// A barrier of all of a cluster's threads that have not exited. What was written before arriving is read after waiting.
__device__ __forceinline__ void cluster_arrive() { asm volatile("barrier.cluster.arrive.release;" ::: "memory"); }
// Where nothing was written that the others read, as a fence takes long.
__device__ __forceinline__ void cluster_arrive_relaxed() {
  asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire;" ::: "memory"); }

// The address of the same place in the shared memory of the cluster's block `rank`.
__device__ __forceinline__ std::uint32_t in_block(std::uint32_t address, int rank) {
  std::uint32_t mapped;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address), "r"(rank));
  return mapped;
}

// Stores to the cluster's shared memory; their bytes count towards the phase of an mbarrier in the same block, and who
// waits for that reads them. Of floats as such: as words, accumulators of wgmma would be read while it runs, and it
// would run one by one.
__device__ __forceinline__ void store_cluster_16(std::uint32_t address, const float4& value, std::uint32_t barrier) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(address),
      "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w), "r"(barrier)
      : "memory");
}

__device__ __forceinline__ void store_cluster_8(std::uint32_t address, const uint2& value, std::uint32_t barrier) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1, %2}, [%3];" ::"r"(address),
               "r"(value.x), "r"(value.y), "r"(barrier)
               : "memory");
}

__device__ __forceinline__ uint2 load_cluster_8(std::uint32_t address) {
  uint2 value;
  asm volatile("ld.shared::cluster.v2.b32 {%0, %1}, [%2];" : "=r"(value.x), "=r"(value.y) : "r"(address) : "memory");
  return value;
}

}  // namespace convmin::ptx
