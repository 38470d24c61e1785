#include "cpu/gradients.h"

#include <algorithm>
#include <vector>

// One body, compiled for each instruction set and chosen when the library loads.
#if defined(__x86_64__) && defined(__gnu_linux__)
#define CONVMIN_TARGET_CLONES __attribute__((target_clones("avx512f", "arch=haswell", "default")))
#else
#define CONVMIN_TARGET_CLONES
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

// A row of grad_input is gathered from the output rows above it, and within them scattered to a buffer [w][c] that this
// row alone has.
template <typename T>
CONVMIN_INLINE void gather_rows(const GradientProblem& p, const T* gradient, const std::int32_t* indices,
                                const T* weight, bool channels_last, std::int64_t begin, std::int64_t end,
                                T* grad_input) {
  const std::int64_t channels = p.channels(), outputs = p.outputs(), row_size = p.taps() * channels;
  std::vector<T> buffer(channels_last ? 0 : p.w * p.c);
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int64_t n = row / p.h, h = row % p.h;
    T* sums = channels_last ? grad_input + row * p.w * p.c : buffer.data();
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
          T* to = sums + (ow * p.stride[1] + offset) * p.c + group * channels;
          add_scaled(to, tap + k * row_size, gradient[from + ow], channels);
        }
      }
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

// The sums of one task, [k][blocks of a group][taps][kBlock], and the level above them.
template <typename T>
class TaskSums {
 public:
  explicit TaskSums(std::int64_t size) : recent_(size), total_(size) {}
  T* recent() { return recent_.data(); }
  const T* total() const { return total_.data(); }
  void settle() {
    for (std::size_t i = 0; i < total_.size(); ++i) {
      total_[i] += recent_[i];
      recent_[i] = 0;
    }
  }

 private:
  std::vector<T> recent_, total_;
};

template <typename T>
CONVMIN_INLINE void sum_task(const GradientProblem& p, const GradientTasks& tasks, std::int64_t slice,
                             std::int64_t block, const T* gradient, const std::int32_t* indices, const T* input,
                             const std::int64_t (&strides)[4], T* sums, double* bias_sums) {
  const std::int64_t rows = p.n * p.oh;
  const std::int64_t begin = rows * slice / tasks.slices, end = rows * (slice + 1) / tasks.slices;
  if (block == 0 && bias_sums != nullptr) {
    std::fill_n(bias_sums, p.k, 0.0);
    for (std::int64_t i = begin * p.ow; i < end * p.ow; ++i) bias_sums[indices[i]] += gradient[i];
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
  TaskSums<T> task(p.k * parts * taps * kBlock<T>);
  // Sums grow by about so many terms each before they are added to those above: a walk of less error.
  const std::int64_t patience = std::max<std::int64_t>(256, 8 * p.k);
  std::int64_t pixels = 0;

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
        T* to = task.recent() + k * parts * taps * kBlock<T>;
        for (std::int64_t r = 0; r < p.r; ++r) {
          for (std::int64_t s = 0; s < p.s; ++s) {
            const T* tap = corner + (r * p.dilation[0] * width + s * p.dilation[1]) * pixel_size;
            for (std::int64_t part = 0; part < parts; ++part) {
              add_scaled(to + (part * taps + r * p.s + s) * kBlock<T>, tap + part * kBlock<T>, factor, kBlock<T>);
            }
          }
        }
      }
      pixels += p.ow;
      if (pixels >= patience) task.settle(), pixels = 0;
    }
    row += count;
  }
  task.settle();
  for (std::int64_t k = 0; k < p.k; ++k) {
    for (std::int64_t tap = 0; tap < taps; ++tap) {
      for (std::int64_t c = 0; c < std::min(parts * kBlock<T>, channels - first); ++c) {
        sums[(k * taps + tap) * channels + first + c] =
            task.total()[((k * parts + c / kBlock<T>)*taps + tap) * kBlock<T> + c % kBlock<T>];
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

CONVMIN_TARGET_CLONES void grad_input_rows(const GradientProblem& problem, const float* gradient,
                                           const std::int32_t* indices, const float* weight, bool channels_last,
                                           std::int64_t begin, std::int64_t end, float* grad_input) {
  gather_rows(problem, gradient, indices, weight, channels_last, begin, end, grad_input);
}

CONVMIN_TARGET_CLONES void grad_input_rows(const GradientProblem& problem, const double* gradient,
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
