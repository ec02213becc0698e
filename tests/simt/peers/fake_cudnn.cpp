// cuDNN's graph API and RNN as their documentation has them, in plain loops on the host's memory,
// which is the emulator's device. It refuses what cuDNN refuses, and its engines are of each kind
// that a caller meets: one that rounds its inputs, one without a plan, one that fails when it runs,
// and one that works.
#include <cudnn.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "fake_values.h"

using fake::load;
using fake::store;

struct cudnnContext {};

namespace {

constexpr std::int64_t kRounds = 7, kHasNoPlan = 3, kFails = 5, kWorks = 1;
constexpr std::int64_t kEngines[] = {kRounds, kHasNoPlan, kFails, kWorks};

std::string last_error;

cudnnStatus_t refuse(const std::string& why, cudnnStatus_t status = CUDNN_STATUS_BAD_PARAM) {
  last_error = why;
  return status;
}

struct Descriptor {
  cudnnBackendDescriptorType_t type;
  std::map<int, std::vector<std::byte>> values;
  bool finished = false;
  std::int64_t engine = 0;      // of an engine's configuration, and of the engine
  Descriptor* graph = nullptr;  // of a configuration

  template <class T>
  std::vector<T> all(int name) const {
    const auto found = values.find(name);
    if (found == values.end()) return {};
    std::vector<T> list(found->second.size() / sizeof(T));
    std::memcpy(list.data(), found->second.data(), list.size() * sizeof(T));
    return list;
  }
  template <class T>
  T one(int name, T otherwise = {}) const {
    const std::vector<T> list = all<T>(name);
    return list.empty() ? otherwise : list[0];
  }
  Descriptor& part(int name) const { return *one<Descriptor*>(name); }
};

std::size_t bytes_of(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR:
      return 1;
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
      return 8;
    default:
      return 4;
  }
}

struct Tensor {
  explicit Tensor(const Descriptor& d)
      : id(d.one<std::int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID)),
        type(d.one<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE)),
        dims(d.all<std::int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS)),
        strides(d.all<std::int64_t>(CUDNN_ATTR_TENSOR_STRIDES)),
        is_virtual(d.one<std::uint8_t>(CUDNN_ATTR_TENSOR_IS_VIRTUAL) != 0) {}

  // Extents of 1 are broadcast.
  std::int64_t at(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) const {
    const std::int64_t where[] = {n, c, h, w};
    std::int64_t offset = 0;
    for (std::size_t i = 0; i < 4; ++i) offset += dims[i] == 1 ? 0 : where[i] * strides[i];
    return offset;
  }
  std::int64_t elements() const { return dims[0] * dims[1] * dims[2] * dims[3]; }

  std::int64_t id;
  cudnnDataType_t type;
  std::vector<std::int64_t> dims, strides;
  bool is_virtual;
};

template <class Each>
void for_each(const Tensor& t, Each each) {
  for (std::int64_t n = 0; n < t.dims[0]; ++n)
    for (std::int64_t c = 0; c < t.dims[1]; ++c)
      for (std::int64_t h = 0; h < t.dims[2]; ++h)
        for (std::int64_t w = 0; w < t.dims[3]; ++w) each(n, c, h, w);
}

bool is_convolution(const Descriptor& d) {
  return d.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR;
}

std::string objection_to_convolution(const Descriptor& d) {
  const Descriptor& what = d.part(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC);
  const Tensor x(d.part(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X)),
      w(d.part(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W)),
      y(d.part(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y));
  if (x.dims[1] % w.dims[1] != 0) return "channels of x are no multiple of the filter's";
  if (y.dims[0] != x.dims[0] || y.dims[1] != w.dims[0]) return "images or channels of y";
  for (std::size_t i = 0; i < 2; ++i) {
    const auto of = [&](int name) { return what.all<std::int64_t>(name).at(i); };
    const std::int64_t reach = (w.dims[i + 2] - 1) * of(CUDNN_ATTR_CONVOLUTION_DILATIONS) + 1;
    const std::int64_t room = x.dims[i + 2] + of(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS) +
                              of(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS) - reach;
    if (y.dims[i + 2] != room / of(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES) + 1) return "size of y";
  }
  return "";
}

