// A block's tile: which output pixels, and which input under them.
#pragma once

#include "conv_scale_min.h"

namespace convmin::sm90::patch {

// Output pixels of a block, as subtiles of images x rows x columns, and the input under them. What taps read of it that
// are whole strides apart is a plane, of input rows and columns a stride apart, so that neighbouring output pixels find
// their inputs next to each other. Planes come one after the other, each with its own taps; without a stride all taps
// have the same one.
//
// Or a run of pixels over rows and images: a row's padding on the right is the next one's on the left, and that below
// an image the next one's above. A plane's rows of halo_w pixels, run_rows to an image, are one sequence then, in which
// a tap is a shift as in any other patch, and outputs beyond a row's or an image's last are computed for nothing.
struct Patch {
  bool runs_on;                            // one run of 1 x 64 subtiles; its halo is of whole rows
  int run_rows;                            // of a plane: an image's with the padding above it
  int subtile_h, subtile_w;                // 8 x 8 or 1 x 64
  int subtiles_n, subtiles_y, subtiles_x;  // as many as the consumers have together
  int height, width;                       // output rows and columns
  int planes, planes_h, planes_w;          // by the kernel's rows and columns, and how many of these are between
  int step_h, step_w;                      // a plane's taps, which are so many of the plane's apart
  int halo_h, halo_w;                      // rows and columns of a plane
  int image_pixels, pixels;                // of an image's rows in a plane, of a plane
};

// The best of images x rows x columns, of so many subtiles for each consumer.
Patch choose_patch(const Problem& problem, int per_consumer, int sm_count);

// All of `pixels` in one run. Where it can't be, no pixels.
Patch make_run(const Problem& problem, std::int64_t pixels);

// The patch of an accepted plan, for the inner problem.
Patch patch_of(const Problem& problem, const Plan& plan);

std::int64_t tiles_of(const Problem& problem, const Patch& patch);

}  // namespace convmin::sm90::patch
