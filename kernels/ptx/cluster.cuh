// Thread block clusters: blocks that run at once and read each other's shared memory. PTX ISA, "barrier.cluster",
// "mapa".
#pragma once

#include <cstdint>

namespace convmin::ptx {

// A barrier of all of a cluster's threads that have not exited. What was written before arriving is read after waiting.
__device__ __forceinline__ void cluster_arrive() { asm volatile("barrier.cluster.arrive.release;" ::: "memory"); }
__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire;" ::: "memory"); }

// The address of the same place in the shared memory of the cluster's block `rank`.
__device__ __forceinline__ std::uint32_t in_block(std::uint32_t address, int rank) {
  std::uint32_t mapped;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address), "r"(rank));
  return mapped;
}

__device__ __forceinline__ float4 load_cluster_16(std::uint32_t address) {
  float4 value;
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
               : "r"(address)
               : "memory");
  return value;
}

__device__ __forceinline__ uint2 load_cluster_8(std::uint32_t address) {
  uint2 value;
  asm volatile("ld.shared::cluster.v2.b32 {%0, %1}, [%2];" : "=r"(value.x), "=r"(value.y) : "r"(address) : "memory");
  return value;
}

}  // namespace convmin::ptx
