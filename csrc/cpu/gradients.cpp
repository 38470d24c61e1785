#include "cpu/gradients.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <type_traits>
#include <vector>

// One body, compiled for each instruction set and chosen when the library loads.
#if defined(__x86_64__) && defined(__gnu_linux__)
#define CONVMIN_TARGET_CLONES __attribute__((target_clones("avx512f", "arch=haswell", "default")))
#else
#define CONVMIN_TARGET_CLONES
#endif
// Sums of a few channels are short vectors, which avx512f alone can't multiply and add in one rounding; this can. Not
// for grad_weight: the transposition of its input becomes scatters then, and takes half as long again.
#if defined(__x86_64__) && defined(__gnu_linux__) && __GNUC__ >= 12
#define CONVMIN_FUSED_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CONVMIN_FUSED_CLONES CONVMIN_TARGET_CLONES
#endif
#define CONVMIN_INLINE inline __attribute__((always_inline))

namespace convmin {
namespace {

// Channels that a task's sums hold side by side: a cache line.
template <typename T>
constexpr std::int64_t kBlock = 64 / static_cast<std::int64_t>(sizeof(T));

template <typename T>
CONVMIN_INLINE void add_scaled(T* __restrict__ to, const T* __restrict__ from, T factor, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) to[i] += factor * from[i];
}

// The same, without a loop where it would be most of the work: images are up to 1.8 times as fast.
template <typename T>
CONVMIN_INLINE void add_channels(T* to, const T* from, T factor, std::int64_t count) {
  switch (count) {
    case 1: return add_scaled(to, from, factor, 1);
    case 3: return add_scaled(to, from, factor, 3);
    case 8: return add_scaled(to, from, factor, 8);
    case 16: return add_scaled(to, from, factor, 16);
    default: return add_scaled(to, from, factor, count);
  }
}

template <typename T>
CONVMIN_INLINE void add_and_clear(T* __restrict__ to, T* __restrict__ from, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    to[i] += from[i];
    from[i] = 0;
  }
}

// The output coordinates [begin, end) whose window's element `offset` lies in [0, extent).
struct Span {
  std::int64_t begin, end;
};
CONVMIN_INLINE Span outputs_inside(std::int64_t offset, std::int64_t stride, std::int64_t extent,
                                   std::int64_t outputs) {
  const std::int64_t begin = offset >= 0 ? 0 : (-offset + stride - 1) / stride;
  const std::int64_t last = extent - 1 - offset;
  return {begin, last < 0 ? 0 : std::min(outputs, last / stride + 1)};
}

// Sums of grad_input of more terms than a 3x3 window has are made in two levels, of which a row of the window is the
// lower. It costs up to a third of the time, and errs less than eager's, where one level erred up to 1.65 times as
// much.
CONVMIN_INLINE bool sums_in_levels(const GradientProblem& p) { return p.taps() > 9 * p.stride[0] * p.stride[1]; }

// A row of grad_input is gathered from the output rows above it, and within them scattered to a buffer [w][c] that this
// row alone has.
template <typename T>
CONVMIN_INLINE void gather_rows(const GradientProblem& p, const T* gradient, const std::int32_t* indices,
                                const T* weight, bool channels_last, std::int64_t begin, std::int64_t end,
                                T* grad_input) {
  const std::int64_t channels = p.channels(), outputs = p.outputs(), row_size = p.taps() * channels;
  const bool in_levels = sums_in_levels(p);
  std::vector<T> buffer(channels_last ? 0 : p.w * p.c), window_row(in_levels ? p.w * p.c : 0);
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int64_t n = row / p.h, h = row % p.h;
    T* sums = channels_last ? grad_input + row * p.w * p.c : buffer.data();
    T* terms = in_levels ? window_row.data() : sums;
    std::fill_n(sums, p.w * p.c, T{0});
    for (std::int64_t r = 0; r < p.r; ++r) {
      const std::int64_t shifted = h + p.padding[0] - r * p.dilation[0];
      if (shifted < 0 || shifted % p.stride[0] != 0 || shifted / p.stride[0] >= p.oh) continue;
      const std::int64_t from = (n * p.oh + shifted / p.stride[0]) * p.ow;
      for (std::int64_t s = 0; s < p.s; ++s) {
        const std::int64_t offset = s * p.dilation[1] - p.padding[1];
        const Span span = outputs_inside(offset, p.stride[1], p.w, p.ow);
        const T* tap = weight + (r * p.s + s) * channels;
        for (std::int64_t ow = span.begin; ow < span.end; ++ow) {
          const std::int64_t k = indices[from + ow];
          const std::int64_t group = p.groups == 1 ? 0 : k / outputs;
          T* to = terms + (ow * p.stride[1] + offset) * p.c + group * channels;
          add_channels(to, tap + k * row_size, gradient[from + ow], channels);
        }
      }
      if (in_levels) add_and_clear(sums, terms, p.w * p.c);
    }
    if (channels_last) continue;
    T* plane = grad_input + (n * p.c * p.h + h) * p.w;
    constexpr std::int64_t kTile = 16;
    for (std::int64_t w = 0; w < p.w; w += kTile) {
      const std::int64_t width = std::min(kTile, p.w - w);
      for (std::int64_t c = 0; c < p.c; ++c) {
        for (std::int64_t i = 0; i < width; ++i) plane[c * p.h * p.w + w + i] = sums[(w + i) * p.c + c];
      }
    }
  }
}

