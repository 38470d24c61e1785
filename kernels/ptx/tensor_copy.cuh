// Copies of boxes of a tensor by the bulk copy engine, which finds addresses, fills with zeros outside the tensor, and
// swizzles. PTX ISA, "cp.async.bulk.tensor".
#pragma once

#include <cuda.h>

#include <cstdint>

namespace convmin::ptx {

// The box at the coordinates, innermost first, to shared memory; its bytes count towards the barrier's phase.
__device__ __forceinline__ void tensor_copy(std::uint32_t target, const CUtensorMap& map, int c0, int c1, int c2,
                                            int c3, int c4, std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5, %6}], [%7];" ::"r"(target),
      "l"(&map), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4), "r"(barrier)
      : "memory");
}

// Has the engine fetch the tensor's description before it is needed.
__device__ __forceinline__ void prefetch(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

}  // namespace convmin::ptx
