// CPU: ATen's convolution on slabs of output rows that fit in cache, scale and minimum fused over each slab.
#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>

#include "checks.h"
#include "cpu/channel_min.h"
#include "cpu/slab_plan.h"
#include "forward.h"

namespace convmin {
namespace {

constexpr std::int64_t kGrain = 32768;  // convolution outputs that are worth a thread

// float16 and bfloat16 are summed in float32 and rounded once, at the end.
at::ScalarType compute_type(at::ScalarType type) { return type == at::kDouble ? at::kDouble : at::kFloat; }

// Tensor::to, but for the trip through the dispatcher, which small calls feel.
at::Tensor as_type(const at::Tensor& tensor, at::ScalarType type) {
  return tensor.scalar_type() == type ? tensor : tensor.to(type);
}

at::Tensor as_layout(const at::Tensor& tensor, at::ScalarType type, bool channels_last) {
  return as_type(tensor, type)
      .contiguous(channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
}

// The convolution of images [first, last) and output rows [begin, end).
at::Tensor convolve_slab(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                         const Convolution<std::int64_t>& convolution, const Geometry<std::int64_t>& geometry,
                         bool channels_last, std::int64_t first, std::int64_t last, std::int64_t begin,
                         std::int64_t end) {
  at::Tensor slab = last - first == geometry.n ? input : input.slice(0, first, last);
  std::array<std::int64_t, 2> padding = {convolution.padding[0], convolution.padding[1]};
  std::array<std::int64_t, 4> explicit_padding{};  // left, right, top, bottom
  const std::int64_t window_h = convolution.dilation[0] * (geometry.r - 1) + 1;
  const std::int64_t window_w = convolution.dilation[1] * (geometry.s - 1) + 1;
  // oneDNN's channels_last convolution reads out of bounds where whole windows lie in the padding (its issue 5942).
  const bool beyond_h = padding[0] >= window_h, beyond_w = padding[1] >= window_w;
  if (end - begin < geometry.oh || beyond_h) {
    // The rows under the slab's windows; what lies outside the image becomes explicit padding.
    const std::int64_t top = begin * convolution.stride[0] - padding[0];
    const std::int64_t bottom = (end - 1) * convolution.stride[0] - padding[0] + window_h;
    const std::int64_t low = std::clamp<std::int64_t>(top, 0, geometry.h);
    const std::int64_t high = std::clamp<std::int64_t>(bottom, low, geometry.h);
    slab = slab.slice(2, low, high);
    explicit_padding[2] = std::clamp<std::int64_t>(low - top, 0, bottom - top);
    explicit_padding[3] = (bottom - top) - explicit_padding[2] - (high - low);
    padding[0] = 0;
  }
  if (beyond_w) {
    explicit_padding[0] = explicit_padding[1] = padding[1];
    padding[1] = 0;
  }
  if (explicit_padding != std::array<std::int64_t, 4>{}) slab = at::constant_pad_nd(slab, explicit_padding);
  slab = as_layout(slab, weight.scalar_type(), channels_last);
  return at::convolution(slab, weight, bias, convolution.stride, padding, convolution.dilation, /*transposed=*/false,
                         /*output_padding=*/{0, 0}, convolution.groups);
}

template <typename T>
void reduce_slab(const at::Tensor& conv, bool channels_last, double scale, T* values, std::int32_t* indices) {
  const at::Tensor dense =
      conv.contiguous(channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
  const std::int64_t channels = dense.size(1), pixels = dense.size(2) * dense.size(3);
  const T* data = dense.const_data_ptr<T>();
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / channels);
  at::parallel_for(0, dense.size(0) * pixels, grain, [&](std::int64_t begin, std::int64_t end) {
    channel_min(data, channels_last, pixels, channels, scale, begin, end, values, indices);
  });
}

// A slab of the result as a contiguous tensor of the type that it is computed in: the result itself where types agree.
at::Tensor slab_target(const at::Tensor& result, at::ScalarType type) {
  return result.scalar_type() == type ? result : at::empty(result.sizes(), result.options().dtype(type));
}

std::tuple<at::Tensor, at::Tensor> forward(const at::Tensor& input_, const at::Tensor& weight_,
                                           const std::optional<at::Tensor>& bias_, double scale,
                                           const Convolution<std::int64_t>& convolution, bool with_indices) {
  const auto geometry = check_arguments<std::int64_t>(kOp, input_, weight_, bias_, convolution);
  const at::Tensor input = geometry.batched ? input_ : input_.unsqueeze(0);
  const at::ScalarType type = compute_type(input.scalar_type());
  const SlabPlan slabs =
      plan_slabs(geometry.n, geometry.k, geometry.oh, geometry.ow, static_cast<std::int64_t>(at::elementSize(type)));
  const bool channels_last = input.suggest_memory_format() == at::MemoryFormat::ChannelsLast;
  const at::Tensor weight = as_layout(weight_, type, channels_last);
  const auto bias = bias_.has_value() ? std::optional<at::Tensor>(as_type(*bias_, type)) : std::nullopt;

  at::Tensor values = at::empty({geometry.n, 1, geometry.oh, geometry.ow}, input.options());
  at::Tensor indices;
  if (with_indices) indices = at::empty(values.sizes(), values.options().dtype(index_scalar_type(geometry.k)));

  for (std::int64_t first = 0; first < geometry.n; first += slabs.images) {
    const std::int64_t last = std::min(geometry.n, first + slabs.images);
    for (std::int64_t begin = 0; begin < geometry.oh; begin += slabs.rows) {
      const std::int64_t end = std::min(geometry.oh, begin + slabs.rows);
      const at::Tensor conv =
          convolve_slab(input, weight, bias, convolution, geometry, channels_last, first, last, begin, end);
      const bool all = last - first == geometry.n && end - begin == geometry.oh;
      const auto part = [&](const at::Tensor& whole) {
        return all ? whole : whole.slice(0, first, last).slice(2, begin, end);
      };
      const at::Tensor slab_values = slab_target(part(values), type);
      const at::Tensor slab_indices = with_indices ? slab_target(part(indices), at::kInt) : at::Tensor();
      std::int32_t* index_data = with_indices ? slab_indices.mutable_data_ptr<std::int32_t>() : nullptr;
      if (type == at::kDouble) {
        reduce_slab(conv, channels_last, scale, slab_values.mutable_data_ptr<double>(), index_data);
      } else {
        reduce_slab(conv, channels_last, scale, slab_values.mutable_data_ptr<float>(), index_data);
      }
      if (values.scalar_type() != type) part(values).copy_(slab_values);
      if (with_indices && indices.scalar_type() != at::kInt) part(indices).copy_(slab_indices);
    }
  }
  if (!geometry.batched) {
    values = values.squeeze(0);
    if (with_indices) indices = indices.squeeze(0);
  }
  return {values, indices};
}

}  // namespace
}  // namespace convmin

TORCH_LIBRARY_IMPL(convmin, CPU, m) { convmin::Forward<&convmin::forward>::register_in(m); }