// Knuth's: what the sum rounds off is added to `lost`.
template <typename T>
CONVMIN_INLINE void add_exactly(T term, T& total, T& lost) {
  const T sum = total + term, arrived = sum - total;
  lost += (total - (sum - arrived)) + (term - arrived);
  total = sum;
}

// What is lost of an infinite total is infinity less infinity, which is NaN, and nothing.
template <typename T>
CONVMIN_INLINE T lost_of_finite(T lost) {
  return std::isfinite(lost) ? lost : T{0};
}

// recent -> total. The first time total is written, so that it need not be cleared for channels that never get here.
template <typename T>
CONVMIN_INLINE void move_row(T* __restrict__ recent, T* __restrict__ total, T* __restrict__ lost, std::int64_t width,
                             bool has_total) {
  for (std::int64_t i = 0; i < width; i += kBlock<T>) {
    for (std::int64_t j = i; j < i + kBlock<T>; ++j) {
      if (has_total) {
        add_exactly(recent[j], total[j], lost[j]);
      } else {
        total[j] = recent[j], lost[j] = 0;
      }
      recent[j] = 0;
    }
  }
}
// Functions of their own: they are called seldom, and the loop that calls them needs the registers.
CONVMIN_TARGET_CLONES void settle_row(float* recent, float* total, float* lost, std::int64_t width, bool has_total) {
  move_row(recent, total, lost, width, has_total);
}
CONVMIN_TARGET_CLONES void settle_row(double* recent, double* total, double* lost, std::int64_t width, bool has_total) {
  move_row(recent, total, lost, width, has_total);
}

// Sums of many terms, a row of `width` of them for each output channel. Some channels win a few pixels and some nearly
// all, so each counts its own terms: after kTerms of them its row is added to the channel's total, and what that
// addition rounds off is kept beside it. The error is that of kTerms terms added in sequence, whatever their number.
template <typename T>
class ChannelSums {
 public:
  ChannelSums(std::int64_t channels, std::int64_t width)
      : width_(width),
        missing_(channels, kTerms),
        has_total_(channels),
        recent_(channels * width),
        total_(new T[channels * width]),
        lost_(new T[channels * width]) {}

  T* rows() { return recent_.data(); }
  // [channels], how many terms a row takes before settle() is due, which sets it anew.
  std::int32_t* missing() { return missing_.data(); }

  void settle(std::int64_t k) {
    settle_row(recent_.data() + k * width_, total_.get() + k * width_, lost_.get() + k * width_, width_, has_total_[k]);
    has_total_[k] = true;
    missing_[k] = kTerms;
  }

  // The channel's sums, after the last term.
  const T* finish(std::int64_t k) {
    T* const sums = recent_.data() + k * width_;
    if (!has_total_[k]) return sums;
    settle(k);
    const T *total = total_.get() + k * width_, *lost = lost_.get() + k * width_;
    for (std::int64_t i = 0; i < width_; ++i) sums[i] = total[i] + lost_of_finite(lost[i]);
    return sums;
  }

 private:
  // As few as leave the time as it is: a wider type has fewer channels in a vector, and errors to spare against
  // eager's.
  static constexpr std::int32_t kTerms = std::is_same_v<T, float> ? 16 : 64;

  std::int64_t width_;
  std::vector<std::int32_t> missing_;
  std::vector<char> has_total_;
  std::vector<T> recent_;
  std::unique_ptr<T[]> total_, lost_;
};

