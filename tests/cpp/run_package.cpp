// Serves an AOTInductor package without Python: run_package PACKAGE BATCH. libconvmin.so, which is linked, registers
// the operator that the package calls.
#include <ATen/Functions.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const c10::InferenceMode mode;
  torch::inductor::AOTIModelPackageLoader loader(argv[1]);
  const at::Tensor x =
      at::arange(std::atoi(argv[2]) * 3 * 16 * 16, at::kFloat).remainder(11).sub(5).view({-1, 3, 16, 16});
  const at::Tensor y = loader.run({x})[0].contiguous();
  for (std::int64_t i = 0; i < y.numel(); ++i) std::printf("%.9g ", static_cast<double>(y.const_data_ptr<float>()[i]));
}
