#pragma once

#include "conv_scale_min.h"
#include "sm90/patch/patch.h"

namespace convmin::sm90::patch {

// Fills `plan` and returns null, or returns why the kernel can't take the problem.
const char* plan(const Problem& problem, const Device& device, Plan* plan);

// Why another kernel would be faster than an accepted plan; null: none would.
const char* drawback(const Problem& problem, const Device& device, const Plan& plan);

// As many of the problem's images as one launch takes: all, or an equal part of them where vectors of channels don't
// fit the input and its copy would take too much memory. Plans and launches are for these.
Problem slice_of(Problem problem);

// Whether the copy that it would multiply as 16 bit, if it needs one, takes too much all the same.
bool copies_too_much(const Problem& problem);

// float32 multiplied as float16, its filters scaled into range.
bool is_scaled(const Problem& problem, const Plan& plan);

// Whether the weight is packed first: where it has to be converted, or where vectors of channels don't fit it.
bool packs_weight(const Problem& problem, bool scaled);

// Whether the input is copied first, since vectors of channels don't fit it or since it has to be converted.
bool is_copied(const Problem& problem, bool scaled);

// The problem as the copy reads it: a kernel of one row or column needs no input that the stride skips, and rows and
// images that follow each other without a gap are one where no window crosses them.
Problem simplified(Problem problem);

// The problem as the kernel computes it: the simplified one, over the copy where there is one.
Problem inner(const Problem& problem, bool scaled);

// Byte offsets of shared memory's tables: of the taps in their planes, of the planes' last taps, and of what each
// output channel adds. The weight's stages follow, then the input's slots, of a plane each.
struct Tables {
  int taps, planes, addends, factors;  // the last word is the splits'
  int bytes;
};
Tables tables_of(const Problem& problem, const Patch& patch, int tile_n, bool scaled);

// Bytes that the blocks of a cluster send one of them, in place of its stages and slots: first sums, then minima.
struct Landing {
  std::int64_t sums, minima;
};
Landing landing_of(std::int64_t tile_m, std::int64_t tile_n, std::int64_t splits, std::int64_t parts);
int stages_of(const Problem& problem, const Patch& patch, const Plan& plan);  // of the weight, in an accepted plan

bool vectors_fit(const Problem& problem);
int pixels_together(const Problem& problem);                    // that one load reads: 4, 2 or 1
std::int64_t group_pitch(const Problem& problem, bool scaled);  // of the copy: channels of a group, padded

// What Plan::workspace_bytes is divided into, from 0: the packed weight; where units that share a tile are no cluster
// their counters, sums and minima; for scaled filters their factors, and what is zero before a call, from `fallback` to
// `tiles`; the copy.
struct Workspace {
  std::int64_t counters, partials, values, channels, factors, fallback, seen, runs, tiles, copy;  // byte offsets
  std::int64_t counter_count;
  std::int64_t bytes;
};
Workspace workspace(const Problem& problem, const Plan& plan);

}  // namespace convmin::sm90::patch