std::string objection_to(const Descriptor& d) {
  for (const auto& [name, value] : d.values) {
    (void)value;
    if (d.type == CUDNN_BACKEND_TENSOR_DESCRIPTOR && name == CUDNN_ATTR_TENSOR_DIMENSIONS) {
      const Tensor t(d);
      if (t.dims.size() != 4 || t.strides.size() != 4) return "a map has four dimensions";
      if (std::ranges::min(t.dims) < 1 || std::ranges::min(t.strides) < 1) return "extent below 1";
    }
  }
  return is_convolution(d) ? objection_to_convolution(d) : "";
}

// No engine mixes types in memory.
bool has_engines(const Descriptor& graph) {
  std::set<cudnnDataType_t> types;
  for (const Descriptor* op : graph.all<Descriptor*>(CUDNN_ATTR_OPERATIONGRAPH_OPS))
    for (const int name :
         {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
          CUDNN_ATTR_OPERATION_POINTWISE_YDESC})
      if (op->values.count(name) > 0)
        if (const Tensor t(op->part(name)); !t.is_virtual) types.insert(t.type);
  return types.size() == 1;
}

// The values of a graph's tensors in one run.
class Run {
 public:
  Run(std::vector<std::int64_t> ids, std::vector<void*> pointers) {
    for (std::size_t i = 0; i < ids.size(); ++i) memory_[ids[i]] = pointers[i];
  }
  std::vector<double>& of(const Tensor& t) {
    std::vector<double>& values = values_[t.id];
    if (values.empty()) {
      values.resize(static_cast<std::size_t>(t.elements()));
      if (!t.is_virtual)
        for (std::size_t i = 0; i < values.size(); ++i)
          values[i] = load(t.type, memory_.at(t.id), i);
    }
    return values;
  }
  void write(const Tensor& t) {
    if (t.is_virtual) return;
    const std::vector<double>& values = of(t);
    for (std::size_t i = 0; i < values.size(); ++i) store(t.type, memory_.at(t.id), i, values[i]);
  }

 private:
  std::map<std::int64_t, void*> memory_;
  std::map<std::int64_t, std::vector<double>> values_;
};

double& element(std::vector<double>& values, std::int64_t i) {
  return values[static_cast<std::size_t>(i)];
}

void convolve(const Descriptor& d, Run& run) {
  const Descriptor& what = d.part(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC);
  const Tensor x(d.part(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X)),
      w(d.part(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W)),
      y(d.part(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y));
  const auto stride = what.all<std::int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES),
             pad = what.all<std::int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS),
             step = what.all<std::int64_t>(CUDNN_ATTR_CONVOLUTION_DILATIONS);
  const std::int64_t groups = x.dims[1] / w.dims[1], outputs = w.dims[0] / groups;
  for_each(y, [&](std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t i) {
    double sum = 0;
    for (std::int64_t k = 0; k < w.dims[1]; ++k)
      for (std::int64_t ky = 0; ky < w.dims[2]; ++ky)
        for (std::int64_t kx = 0; kx < w.dims[3]; ++kx) {
          const std::int64_t row = h * stride[0] - pad[0] + ky * step[0],
                             column = i * stride[1] - pad[1] + kx * step[1];
          if (row < 0 || row >= x.dims[2] || column < 0 || column >= x.dims[3]) continue;
          sum += element(run.of(x), x.at(n, c / outputs * w.dims[1] + k, row, column)) *
                 element(run.of(w), w.at(c, k, ky, kx));
        }
    element(run.of(y), y.at(n, c, h, i)) = sum;
  });
  run.write(y);
}

