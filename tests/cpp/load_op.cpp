// A program without Python that calls the operator: through the header, and through the dispatcher by name.
// Prints one line per result, which the test compares with the operator's results in Python.
#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <convmin/ops.h>

#include <cstdio>
#include <exception>
#include <tuple>
#include <vector>

namespace {

void print(const char* name, const at::Tensor& tensor) {
  std::printf("%s", name);
  const at::Tensor flat = tensor.to(at::kDouble).flatten();
  for (std::int64_t i = 0; i < flat.numel(); ++i) std::printf(" %.17g", flat[i].item<double>());
  std::printf("\n");
}

// arange(count) % modulus - shift, exact in every dtype.
at::Tensor numbers(at::IntArrayRef shape, int modulus, int shift) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return at::arange(count, at::kFloat).remainder(modulus).sub(shift).view(shape);
}

}  // namespace

int main() {
  const at::Tensor input = numbers({2, 4, 7, 8}, 11, 5);
  const at::Tensor weight = numbers({6, 4, 3, 3}, 7, 3);
  const at::Tensor bias = numbers({6}, 5, 2);
  print("header", convmin::ops::conv2d_scale_min(input, weight, bias, -0.5, {2, 1}, {1, 0}));

  const auto [values, indices] = convmin::ops::conv2d_scale_min_with_indices(input, weight, std::nullopt, 2.0);
  print("values", values);
  print("indices", indices);

  std::vector<c10::IValue> stack{input,
                                 weight,
                                 bias,
                                 2.0,
                                 std::vector<std::int64_t>{1, 1},
                                 std::vector<std::int64_t>{0, 0},
                                 std::vector<std::int64_t>{1, 1},
                                 1};
  c10::Dispatcher::singleton().findSchemaOrThrow("convmin::conv2d_scale_min", "").callBoxed(&stack);
  print("boxed", stack.at(0).toTensor());

  try {
    convmin::ops::conv2d_scale_min(input, weight.slice(1, 1), bias, 1.0);
    std::printf("error none\n");
  } catch (const std::exception&) {
    std::printf("error caught\n");
  }
  return 0;
}
