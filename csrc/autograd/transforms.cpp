#include "transforms.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/conv2d.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <mutex>
#include <type_traits>

#include "convmin/ops.h"

namespace convmin::transforms {
namespace {

using c10::SymInt;
using c10::SymIntArrayRef;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

struct Convolution {
  double scale;
  std::vector<SymInt> stride, padding, dilation;
  SymInt groups;
};

struct ConvScaleMinBackward : torch::autograd::Node {
  using Node::Node;

  variable_list apply(variable_list&& grads) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    variable_list result(3);
    if (!grads[0].defined()) return result;
    const std::array<bool, 3> mask = {task_should_compute_output(0), task_should_compute_output(1),
                                      task_should_compute_output(2)};
    std::tie(result[0], result[1], result[2]) = ops::conv2d_scale_min_backward(
        grads[0], input.unpack(), weight.unpack(), indices.unpack(), convolution.scale, convolution.stride,
        convolution.padding, convolution.dilation, convolution.groups, mask);
    return result;
  }

  std::string name() const override { return "ConvScaleMinBackward"; }

  void release_variables() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (SavedVariable* saved : {&input, &weight, &indices}) saved->reset_data();
  }

  SavedVariable input, weight, indices;
  Convolution convolution;
};

// Nodes are counted by themselves from torch 2.13 on, before by std::shared_ptr.
template <typename T>
auto make_node() {
  if constexpr (std::is_base_of_v<c10::intrusive_ptr_target, T>) {
    return c10::make_intrusive<T>();
  } else {
    return std::shared_ptr<T>(new T(), [](T* node) { deleteNode(node); });
  }
}

at::Tensor tangent_of(const at::Tensor& tensor) { return tensor._fw_grad(/*level=*/0); }

bool has_tangent(const at::Tensor& tensor) { return tensor.defined() && tangent_of(tensor).defined(); }

// The winning channel's change. Its own convolutions are dense: who moves along a direction pays for all channels.
at::Tensor output_tangent(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                          const at::Tensor& indices, const Convolution& convolution) {
  const auto conv = [&](const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& b) {
    return at::conv2d_symint(x, w, b, convolution.stride, convolution.padding, convolution.dilation,
                             convolution.groups);
  };
  const at::Tensor x = input._fw_primal(0), w = weight._fw_primal(0);
  at::Tensor change;
  const auto add = [&change](const at::Tensor& term) { change = change.defined() ? change.add(term) : term; };
  if (has_tangent(weight)) add(conv(x, tangent_of(weight), std::nullopt));
  if (has_tangent(input)) add(conv(tangent_of(input), w, std::nullopt));
  const at::Tensor winner = indices.to(at::kLong);
  change = change.defined() ? change.gather(-3, winner) : change;
  if (bias.has_value() && has_tangent(*bias)) {
    add(tangent_of(*bias).index_select(0, winner.flatten()).reshape_symint(winner.sym_sizes()));
  }
  return change.mul(convolution.scale);
}

}  // namespace

bool active(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  // The key by which torch.func hands a call from one of its transforms on to the next.
  return c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::FuncTorchDynamicLayerBackMode) ||
         has_tangent(input) || has_tangent(weight) || (bias.has_value() && has_tangent(*bias));
}

std::tuple<at::Tensor, at::Tensor> differentiable(const at::Tensor& input, const at::Tensor& weight,
                                                  const std::optional<at::Tensor>& bias, double scale,
                                                  SymIntArrayRef stride, SymIntArrayRef padding,
                                                  SymIntArrayRef dilation, SymInt groups) {
  const bool requires_grad = torch::autograd::compute_requires_grad(input, weight, bias);
  at::Tensor values, indices;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    std::tie(values, indices) =
        ops::conv2d_scale_min_with_indices(input, weight, bias, scale, stride, padding, dilation, groups);
  }
  Convolution convolution{scale, stride.vec(), padding.vec(), dilation.vec(), std::move(groups)};
  const bool moves = has_tangent(input) || has_tangent(weight) || (bias.has_value() && has_tangent(*bias));
  const at::Tensor change = moves ? output_tangent(input, weight, bias, indices, convolution) : at::Tensor();
  if (requires_grad) {
    auto node = make_node<ConvScaleMinBackward>();
    node->set_next_edges(torch::autograd::collect_next_edges(input, weight, bias.value_or(at::Tensor())));
    node->input = SavedVariable(input, false);
    node->weight = SavedVariable(weight, false);
    node->indices = SavedVariable(indices, false);
    node->convolution = std::move(convolution);
    torch::autograd::set_history(values, node);
  }
  if (change.defined()) values._set_fw_grad(change, /*level=*/0, /*is_inplace_op=*/false);
  return {values, indices};
}

}  // namespace convmin::transforms
