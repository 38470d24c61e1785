// Autocast: as conv2d, in the lower precision; float64 and integer tensors are left alone.
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include "convmin/ops.h"

namespace convmin {
namespace {

template <c10::DeviceType kDevice>
struct Autocast {
  static at::Tensor cast(const at::Tensor& tensor) {
    return at::autocast::cached_cast(at::autocast::get_autocast_dtype(kDevice), tensor, kDevice);
  }
  static std::optional<at::Tensor> cast(const std::optional<at::Tensor>& tensor) {
    return tensor.has_value() ? std::optional<at::Tensor>(cast(*tensor)) : std::nullopt;
  }
  static c10::DispatchKeySet key() {
    return c10::DispatchKeySet(at::autocast::get_autocast_dispatch_key_from_device_type(kDevice));
  }

  static at::Tensor values(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                           double scale, c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                           c10::SymIntArrayRef dilation, c10::SymInt groups) {
    const c10::impl::ExcludeDispatchKeyGuard guard(key());
    return ops::conv2d_scale_min(cast(input), cast(weight), cast(bias), scale, stride, padding, dilation,
                                 std::move(groups));
  }

  static std::tuple<at::Tensor, at::Tensor> with_indices(const at::Tensor& input, const at::Tensor& weight,
                                                         const std::optional<at::Tensor>& bias, double scale,
                                                         c10::SymIntArrayRef stride, c10::SymIntArrayRef padding,
                                                         c10::SymIntArrayRef dilation, c10::SymInt groups) {
    const c10::impl::ExcludeDispatchKeyGuard guard(key());
    return ops::conv2d_scale_min_with_indices(cast(input), cast(weight), cast(bias), scale, stride, padding, dilation,
                                              std::move(groups));
  }
};

template <c10::DeviceType kDevice>
void register_autocast(torch::Library& m) {
  m.impl("conv2d_scale_min", &Autocast<kDevice>::values);
  m.impl("conv2d_scale_min_with_indices", &Autocast<kDevice>::with_indices);
}

}  // namespace
}  // namespace convmin

TORCH_LIBRARY_IMPL(convmin, AutocastCPU, m) { convmin::register_autocast<at::kCPU>(m); }
TORCH_LIBRARY_IMPL(convmin, AutocastCUDA, m) { convmin::register_autocast<at::kCUDA>(m); }
