#include "force_kernel.h"

#include <c10/util/Exception.h>

#include <atomic>
#include <cstdlib>

namespace convmin {
namespace {

constexpr int kNotForced = -1;

int parse(const std::string& name, const char* source) {
  if (name.empty()) return kNotForced;
  KernelId kernel{};
  if (kernel_from_name(name, &kernel)) return static_cast<int>(kernel);
  std::string known;
  for (int i = 0; i < kKernelCount; ++i) {
    known += (i == 0 ? "" : ", ");
    known += kernel_name(static_cast<KernelId>(i));
  }
  TORCH_CHECK_VALUE(false, source, ": expected the name of a kernel (", known, ") or nothing, got '", name, "'");
}

std::atomic<int>& state() {
  static std::atomic<int> forced = [] {
    const char* name = std::getenv("CONVMIN_FORCE_KERNEL");
    return parse(name == nullptr ? "" : name, "CONVMIN_FORCE_KERNEL");
  }();
  return forced;
}

std::string name_of(int forced) { return forced == kNotForced ? "" : kernel_name(static_cast<KernelId>(forced)); }

}  // namespace

std::string set_forced_kernel(const std::string& name) {
  return name_of(state().exchange(parse(name, "force_kernel")));
}

std::string forced_kernel_name() { return name_of(state().load()); }

std::optional<KernelId> forced_kernel() {
  const int forced = state().load(std::memory_order_relaxed);
  return forced == kNotForced ? std::nullopt : std::optional<KernelId>(static_cast<KernelId>(forced));
}

}  // namespace convmin
