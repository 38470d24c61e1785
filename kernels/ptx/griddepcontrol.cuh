// Programmatic dependent launch: a kernel may begin before the one ahead of it in the stream has ended, and waits for
// it itself. PTX ISA, "griddepcontrol".
#pragma once

namespace convmin::ptx {

// Lets the next kernel begin once all blocks of this one say so or have ended.
__device__ __forceinline__ void launch_dependents() { asm volatile("griddepcontrol.launch_dependents;"); }

// Until the kernel ahead has ended and what it wrote can be read.
__device__ __forceinline__ void wait_for_prerequisites() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

}  // namespace convmin::ptx
