// Prints what each slice of a call is given: images, and how far its pointers are from the call's.
#include "common/slices.h"

#include <cstdio>

int main() {
  for (const auto type : {convmin::DType::kFloat32, convmin::DType::kFloat16}) {
    convmin::Problem problem{};
    problem.dtype = type;
    problem.n = 6, problem.oh = 5, problem.ow = 7, problem.k = 300;
    problem.input_strides[0] = 1000;
    for (const bool with_indices : {true, false}) {
      static char input[64 << 10], values[64 << 10], indices[64 << 10];
      convmin::Arguments arguments{};
      arguments.input = input, arguments.values = values, arguments.indices = with_indices ? indices : nullptr;
      int calls = 0;
      const int error = convmin::for_each_slice(problem, 2, arguments, [&](const auto& part, const auto& rest) {
        std::printf("%d %d %d %d ", static_cast<int>(part.n),
                    static_cast<int>(static_cast<const char*>(rest.input) - input),
                    static_cast<int>(static_cast<char*>(rest.values) - values),
                    rest.indices == nullptr ? -1 : static_cast<int>(static_cast<char*>(rest.indices) - indices));
        return ++calls == 2 && !with_indices ? 7 : 0;
      });
      std::printf("%d\n", error);
    }
  }
}
