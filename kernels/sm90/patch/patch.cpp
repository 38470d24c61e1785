// The geometry of patches. Host code only.
#include "sm90/patch/patch.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/planning.h"
#include "sm90/patch/tiles.h"

namespace convmin::sm90::patch {
namespace {

// A patch with the planes of a problem's input.
Patch with_planes(const Problem& problem) {
  Patch patch{};
  const auto planes = [](std::int64_t stride, std::int64_t dilation, std::int64_t taps) {
    return static_cast<int>(std::min(stride / std::gcd(stride, dilation), taps));
  };
  patch.planes_h = planes(problem.stride_h, problem.dilation_h, problem.r);
  patch.planes_w = planes(problem.stride_w, problem.dilation_w, problem.s);
  patch.planes = patch.planes_h * patch.planes_w;
  // Where all taps of a plane are one, any step will do.
  patch.step_h = static_cast<int>(patch.planes_h * problem.dilation_h / problem.stride_h);
  patch.step_w = static_cast<int>(patch.planes_w * problem.dilation_w / problem.stride_w);
  return patch;
}

// How far a plane's last tap lies from its first, in its rows and columns.
std::int64_t taps_below(const Problem& problem, const Patch& patch) {
  return (problem.r - 1) / patch.planes_h * std::int64_t{patch.step_h};
}
std::int64_t taps_right(const Problem& problem, const Patch& patch) {
  return (problem.s - 1) / patch.planes_w * std::int64_t{patch.step_w};
}

Patch make_patch(const Problem& problem, int subtile_w, int subtiles_n, int subtiles_y, int subtiles_x) {
  Patch patch = with_planes(problem);
  patch.subtile_h = kSubtile / subtile_w;
  patch.subtile_w = subtile_w;
  patch.subtiles_n = subtiles_n, patch.subtiles_y = subtiles_y, patch.subtiles_x = subtiles_x;
  patch.height = subtiles_y * patch.subtile_h;
  patch.width = subtiles_x * patch.subtile_w;
  patch.halo_h = static_cast<int>(std::min<std::int64_t>(patch.height + taps_below(problem, patch), 1 << 20));
  patch.halo_w = static_cast<int>(std::min<std::int64_t>(patch.width + taps_right(problem, patch), 1 << 20));
  const std::int64_t image = std::min<std::int64_t>(std::int64_t{patch.halo_h} * patch.halo_w, 1 << 24);
  patch.image_pixels = static_cast<int>(image);
  // Whole groups of 8 pixels keep every plane aligned to the swizzle.
  patch.pixels = static_cast<int>(round_up(image * subtiles_n, 8));
  return patch;
}

}  // namespace

Patch make_run(const Problem& problem, std::int64_t pixels) {
  // The padding of one side is all that outputs share.
  if (problem.padding_h > (problem.r - 1) * problem.dilation_h) return {};
  if (problem.padding_w > (problem.s - 1) * problem.dilation_w) return {};
  Patch patch = with_planes(problem);
  const std::int64_t below = taps_below(problem, patch), right = taps_right(problem, patch);
  const std::int64_t pitch = ceil_divide(problem.w + problem.padding_w, problem.stride_w);
  const std::int64_t rows = ceil_divide(problem.h + problem.padding_h, problem.stride_h);
  if (pitch * problem.stride_w > kMaxBox || below > kMaxPixels) return {};
  if (problem.n * rows * pitch >= kMaxExtent) return {};
  patch.runs_on = true;
  patch.run_rows = static_cast<int>(rows);
  patch.subtile_h = 1, patch.subtile_w = kSubtile;
  patch.subtiles_n = patch.subtiles_y = 1, patch.subtiles_x = static_cast<int>(pixels / kSubtile);
  patch.height = 1, patch.width = static_cast<int>(pixels);
  patch.halo_w = static_cast<int>(pitch);
  patch.halo_h = static_cast<int>(ceil_divide(pitch - 1 + pixels + below * pitch + right, pitch));
  patch.image_pixels = patch.halo_h * patch.halo_w;
  patch.pixels = static_cast<int>(round_up(patch.image_pixels, 8));
  return patch.pixels <= kMaxPixels ? patch : Patch{};
}

Patch choose_patch(const Problem& problem, int per_consumer, int sm_count) {
  const int subtiles = kConsumers * per_consumer;
  Patch best{};
  double least = HUGE_VAL;
  for (const int width : {8, 64}) {
    for (int x = 1; x <= subtiles; x *= 2) {
      for (int y = 1; x * y <= subtiles; y *= 2) {
        const Patch patch = make_patch(problem, width, subtiles / (x * y), y, x);
        // Rounds of the multiprocessors, and a little for input that neighbours load as well. Where tiles don't fill
        // one, units will share them: fewer are better.
        const std::int64_t tiles = tiles_of(problem, patch);
        const auto rounds = tiles < sm_count ? static_cast<double>(tiles) / sm_count
                                             : static_cast<double>(ceil_divide(tiles, sm_count));
        const double cost = rounds * (1.0 + 0.1 * patch.planes * patch.pixels / (kSubtile * subtiles));
        const bool fits = patch.pixels <= kMaxPixels && patch.halo_h * problem.stride_h <= kMaxBox &&
                          patch.halo_w * problem.stride_w <= kMaxBox;
        if (fits && cost < least) least = cost, best = patch;
      }
    }
  }
  return best;
}

std::int64_t tiles_of(const Problem& problem, const Patch& patch) {
  if (patch.runs_on) {
    const std::int64_t rows = (problem.n - 1) * patch.run_rows + problem.oh;
    return ceil_divide((rows - 1) * patch.halo_w + problem.ow, patch.width);
  }
  return ceil_divide(problem.n, patch.subtiles_n) * ceil_divide(problem.oh, patch.height) *
         ceil_divide(problem.ow, patch.width);
}

Patch patch_of(const Problem& problem, const Plan& plan) {
  if (plan.tile_rows == 0) return make_run(problem, plan.tile_m);
  const int subtile_w = plan.tile_columns < kSubtile ? 8 : kSubtile, subtile_h = kSubtile / subtile_w;
  return make_patch(problem, subtile_w, plan.tile_m / (plan.tile_rows * plan.tile_columns), plan.tile_rows / subtile_h,
                    plan.tile_columns / subtile_w);
}

}  // namespace convmin::sm90::patch
