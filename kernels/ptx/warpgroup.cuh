// Hopper's warpgroup-wide register hand-over and the fence between ordinary stores and the tensor cores' reads.
#pragma once

namespace convmin::ptx {

// Whether the code at hand is for a GPU that has it: Hopper, by its own name.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
inline constexpr bool kHandsOverRegisters = true;
#else
inline constexpr bool kHandsOverRegisters = false;
#endif

template <int kRegisters>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// Orders this thread's shared-memory stores before later reads by wgmma (the asynchronous proxy).
__device__ __forceinline__ void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

}  // namespace convmin::ptx
