// Programmatic dependent launch: a kernel may begin before the one ahead of it in the stream has ended, and waits for
// it itself. From Hopper on; other GPUs have kernels begin one after another. PTX ISA, "griddepcontrol".
#pragma once

namespace convmin::ptx {

// Lets the next kernel begin once all blocks of this one say so or have ended.
__device__ __forceinline__ void launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// Until the kernel ahead has ended and what it wrote can be read.
__device__ __forceinline__ void wait_for_prerequisites() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace convmin::ptx
