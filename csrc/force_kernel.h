// The process-wide override of plan()'s choice, for tests and benchmarks. CPU tensors have one path and ignore it.
#pragma once

#include <optional>
#include <string>

#include "conv_scale_min.h"

namespace convmin {

// An empty name lifts the override. Returns the previous name; an unknown name is an error that lists the known ones.
std::string set_forced_kernel(const std::string& name);

// Starts out as the environment variable CONVMIN_FORCE_KERNEL.
std::optional<KernelId> forced_kernel();
std::string forced_kernel_name();

}  // namespace convmin
