// Gradients from the saved index. Only a pixel's winning channel has one; this composite spreads it over a dense
// tensor, a few images at a time, and leaves the rest to ATen's convolution backward, on any device.
#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <torch/library.h>

#include <algorithm>
#include <mutex>

namespace convmin {
namespace {

constexpr std::int64_t kDenseBytes = std::int64_t{256} << 20;  // bound on the dense gradient of one batch of images

// Gradients repeat to the bit, so cuDNN's atomics are out while one is computed. The switch is the process's: the first
// scope sets it, the last one puts it back.
class DeterministicConvolution {
 public:
  DeterministicConvolution() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (depth_++ == 0) {
      before_ = at::globalContext().deterministicCuDNN();
      at::globalContext().setDeterministicCuDNN(true);
    }
  }
  ~DeterministicConvolution() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (--depth_ == 0) at::globalContext().setDeterministicCuDNN(before_);
  }
  DeterministicConvolution(const DeterministicConvolution&) = delete;
  DeterministicConvolution& operator=(const DeterministicConvolution&) = delete;

 private:
  static inline std::mutex mutex_;
  static inline int depth_ = 0;
  static inline bool before_ = false;
};

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(const at::Tensor& grad_output_, const at::Tensor& input_,
                                                        const at::Tensor& weight, const at::Tensor& indices_,
                                                        double scale, at::IntArrayRef stride, at::IntArrayRef padding,
                                                        at::IntArrayRef dilation, std::int64_t groups,
                                                        std::array<bool, 3> output_mask) {
  constexpr const char* op = "conv2d_scale_min_backward";
  TORCH_CHECK(grad_output_.sizes() == indices_.sizes(), op, ": expected grad_output of the indices' shape ",
              indices_.sizes(), ", got ", grad_output_.sizes());
  TORCH_CHECK(input_.dim() == grad_output_.dim(), op, ": expected input of ", grad_output_.dim(),
              " dimensions like grad_output, got ", input_.sizes());
  const DeterministicConvolution deterministic;
  const bool batched = input_.dim() == 4;
  const auto batch = [batched](const at::Tensor& t) { return batched ? t : t.unsqueeze(0); };
  const at::Tensor grad_output = batch(grad_output_), input = batch(input_), indices = batch(indices_);

  const std::int64_t n = input.size(0), k = weight.size(0), oh = grad_output.size(2), ow = grad_output.size(3);
  const std::int64_t image_bytes =
      std::max<std::int64_t>(1, k * oh * ow * static_cast<std::int64_t>(input.element_size()));
  const std::int64_t step = std::clamp<std::int64_t>(kDenseBytes / image_bytes, 1, std::max<std::int64_t>(n, 1));
  const bool whole = step >= n;
  const at::ScalarType sum_type = input.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;

  at::Tensor grad_input, grad_weight, grad_bias;
  if (output_mask[0] && !whole) grad_input = at::empty_like(input);
  for (std::int64_t first = 0; first < std::max<std::int64_t>(n, 1); first += step) {
    const std::int64_t last = std::min(n, first + step);
    const at::Tensor x = input.slice(0, first, last);
    const at::Tensor winner = indices.slice(0, first, last).to(at::kLong);
    at::Tensor dense =
        at::zeros({last - first, k, oh, ow}, input.options().memory_format(input.suggest_memory_format()));
    dense.scatter_(1, winner, grad_output.slice(0, first, last).mul(scale));
    auto [dx, dw, db] =
        at::convolution_backward(dense, x, weight, at::OptionalIntArrayRef({k}), stride, padding, dilation,
                                 /*transposed=*/false, /*output_padding=*/{0, 0}, groups, output_mask);
    if (whole) {
      grad_input = dx, grad_weight = dw, grad_bias = db;
      break;
    }
    if (output_mask[0]) grad_input.slice(0, first, last).copy_(dx);
    if (output_mask[1]) grad_weight = first == 0 ? dw.to(sum_type) : grad_weight.add_(dw);
    if (output_mask[2]) grad_bias = first == 0 ? db.to(sum_type) : grad_bias.add_(db);
  }
  // Layouts that Meta can foretell: those of the tensors that the gradients are of.
  if (grad_input.defined()) {
    grad_input = (batched ? grad_input : grad_input.squeeze(0)).contiguous(input_.suggest_memory_format());
  }
  if (grad_weight.defined()) {
    grad_weight = grad_weight.to(weight.scalar_type()).contiguous(weight.suggest_memory_format());
  }
  if (grad_bias.defined()) grad_bias = grad_bias.to(weight.scalar_type());
  return {grad_input, grad_weight, grad_bias};
}

}  // namespace
}  // namespace convmin

TORCH_LIBRARY_IMPL(convmin, CPU, m) { m.impl("conv2d_scale_min_backward", &convmin::backward); }
TORCH_LIBRARY_IMPL(convmin, CUDA, m) { m.impl("conv2d_scale_min_backward", &convmin::backward); }