void pointwise(const Descriptor& d, Run& run) {
  const Descriptor& what = d.part(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
  const auto mode = what.one<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
  const auto slope = what.one<double>(CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE);
  const Tensor x(d.part(CUDNN_ATTR_OPERATION_POINTWISE_XDESC)),
      y(d.part(CUDNN_ATTR_OPERATION_POINTWISE_YDESC));
  const bool two = mode != CUDNN_POINTWISE_RELU_FWD;
  const Tensor b(two ? d.part(CUDNN_ATTR_OPERATION_POINTWISE_BDESC)
                     : d.part(CUDNN_ATTR_OPERATION_POINTWISE_XDESC));
  for_each(y, [&](std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) {
    const double left = element(run.of(x), x.at(n, c, h, w)),
                 right = element(run.of(b), b.at(n, c, h, w));
    element(run.of(y), y.at(n, c, h, w)) = mode == CUDNN_POINTWISE_ADD   ? left + right
                                           : mode == CUDNN_POINTWISE_MUL ? left * right
                                           : left > 0                    ? left
                                                                         : slope * left;
  });
  run.write(y);
}

Descriptor& of(cudnnBackendDescriptor_t descriptor) {
  return *static_cast<Descriptor*>(descriptor);
}

}  // namespace

extern "C" {

size_t cudnnGetVersion() {
  return 91900;
}
const char* cudnnGetErrorString(cudnnStatus_t status) {
  return status == CUDNN_STATUS_NOT_SUPPORTED ? "CUDNN_STATUS_NOT_SUPPORTED" : "CUDNN_STATUS_OTHER";
}
void cudnnGetLastErrorString(char* to, size_t most) {
  std::strncpy(to, last_error.c_str(), most);
}
cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  *handle = new cudnnContext;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  delete handle;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t, cudaStream_t) {
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t* made) {
  *made = new Descriptor{type, {}, false, 0, nullptr};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  delete &of(descriptor);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count,
                                       const void* values) {
  Descriptor& d = of(descriptor);
  if (d.finished) return refuse("the descriptor is finalized");
  const auto* bytes = static_cast<const std::byte*>(values);
  d.values[name].assign(bytes, bytes + static_cast<std::size_t>(count) * bytes_of(type));
  if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
    for (const Descriptor* part : d.all<Descriptor*>(name))
      if (!part->finished) return refuse("a descriptor is not finalized");
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  Descriptor& d = of(descriptor);
  if (const std::string why = objection_to(d); !why.empty()) return refuse(why);
  if (d.type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR &&
      d.one<cudnnBackendHeurMode_t>(CUDNN_ATTR_ENGINEHEUR_MODE) != CUDNN_HEUR_MODE_A)
    return refuse("no such heuristics", CUDNN_STATUS_NOT_SUPPORTED);
  if (d.type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR &&
      d.part(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG).engine == kHasNoPlan)
    return refuse("the engine has no kernel for this", CUDNN_STATUS_NOT_SUPPORTED);
  d.finished = true;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t, int64_t most, int64_t* count,
                                       void* values) {
  Descriptor& d = of(descriptor);
  std::int64_t there = 1;
  switch (static_cast<int>(name)) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS: {
      Descriptor& graph = d.part(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
      there = has_engines(graph) ? std::ssize(kEngines) : 0;
      for (std::int64_t i = 0; i < std::min(most, there); ++i) {
        Descriptor& config = *static_cast<Descriptor**>(values)[i];
        config.engine = kEngines[i], config.graph = &graph, config.finished = true;
      }
      break;
    }
    case CUDNN_ATTR_ENGINECFG_ENGINE:
      (*static_cast<Descriptor**>(values))->engine = d.engine;
      break;
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX:
      *static_cast<std::int64_t*>(values) = d.engine;
      break;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
      there = d.engine == kRounds ? 1 : 0;
      if (there > 0)
        *static_cast<cudnnBackendNumericalNote_t*>(values) =
            CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
      break;
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
      *static_cast<std::int64_t*>(values) = 128;
      break;
    default:
      return refuse("no such attribute");
  }
  *count = there;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendExecute(cudnnHandle_t, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack) {
  const Descriptor& config = of(plan).part(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
  const Descriptor& operands = of(pack);
  if (config.engine == kFails) return refuse("the launch failed", CUDNN_STATUS_EXECUTION_FAILED);
  // A plan may use all of its workspace.
  std::memset(operands.one<void*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE), 0x5a, 128);
  Run run(operands.all<std::int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS),
          operands.all<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS));
  for (const Descriptor* op : config.graph->all<Descriptor*>(CUDNN_ATTR_OPERATIONGRAPH_OPS))
    is_convolution(*op) ? convolve(*op, run) : pointwise(*op, run);
  return CUDNN_STATUS_SUCCESS;
}

}  // extern "C"
