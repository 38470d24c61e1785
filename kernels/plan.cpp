// Problem + device properties -> Plan, with its reasons. Pure host code: it plans for GPUs that are not there.
#include "simt/plan.h"

#include "conv_scale_min.h"
#include "depthwise/plan.h"
#include "direct/plan.h"
#include "sm80/plan.h"
#include "sm80/window/plan.h"
#include "sm90/patch/plan.h"
#include "sm90/plan.h"

namespace convmin {
namespace {

struct Family {
  KernelId kernel;
  const char* name;
  // Fills the plan and returns null, or returns why the family can't take the problem.
  const char* (*plan)(const Problem&, const Device&, Plan*);
  // Whether the next family would be faster: null, or why. Asked only where no kernel is forced.
  const char* (*drawback)(const Problem&, const Device&, const Plan&);
};

const char* none(const Problem&, const Device&, const Plan&) { return nullptr; }

// Slowest first, one line per architecture folder.
constexpr Family kFamilies[kKernelCount] = {
    {KernelId::kSimt, "simt", simt::plan, none},
    {KernelId::kSm80, "sm80", sm80::plan, none},
    {KernelId::kSm90Patch, "sm90_patch", sm90::patch::plan, sm90::patch::drawback},
    {KernelId::kSm90, "sm90", sm90::plan, sm90::drawback},
    {KernelId::kSm80Window, "sm80_window", sm80::window::plan, sm80::window::drawback},
    {KernelId::kDirect, "direct", direct::plan, direct::drawback},
    {KernelId::kDepthwise, "depthwise", depthwise::plan, depthwise::drawback},
};

}  // namespace

Plan plan(const Problem& problem, const Device& device, const KernelId* forced) {
  Plan refused{};
  for (int i = kKernelCount - 1; i >= 0; --i) {
    const Family& family = kFamilies[i];
    if (forced != nullptr && *forced != family.kernel) continue;
    Plan result = refused;
    const char* refusal = family.plan(problem, device, &result);
    if (refusal == nullptr && forced == nullptr) refusal = family.drawback(problem, device, result);
    if (refusal == nullptr) {
      if (result.fallback_blocks > 0) {
        result.fallback_workspace = (result.workspace_bytes + 15) / 16 * 16;
        result.workspace_bytes = result.fallback_workspace +
                                 simt::plan_for_tiles(problem, result.gather, result.fallback_blocks).workspace_bytes;
      }
      if (result.images == 0) result.images = problem.n;
      result.accepted = true;
      result.kernel = family.kernel;
      return result;
    }
    refused.rejections[refused.rejection_count++] = {family.kernel, refusal};
  }
  const int count = refused.rejection_count;
  refused.reason = count > 0 ? refused.rejections[count - 1].reason : "no such kernel";
  return refused;
}

const char* kernel_name(KernelId kernel) {
  for (const Family& family : kFamilies) {
    if (family.kernel == kernel) return family.name;
  }
  return "unknown";
}

bool kernel_from_name(const std::string& name, KernelId* kernel) {
  for (const Family& family : kFamilies) {
    if (family.name == name) {
      *kernel = family.kernel;
      return true;
    }
  }
  return false;
}

}  // namespace convmin