// In double, which has bits to spare for terms that are floats; for others what an addition rounds off is kept beside.
template <typename T>
CONVMIN_INLINE void sum_bias(std::int64_t channels, const T* gradient, const std::int32_t* indices, std::int64_t count,
                             double* __restrict__ sums) {
  std::fill_n(sums, channels, 0.0);
  if constexpr (std::is_same_v<T, float>) {
    for (std::int64_t i = 0; i < count; ++i) sums[indices[i]] += gradient[i];
  } else {
    std::vector<T> lost(channels);
    for (std::int64_t i = 0; i < count; ++i) add_exactly(gradient[i], sums[indices[i]], lost[indices[i]]);
    for (std::int64_t k = 0; k < channels; ++k) sums[k] += lost_of_finite(lost[k]);
  }
}

template <typename T>
CONVMIN_INLINE void sum_task(const GradientProblem& p, const GradientTasks& tasks, std::int64_t slice,
                             std::int64_t block, const T* gradient, const std::int32_t* indices, const T* input,
                             const std::int64_t (&strides)[4], T* sums, double* bias_sums) {
  const std::int64_t rows = p.n * p.oh;
  const std::int64_t begin = rows * slice / tasks.slices, end = rows * (slice + 1) / tasks.slices;
  if (block == 0 && bias_sums != nullptr) {
    sum_bias(p.k, gradient + begin * p.ow, indices + begin * p.ow, (end - begin) * p.ow, bias_sums);
  }
  if (sums == nullptr) return;

  // One group: the block's channels. Several: all channels, each group padded to whole blocks.
  const std::int64_t channels = p.channels(), outputs = p.outputs(), taps = p.taps();
  const std::int64_t first = block * tasks.block_channels;
  const std::int64_t parts = (std::min(tasks.block_channels, channels - first) + kBlock<T> - 1) / kBlock<T>;
  const std::int64_t pixel_size = p.groups * parts * kBlock<T>;
  const std::int64_t window = (p.r - 1) * p.dilation[0] + 1;
  const std::int64_t width = (p.ow - 1) * p.stride[1] + (p.s - 1) * p.dilation[1] + 1;
  // Rows of the input under a few output rows, about half of a second-level cache.
  constexpr std::int64_t kStripBytes = 128 << 10;
  const std::int64_t affordable = kStripBytes / (width * pixel_size * static_cast<std::int64_t>(sizeof(T)));
  const std::int64_t strip = std::clamp<std::int64_t>((affordable - window) / p.stride[0] + 1, 1, p.oh);
  std::vector<T> staged(((strip - 1) * p.stride[0] + window) * width * pixel_size);
  ChannelSums<T> channel_sums(p.k, parts * taps * kBlock<T>);  // [k][parts][taps][kBlock]
  T* const channel_rows = channel_sums.rows();
  std::int32_t* const missing = channel_sums.missing();

  for (std::int64_t row = begin; row < end;) {
    const std::int64_t n = row / p.oh, top_row = row % p.oh;
    const std::int64_t count = std::min({strip, end - row, p.oh - top_row});
    const std::int64_t top = top_row * p.stride[0] - p.padding[0];
    const std::int64_t height = (count - 1) * p.stride[0] + window;
    std::fill_n(staged.data(), height * width * pixel_size, T{0});
    const std::int64_t left = std::max<std::int64_t>(0, p.padding[1]), right = std::min(width, p.w + p.padding[1]);
    for (std::int64_t y = std::max<std::int64_t>(0, -top); y < std::min(height, p.h - top); ++y) {
      for (std::int64_t group = 0; group < p.groups; ++group) {
        const std::int64_t mine = std::min(parts * kBlock<T>, channels - first);
        const T* from = input + n * strides[0] + (group * channels + first) * strides[1] + (top + y) * strides[2];
        T* to = staged.data() + y * width * pixel_size + group * parts * kBlock<T>;
        if (strides[1] == 1) {
          for (std::int64_t x = left; x < right; ++x) {
            std::copy_n(from + (x - p.padding[1]) * strides[3], mine, to + x * pixel_size);
          }
        } else {
          for (std::int64_t c = 0; c < mine; ++c) {
            const T* line = from + c * strides[1];
            for (std::int64_t x = left; x < right; ++x) to[x * pixel_size + c] = line[(x - p.padding[1]) * strides[3]];
          }
        }
      }
    }
    for (std::int64_t y = 0; y < count; ++y) {
      const std::int64_t at = (row + y) * p.ow;
      for (std::int64_t ow = 0; ow < p.ow; ++ow) {
        const std::int64_t k = indices[at + ow];
        const T factor = gradient[at + ow];
        const T* corner = staged.data() + (y * p.stride[0] * width + ow * p.stride[1]) * pixel_size +
                          (p.groups == 1 ? 0 : k / outputs * parts * kBlock<T>);
        T* to = channel_rows + k * parts * taps * kBlock<T>;
        for (std::int64_t r = 0; r < p.r; ++r) {
          for (std::int64_t s = 0; s < p.s; ++s) {
            const T* tap = corner + (r * p.dilation[0] * width + s * p.dilation[1]) * pixel_size;
            for (std::int64_t part = 0; part < parts; ++part) {
              add_scaled(to + (part * taps + r * p.s + s) * kBlock<T>, tap + part * kBlock<T>, factor, kBlock<T>);
            }
          }
        }
        if (--missing[k] == 0) channel_sums.settle(k);
      }
    }
    row += count;
  }
  for (std::int64_t k = 0; k < p.k; ++k) {
    const T* from = channel_sums.finish(k);
    for (std::int64_t tap = 0; tap < taps; ++tap) {
      for (std::int64_t c = 0; c < std::min(parts * kBlock<T>, channels - first); ++c) {
        sums[(k * taps + tap) * channels + first + c] = from[(c / kBlock<T> * taps + tap) * kBlock<T> + c % kBlock<T>];
      }
    }
  }
}

}  // namespace

