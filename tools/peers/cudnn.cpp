#include "tools/peers/cudnn.h"

#include <algorithm>

#include "kernels/error.h"

namespace tessera {

namespace {

const PeerLibraryName kCudnn{.title = "cuDNN",
                             .files = {"libcudnn.so.9"},
                             .package = "nvidia-cudnn-cu13",
                             .needs = {"libnvrtc.so.13", "libnvrtc.so.12"}};

}  // namespace

Cudnn::Cudnn(const std::string& folders) : library_(kCudnn, folders) {
#define TESSERA_FIND(function) library_.find(function, #function);
  TESSERA_CUDNN(TESSERA_FIND)
#undef TESSERA_FIND
}

Cudnn::~Cudnn() {
  if (description_ != nullptr) cudnnBackendDestroyDescriptor(description_);
  if (handle_ != nullptr) cudnnDestroy(handle_);
}

void Cudnn::use_device(CudaStream stream) {
  check(cudnnCreate(&handle_), "opening the GPU");
  check(cudnnSetStream(handle_, stream), "stream");
}

void Cudnn::use_description(const std::string& json) {
  check(cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &description_),
        "description of a GPU");
  check(cudnnBackendSetAttribute(description_, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                 CUDNN_TYPE_CHAR, static_cast<std::int64_t>(json.size()),
                                 json.data()),
        "description of a GPU");
  check(cudnnBackendFinalize(description_), "description of a GPU");
}

void Cudnn::check(cudnnStatus_t status, const char* what) const {
  if (status == CUDNN_STATUS_SUCCESS) return;
  std::array<char, 512> words{};
  cudnnGetLastErrorString(words.data(), words.size() - 1);
  std::string more = words.data();
  while (!more.empty() && (more.back() == '\n' || more.back() == ' ')) more.pop_back();
  fail("cuDNN: {}: {}{}{}", what, cudnnGetErrorString(status), more.empty() ? "" : ": ", more);
}

std::string Cudnn::name() const {
  const std::size_t version = cudnnGetVersion();
  return fmt::format("cuDNN {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

cudnnDataType_t cudnn_type(DType type) {
  switch (type) {
    case DType::kF32:
      return CUDNN_DATA_FLOAT;
    case DType::kBF16:
      return CUDNN_DATA_BFLOAT16;
    case DType::kF16:
      return CUDNN_DATA_HALF;
    default:
      fail("no layer beside cuDNN is of {}", name_of(type));
  }
}

CudnnDescriptor::CudnnDescriptor(const Cudnn& cudnn, cudnnBackendDescriptorType_t type)
    : cudnn_(&cudnn) {
  cudnnBackendDescriptor_t made = nullptr;
  cudnn.check(cudnn.cudnnBackendCreateDescriptor(type, &made), "descriptor");
  descriptor_ = std::shared_ptr<void>(
      made, [destroy = cudnn.cudnnBackendDestroyDescriptor](void* p) { destroy(p); });
}

CudnnDescriptor& CudnnDescriptor::set(cudnnBackendAttributeName_t name,
                                      cudnnBackendAttributeType_t type, std::int64_t count,
                                      const void* values) {
  cudnn_->check(cudnn_->cudnnBackendSetAttribute(get(), name, type, count, values), "attribute");
  return *this;
}

CudnnDescriptor& CudnnDescriptor::finish(const char* what) {
  cudnn_->check(cudnn_->cudnnBackendFinalize(get()), what);
  return *this;
}

std::int64_t CudnnDescriptor::read(cudnnBackendAttributeName_t name,
                                   cudnnBackendAttributeType_t type, std::int64_t most,
                                   void* values) const {
  std::int64_t count = 0;
  cudnn_->check(cudnn_->cudnnBackendGetAttribute(get(), name, type, most, &count, values),
                "reading of an attribute");
  return most > 0 ? std::min(count, most) : count;
}

std::string CudnnEngine::objection(Precision precision) const {
  const auto has = [&](cudnnBackendNumericalNote_t note) {
    return std::ranges::find(notes, note) != notes.end();
  };
  if (has(CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS)) return "it rounds its inputs";
  if (has(CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION)) return "its sums are not f32";
  if (precision == Precision::kFp32 && has(CUDNN_NUMERICAL_NOTE_TENSOR_CORE))
    return "it multiplies in tf32";
  return "";
}

CudnnRun::CudnnRun(const Cudnn& cudnn, CudnnPlan plan, std::span<const std::int64_t> ids,
                   std::span<void* const> pointers, void* workspace)
    : cudnn_(cudnn),
      plan_(std::move(plan)),
      operands_(cudnn, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR) {
  operands_.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, ids)
      .set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, pointers)
      .set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace)
      .finish("operands");
}

void CudnnRun::enqueue() const {
  cudnn_.check(cudnn_.cudnnBackendExecute(cudnn_.handle(), plan_.plan.get(), operands_.get()),
               "run");
}

