// The Python module _C: what was built, and plans. No tensor passes through it, and no torch header is included: the
// operator itself reaches Python through the dispatcher.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "../cpu/slab_plan.h"
#include "conv_scale_min.h"

namespace py = pybind11;

namespace convmin {
namespace {

DType parse_dtype(const std::string& name) {
  if (name == "float32") return DType::kFloat32;
  if (name == "float64") return DType::kFloat64;
  if (name == "float16") return DType::kFloat16;
  if (name == "bfloat16") return DType::kBFloat16;
  throw py::value_error("plan: expected dtype float32, float64, float16 or bfloat16, got '" + name + "'");
}

Precision parse_precision(const std::string& name) {
  if (name == "ieee") return Precision::kIeee;
  if (name == "tf32") return Precision::kTf32;
  throw py::value_error("plan: expected precision ieee or tf32, got '" + name + "'");
}

using Shape = std::array<std::int64_t, 4>;
using Pair = std::array<std::int64_t, 2>;

Problem parse_problem(const py::dict& fields) {
  Problem problem{};
  problem.dtype = parse_dtype(fields["dtype"].cast<std::string>());
  problem.precision = parse_precision(fields["precision"].cast<std::string>());
  problem.has_bias = fields["has_bias"].cast<bool>();
  problem.with_indices = fields["with_indices"].cast<bool>();
  const auto input = fields["input"].cast<Shape>(), weight = fields["weight"].cast<Shape>();
  problem.n = input[0], problem.c = input[1], problem.h = input[2], problem.w = input[3];
  problem.k = weight[0], problem.r = weight[2], problem.s = weight[3];
  const auto output = fields["output"].cast<Pair>(), stride = fields["stride"].cast<Pair>(),
             padding = fields["padding"].cast<Pair>(), dilation = fields["dilation"].cast<Pair>();
  problem.oh = output[0], problem.ow = output[1];
  problem.stride_h = stride[0], problem.stride_w = stride[1];
  problem.padding_h = padding[0], problem.padding_w = padding[1];
  problem.dilation_h = dilation[0], problem.dilation_w = dilation[1];
  problem.groups = fields["groups"].cast<std::int64_t>();
  problem.input_alignment = fields.contains("input_alignment") ? fields["input_alignment"].cast<int>() : 16;
  problem.weight_alignment = fields.contains("weight_alignment") ? fields["weight_alignment"].cast<int>() : 16;
  problem.scale = fields.contains("scale") ? fields["scale"].cast<double>() : 1.0;
  const auto input_strides = fields["input_strides"].cast<Shape>(),
             weight_strides = fields["weight_strides"].cast<Shape>();
  for (int i = 0; i < 4; ++i) {
    problem.input_strides[i] = input_strides[i];
    problem.weight_strides[i] = weight_strides[i];
  }
  return problem;
}

Device parse_device(const py::dict& fields) {
  Device device{};
  device.major = fields["major"].cast<int>();
  device.minor = fields["minor"].cast<int>();
  device.sm_count = fields["sm_count"].cast<int>();
  device.shared_memory_per_block = fields["shared_memory_per_block"].cast<int>();
  device.shared_memory_per_sm = fields["shared_memory_per_sm"].cast<int>();
  device.registers_per_sm = fields["registers_per_sm"].cast<int>();
  const auto clusters = fields["clusters"].cast<std::array<int, kMaxCluster - 1>>();
  std::copy(clusters.begin(), clusters.end(), device.clusters);
  return device;
}

py::dict query_device_as_dict([[maybe_unused]] int ordinal) {
#ifdef CONVMIN_CUDA_VERSION
  Device device{};
  const Status status = query_device(ordinal, &device);
  if (!status.ok()) throw std::runtime_error(std::string("query_device: ") + error_string(status));
  py::dict fields;
  fields["major"] = device.major;
  fields["minor"] = device.minor;
  fields["sm_count"] = device.sm_count;
  fields["shared_memory_per_block"] = device.shared_memory_per_block;
  fields["shared_memory_per_sm"] = device.shared_memory_per_sm;
  fields["registers_per_sm"] = device.registers_per_sm;
  fields["clusters"] = py::tuple(py::cast(std::vector<int>(std::begin(device.clusters), std::end(device.clusters))));
  return fields;
#else
  throw std::runtime_error("query_device: convmin was built without CUDA");
#endif
}

const char* name_of(Gather gather) {
  switch (gather) {
    case Gather::kPixels: return "pixels";
    case Gather::kChannels: return "channels";
    case Gather::kTaps: return "taps";
    case Gather::kQuads: return "quads";
  }
  return "unknown";
}

py::dict plan_as_dict(const py::dict& problem, const py::dict& device, const std::string& kernel) {
  KernelId forced{};
  if (!kernel.empty() && !kernel_from_name(kernel, &forced)) {
    throw py::value_error("plan: expected the name of a kernel, got '" + kernel + "'");
  }
  const Plan plan = convmin::plan(parse_problem(problem), parse_device(device), kernel.empty() ? nullptr : &forced);
  py::dict result;
  result["accepted"] = plan.accepted;
  result["reason"] = plan.reason;
  py::list rejections;
  for (int i = 0; i < plan.rejection_count; ++i) {
    rejections.append(py::make_tuple(kernel_name(plan.rejections[i].kernel), plan.rejections[i].reason));
  }
  result["rejections"] = rejections;
  if (!plan.accepted) return result;
  result["kernel"] = kernel_name(plan.kernel);
  result["precision"] = plan.precision == Precision::kIeee ? "ieee" : "tf32";
  result["gather"] = name_of(plan.gather);
  result["tile"] = py::make_tuple(plan.tile_m, plan.tile_n, plan.tile_k);
  result["stages"] = plan.stages;
  result["tile_rows"] = plan.tile_rows;
  result["tile_columns"] = plan.tile_columns;
  result["padded"] = plan.padded;
  result["prefetched"] = plan.prefetched;
  result["taps"] = plan.taps;
  result["parts"] = plan.parts;
  result["splits"] = plan.splits;
  result["images"] = plan.images;
  result["blocks"] = plan.blocks;
  result["cluster"] = plan.cluster;
  result["grains"] = plan.grains;
  result["threads"] = plan.threads;
  result["shared_memory"] = plan.shared_memory;
  result["workspace_bytes"] = plan.workspace_bytes;
  return result;
}

const char* name_of(GradInputKernel kernel) {
  switch (kernel) {
    case GradInputKernel::kNone: return "none";
    case GradInputKernel::kGeneral: return "general";
    case GradInputKernel::kGroups: return "groups";
    case GradInputKernel::kWindow: return "window";
  }
  return "";
}

const char* name_of(GradWeightKernel kernel) {
  switch (kernel) {
    case GradWeightKernel::kNone: return "none";
    case GradWeightKernel::kRuns: return "runs";
    case GradWeightKernel::kWindow: return "window";
  }
  return "";
}

py::dict plan_backward_as_dict(const py::dict& problem, const py::dict& device, const std::array<bool, 3>& wanted) {
  BackwardProblem backward{};
  backward.forward = parse_problem(problem);
  backward.index_type = index_type(backward.forward.k);
  backward.grad_input_channels_last = backward.forward.input_strides[1] == 1;
  backward.wants_input = wanted[0], backward.wants_weight = wanted[1], backward.wants_bias = wanted[2];
  const BackwardPlan plan = plan_backward(backward, parse_device(device));
  py::dict result;
  result["accepted"] = plan.accepted;
  result["reason"] = plan.reason;
  if (!plan.accepted) return result;
  result["grad_input"] = name_of(plan.grad_input);
  result["lanes"] = plan.lanes;
  result["grad_weight"] = name_of(plan.grad_weight);
  result["ranges"] = plan.ranges;
  result["pairs"] = plan.pairs;
  result["slices"] = plan.slices;
  result["slice_pixels"] = plan.slice_pixels;
  result["slice_images"] = plan.slice_images;
  result["sort_passes"] = plan.sort_passes;
  result["vectors"] = plan.vectors;
  result["team"] = plan.team;
  result["team_chunks"] = plan.team_chunks;
  result["segment_pixels"] = plan.segment_pixels;
  result["workspace_bytes"] = plan.workspace_bytes;
  return result;
}

py::tuple plan_slabs_as_tuple(std::int64_t n, std::int64_t k, std::int64_t oh, std::int64_t ow,
                              std::int64_t element_size) {
  const SlabPlan plan = plan_slabs(n, k, oh, ow, element_size);
  return py::make_tuple(plan.images, plan.rows);
}

py::dict build_info() {
  py::dict info;
  info["version"] = CONVMIN_VERSION;
  info["torch_version"] = CONVMIN_TORCH_VERSION;
#ifdef CONVMIN_CUDA_VERSION
  info["cuda_version"] = CONVMIN_CUDA_VERSION;
  const std::string archs = CONVMIN_CUDA_ARCHS;
#else
  info["cuda_version"] = py::none();
  const std::string archs;
#endif
  std::vector<std::string> list;
  for (std::size_t begin = 0; begin < archs.size();) {
    const std::size_t end = std::min(archs.find(';', begin), archs.size());
    list.push_back(archs.substr(begin, end - begin));
    begin = end + 1;
  }
  info["cuda_archs"] = list;
  std::vector<std::string> kernels;
#ifdef CONVMIN_CUDA_VERSION
  for (int i = 0; i < kKernelCount; ++i) kernels.emplace_back(kernel_name(static_cast<KernelId>(i)));
#endif
  info["kernels"] = kernels;
  return info;
}

}  // namespace
}  // namespace convmin

PYBIND11_MODULE(_C, m) {
  m.doc() = "What was built, and which kernel takes which problem.";
  m.def("build_info", &convmin::build_info, "Versions, CUDA architectures and kernels of this build.");
  m.def("query_device", &convmin::query_device_as_dict, py::arg("ordinal"), "What a plan needs to know of a GPU.");
  m.def("plan", &convmin::plan_as_dict, py::arg("problem"), py::arg("device"), py::arg("kernel") = "",
        "The CUDA plan for a problem on a device, neither of which needs to exist.");
  m.def("plan_backward", &convmin::plan_backward_as_dict, py::arg("problem"), py::arg("device"), py::arg("wanted"),
        "The CUDA plan for gradients; `wanted`: of the input, the weight and the bias.");
  m.def("plan_slabs", &convmin::plan_slabs_as_tuple, py::arg("n"), py::arg("k"), py::arg("oh"), py::arg("ow"),
        py::arg("element_size"), "The CPU plan: (images, rows) of a slab.");
}