GradientTasks plan_grad_weight(const GradientProblem& p) {
  constexpr std::int64_t kChannels = 16;        // whole blocks of either type
  constexpr std::int64_t kTasks = 16;           // enough for that many threads
  constexpr std::int64_t kPixels = 2048;        // fewer aren't worth a slice
  constexpr std::int64_t kSumBytes = 64 << 20;  // of all slices
  GradientTasks tasks{};
  tasks.block_channels = p.groups == 1 ? kChannels : p.channels();
  tasks.blocks = (p.channels() + tasks.block_channels - 1) / tasks.block_channels;
  const std::int64_t weight_bytes = std::max<std::int64_t>(1, p.k * p.taps() * p.channels() * 4);
  const std::int64_t worthwhile = p.n * p.oh * p.ow / std::max(kPixels, 16 * p.k);
  const std::int64_t wanted =
      std::min({(kTasks + tasks.blocks - 1) / tasks.blocks, worthwhile, kSumBytes / weight_bytes});
  tasks.slices = std::max<std::int64_t>(1, std::min(wanted, p.n * p.oh));
  return tasks;
}

CONVMIN_FUSED_CLONES void grad_input_rows(const GradientProblem& problem, const float* gradient,
                                          const std::int32_t* indices, const float* weight, bool channels_last,
                                          std::int64_t begin, std::int64_t end, float* grad_input) {
  gather_rows(problem, gradient, indices, weight, channels_last, begin, end, grad_input);
}

CONVMIN_FUSED_CLONES void grad_input_rows(const GradientProblem& problem, const double* gradient,
                                          const std::int32_t* indices, const double* weight, bool channels_last,
                                          std::int64_t begin, std::int64_t end, double* grad_input) {
  gather_rows(problem, gradient, indices, weight, channels_last, begin, end, grad_input);
}

CONVMIN_TARGET_CLONES void grad_weight_task(const GradientProblem& problem, const GradientTasks& tasks,
                                            std::int64_t slice, std::int64_t block, const float* gradient,
                                            const std::int32_t* indices, const float* input,
                                            const std::int64_t (&strides)[4], float* sums, double* bias_sums) {
  sum_task(problem, tasks, slice, block, gradient, indices, input, strides, sums, bias_sums);
}

CONVMIN_TARGET_CLONES void grad_weight_task(const GradientProblem& problem, const GradientTasks& tasks,
                                            std::int64_t slice, std::int64_t block, const double* gradient,
                                            const std::int32_t* indices, const double* input,
                                            const std::int64_t (&strides)[4], double* sums, double* bias_sums) {
  sum_task(problem, tasks, slice, block, gradient, indices, input, strides, sums, bias_sums);
}

}  // namespace convmin