CudnnGraph::Id CudnnGraph::tensor(DType type, std::array<std::int64_t, 4> nhwc, bool stored) {
  constexpr std::int64_t kAlignment = 16;
  const auto [n, h, w, c] = nhwc;
  const std::array dims{n, c, h, w}, strides{h * w * c, std::int64_t{1}, w * c, c};
  const Id id = static_cast<Id>(tensors_.size());
  CudnnDescriptor made(cudnn_, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  made.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, cudnn_type(type))
      .set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, std::span<const std::int64_t>(dims))
      .set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, std::span<const std::int64_t>(strides))
      .set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, id)
      .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, kAlignment)
      .set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, !stored)
      .finish("tensor");
  tensors_.push_back(std::move(made));
  if (stored) stored_.push_back(id);
  return id;
}

void CudnnGraph::convolve(const Window& window, Id x, Id weight, Id y) {
  std::array<std::int64_t, 2> stride{}, dilation{}, before{}, behind{};
  for (const std::size_t axis : {0u, 1u}) {
    stride[axis] = window.stride[axis], dilation[axis] = window.dilation[axis];
    before[axis] = window.before(axis), behind[axis] = window.behind(axis);
    require(before[axis] >= 0 && behind[axis] >= 0, "cuDNN takes no pads below 0");
  }
  using Pair = std::span<const std::int64_t>;
  CudnnDescriptor what(cudnn_, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  what.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, std::int64_t{2})
      .set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT)
      .set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, CUDNN_CROSS_CORRELATION)
      .set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, Pair(before))
      .set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, Pair(behind))
      .set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, Pair(dilation))
      .set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, Pair(stride))
      .finish("convolution");
  CudnnDescriptor operation(cudnn_, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
  operation.link(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, what)
      .link(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, of(x))
      .link(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, of(weight))
      .link(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, of(y))
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1.0f)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 0.0f)
      .finish("convolution of these tensors");
  parts_.push_back(std::move(what));
  operations_.push_back(std::move(operation));
}

void CudnnGraph::pointwise(cudnnPointwiseMode_t mode, Id x, std::optional<Id> b, Id y,
                           double slope) {
  CudnnDescriptor what(cudnn_, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  what.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode)
      .set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  if (slope != 0) what.set(CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE, CUDNN_TYPE_DOUBLE, slope);
  what.finish("pointwise operation");
  CudnnDescriptor operation(cudnn_, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.link(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, what)
      .link(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, of(x))
      .link(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, of(y));
  if (b) operation.link(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, of(*b));
  operation.finish("pointwise operation of these tensors");
  parts_.push_back(std::move(what));
  operations_.push_back(std::move(operation));
}

void CudnnGraph::finish() {
  std::vector<cudnnBackendDescriptor_t> operations;
  for (const CudnnDescriptor& operation : operations_) operations.push_back(operation.get());
  graph_.emplace(cudnn_, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph_->set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
              std::span<const cudnnBackendDescriptor_t>(operations));
  if (cudnn_.handle() != nullptr)
    graph_->set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, cudnn_.handle());
  graph_->finish("graph of operations");
}

std::vector<CudnnEngine> CudnnGraph::engines() const {
  std::vector<CudnnEngine> engines;
  // The fallback names engines for what the first, which has measured ones, does not know.
  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    CudnnDescriptor heuristics(cudnn_, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    heuristics.link(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, *graph_)
        .set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
    if (cudnn_.description() != nullptr)
      heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                     cudnn_.description());
    if (cudnn_.cudnnBackendFinalize(heuristics.get()) != CUDNN_STATUS_SUCCESS) continue;
    const std::int64_t count =
        heuristics.read(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, nullptr);
    std::vector<CudnnDescriptor> configs;
    std::vector<cudnnBackendDescriptor_t> raw;
    for (std::int64_t i = 0; i < count; ++i)
      raw.push_back(configs.emplace_back(cudnn_, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR).get());
    const std::int64_t given = heuristics.read(CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                               CUDNN_TYPE_BACKEND_DESCRIPTOR, count, raw.data());
    for (std::int64_t i = 0; i < given; ++i) {
      const CudnnDescriptor& config = configs[static_cast<std::size_t>(i)];
      const CudnnDescriptor engine(cudnn_, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
      cudnnBackendDescriptor_t to = engine.get();
      config.read(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &to);
      std::int64_t index = 0;
      engine.read(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &index);
      std::vector<cudnnBackendNumericalNote_t> notes(CUDNN_NUMERICAL_NOTE_TYPE_COUNT);
      notes.resize(static_cast<std::size_t>(
          engine.read(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                      CUDNN_NUMERICAL_NOTE_TYPE_COUNT, notes.data())));
      engines.push_back({config, index, std::move(notes)});
    }
  }
  return engines;
}

CudnnPlan CudnnGraph::plan(const CudnnEngine& engine) const {
  CudnnPlan plan{CudnnDescriptor(cudnn_, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)};
  plan.plan.link(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, engine.config);
  if (cudnn_.handle() != nullptr)
    plan.plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, cudnn_.handle());
  if (cudnn_.description() != nullptr)
    plan.plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                  cudnn_.description());
  plan.plan.finish("plan");
  std::int64_t bytes = 0;
  plan.plan.read(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &bytes);
  require(bytes >= 0, "cuDNN: a plan asks for {} bytes of workspace", bytes);
  plan.workspace = static_cast<std::size_t>(bytes);
  return plan;
}

}  // namespace tessera
