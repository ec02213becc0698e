// Host side of the CUDA matrix product: weights on the device as GemmLayout has them.
#pragma once

#include <functional>
#include <memory>

#include "kernels/cuda/training.h"
#include "kernels/ops/linear/cuda.h"

namespace tessera {

struct GemmWeights {
  GemmLayout layout{};
  std::shared_ptr<const DeviceBuffer> matrix;  // as `layout` has it
  std::shared_ptr<const DeviceBuffer> bias;    // (units), f32
};

// W (units, features) and its bias, packed once per node and rounding. `name` tells the products of
// one node apart; `fill` writes both in PyTorch's layout and is called only when they are not
// there.
GemmWeights gemm_weights(
    const CudaSetup& setup, const std::string& name, int units, int features, Precision rounding,
    const std::function<void(std::vector<float>& matrix, std::vector<float>& bias)>& fill);

// The order that packs a matrix in a training run, laid out as `layout` says: `from(unit, feature)`
// is the index of an element in the memory that it comes from.
PackOrder gemm_order(const GemmLayout& layout,
                     const std::function<std::int64_t(int unit, int feature)>& from);

// That of W (units, features) as PyTorch lays it out, for x W^T, and of its transpose, whose layout
// has W's features as units, for dy W.
PackOrder gemm_order(const GemmLayout& layout);
PackOrder gemm_transposed_order(const GemmLayout& layout);

// W (units, features) or its transpose as a product reads it, packed in each run of a training.
struct RepackedWeight {
  GemmLayout layout{};
  std::shared_ptr<const DeviceBuffer> order;

  std::size_t bytes() const { return in_whole_parts(layout.elements() * layout.element_bytes()); }
  void pack(const TensorView& weight, std::byte* to, CudaStream stream) const;
};
RepackedWeight repacked_weight(const CudaSetup& setup, int units, int features, bool transposed);

// The product of `rows` rows of x with these weights.
void gemm_cuda(const GemmWeights& weights, const float* x, const RowMap& map, std::int64_t rows,
               float* y, int multiprocessors, CudaStream stream);

}  // namespace tessera
