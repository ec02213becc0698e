// cuDNN 9, opened at run time, and its graph API as far as a convolution with what is fused behind
// it needs it: tensors, operations, the engines that cuDNN's heuristics name, and plans of them.
//
// An operation graph can also be built, and its engines be found, for a GPU that is not there
// (cuDNN 9.8 and newer): that is how the descriptors are tested on a machine without one.
#pragma once

#include <cudnn.h>

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/stream.h"
#include "kernels/precision.h"
#include "kernels/window.h"
#include "tools/peers/library.h"

namespace tessera {

// clang-format off
#define TESSERA_CUDNN(X)                                                                   \
  X(cudnnGetVersion) X(cudnnGetErrorString) X(cudnnGetLastErrorString) X(cudnnCreate)      \
  X(cudnnDestroy) X(cudnnSetStream) X(cudnnBackendCreateDescriptor)                        \
  X(cudnnBackendDestroyDescriptor) X(cudnnBackendSetAttribute) X(cudnnBackendGetAttribute) \
  X(cudnnBackendFinalize) X(cudnnBackendExecute) X(cudnnCreateTensorDescriptor)            \
  X(cudnnDestroyTensorDescriptor) X(cudnnSetTensorNdDescriptor)                            \
  X(cudnnCreateDropoutDescriptor) X(cudnnDestroyDropoutDescriptor)                         \
  X(cudnnSetDropoutDescriptor) X(cudnnCreateRNNDescriptor) X(cudnnDestroyRNNDescriptor)    \
  X(cudnnSetRNNDescriptor_v8) X(cudnnCreateRNNDataDescriptor)                              \
  X(cudnnDestroyRNNDataDescriptor) X(cudnnSetRNNDataDescriptor)                            \
  X(cudnnGetRNNTempSpaceSizes) X(cudnnGetRNNWeightSpaceSize) X(cudnnGetRNNWeightParams)    \
  X(cudnnRNNForward)
// clang-format on

// Its functions, and what they are called for.
class Cudnn {
 public:
  // Throws Error, with the package's name, where cuDNN is missing or lacks a function.
  explicit Cudnn(const std::string& folders);
  ~Cudnn();
  Cudnn(const Cudnn&) = delete;

  // A handle for the GPU that is current. Throws Error where there is none.
  void use_device(CudaStream stream);
  // In its place: plans for a GPU of this description, which is cuDNN's own (JSON) and need not be
  // there. Such plans are not run.
  void use_description(const std::string& json);

  // Throws Error, in cuDNN's words, unless `status` is success.
  void check(cudnnStatus_t status, const char* what) const;

  std::string name() const;  // "cuDNN 9.19.0"
  const std::string& path() const { return library_.path(); }
  cudnnHandle_t handle() const { return handle_; }
  cudnnBackendDescriptor_t description() const { return description_; }

#define TESSERA_DECLARE(function) decltype(::function)* function = nullptr;
  TESSERA_CUDNN(TESSERA_DECLARE)
#undef TESSERA_DECLARE

 private:
  PeerLibrary library_;
  cudnnHandle_t handle_ = nullptr;
  cudnnBackendDescriptor_t description_ = nullptr;
};

cudnnDataType_t cudnn_type(DType type);

// One of the graph API's descriptors.
class CudnnDescriptor {
 public:
  CudnnDescriptor(const Cudnn& cudnn, cudnnBackendDescriptorType_t type);

  cudnnBackendDescriptor_t get() const { return descriptor_.get(); }
  template <class T>
  CudnnDescriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                       std::span<const T> values) {
    return set(name, type, static_cast<std::int64_t>(values.size()), values.data());
  }
  template <class T>
  CudnnDescriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                       const T& value) {
    return set(name, type, 1, &value);
  }
  CudnnDescriptor& link(cudnnBackendAttributeName_t name, const CudnnDescriptor& other) {
    return set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, other.get());
  }
  // Throws Error where cuDNN refuses it.
  CudnnDescriptor& finish(const char* what);
  // How many values were written to `values`, which has room for `most`; without room, how many
  // there are.
  std::int64_t read(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                    std::int64_t most, void* values) const;

 private:
  CudnnDescriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                       std::int64_t count, const void* values);

  const Cudnn* cudnn_;
  std::shared_ptr<void> descriptor_;
};

// A way to compute a graph, as the heuristics name it.
struct CudnnEngine {
  CudnnDescriptor config;
  std::int64_t index;
  std::vector<cudnnBackendNumericalNote_t> notes;

  // Why it is no fair peer of `precision`; empty where it is.
  std::string objection(Precision precision) const;
};

// An engine made ready.
struct CudnnPlan {
  CudnnDescriptor plan;
  std::size_t workspace = 0;
};

// A plan with its operands: `pointers` go with the ids of the graph's tensors that are stored.
class CudnnRun {
 public:
  CudnnRun(const Cudnn& cudnn, CudnnPlan plan, std::span<const std::int64_t> ids,
           std::span<void* const> pointers, void* workspace);
  void enqueue() const;

 private:
  const Cudnn& cudnn_;
  CudnnPlan plan_;
  CudnnDescriptor operands_;
};

class CudnnGraph {
 public:
  using Id = std::int64_t;

  explicit CudnnGraph(const Cudnn& cudnn) : cudnn_(cudnn) {}

  // A dense tensor (n, h, w, c), of filters (c_out, h, w, c_in). One that is not `stored` never
  // reaches memory, and is f32.
  Id tensor(DType type, std::array<std::int64_t, 4> nhwc, bool stored = true);
  // Sums in f32. The window's pads must not be below 0.
  void convolve(const Window& window, Id x, Id weight, Id y);
  // y = mode(x), or mode(x, b); `slope` is of a leaky ReLU below 0.
  void pointwise(cudnnPointwiseMode_t mode, Id x, std::optional<Id> b, Id y, double slope = 0);

  // Of all operations so far. Throws Error where cuDNN has no such graph.
  void finish();
  // The engines that the heuristics name for the finished graph, best first.
  std::vector<CudnnEngine> engines() const;
  // Throws Error where the engine does not take the graph after all.
  CudnnPlan plan(const CudnnEngine& engine) const;

  const std::vector<Id>& stored() const { return stored_; }

 private:
  const CudnnDescriptor& of(Id id) const { return tensors_[static_cast<std::size_t>(id)]; }

  const Cudnn& cudnn_;
  std::vector<CudnnDescriptor> tensors_;  // by id
  std::vector<CudnnDescriptor> parts_;    // of operations
  std::vector<CudnnDescriptor> operations_;
  std::vector<Id> stored_;
  std::optional<CudnnDescriptor> graph_;
};

}  // namespace tessera
