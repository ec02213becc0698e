#include "engine/device/cuda/updates.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/cuda/check.h"
#include "kernels/cuda/step.h"
#include "kernels/train/optimiser/cuda.h"

namespace tessera {

namespace {

class CudaUpdates : public Updates {
 public:
  CudaUpdates(CudaStream stream, CudaUploads& uploads, std::function<void()> use)
      : stream_(stream), uploads_(uploads), use_(std::move(use)) {}

  std::vector<double> squares(std::span<const OptimiserTensor> tensors) override {
    place(tensors);
    std::vector<double> sums(tensors.size());
    squares_cuda(tensors_on_device(), pieces_on_device(), piece_count_,
                 static_cast<int>(tensors.size()), partial_on_device(), sums_on_device(), stream_);
    cuda_check(cudaMemcpyAsync(sums.data(), sums_on_device(), sums.size() * sizeof(double),
                               cudaMemcpyDeviceToHost, stream_),
               "copy of the gradients' norms");
    cuda_check(cudaStreamSynchronize(stream_), "norms of the gradients");
    return sums;
  }
  void sgd(std::span<const OptimiserTensor> tensors, std::span<const SgdUpdate> updates) override {
    place(tensors);
    sgd_cuda(tensors_on_device(), pieces_on_device(), piece_count_, upload(updates), stream_);
  }
  void adam(std::span<const OptimiserTensor> tensors,
            std::span<const AdamUpdate> updates) override {
    place(tensors);
    adam_cuda(tensors_on_device(), pieces_on_device(), piece_count_, upload(updates), stream_);
  }

 private:
  const OptimiserTensor* tensors_on_device() const {
    return reinterpret_cast<const OptimiserTensor*>(table_.get());
  }
  const OptimiserPiece* pieces_on_device() const {
    return reinterpret_cast<const OptimiserPiece*>(pieces_.get());
  }
  double* partial_on_device() const { return reinterpret_cast<double*>(partial_.get()); }
  double* sums_on_device() const { return reinterpret_cast<double*>(sums_.get()); }

  // The tables of these tensors, which are the same in each step of a training.
  void place(std::span<const OptimiserTensor> tensors) {
    use_();
    const std::size_t bytes = tensors.size_bytes();
    if (tensors.size() == known_.size() &&
        (bytes == 0 || std::memcmp(tensors.data(), known_.data(), bytes) == 0))
      return;
    known_.assign(tensors.begin(), tensors.end());
    std::vector<OptimiserPiece> pieces;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      for (std::int64_t begin = 0; begin < tensors[i].count; begin += kOptimiserPiece) {
        pieces.push_back(
            {static_cast<int>(i), begin,
             static_cast<int>(std::min<std::int64_t>(kOptimiserPiece, tensors[i].count - begin))});
      }
    }
    piece_count_ = static_cast<std::int64_t>(pieces.size());
    cuda_check(cudaStreamSynchronize(stream_), "optimiser");  // the old tables may be in use
    table_ = DeviceBuffer(bytes);
    pieces_ = DeviceBuffer(pieces.size() * sizeof(OptimiserPiece));
    partial_ = DeviceBuffer(pieces.size() * sizeof(double));
    sums_ = DeviceBuffer(tensors.size() * sizeof(double));
    updates_ = DeviceBuffer(tensors.size() * std::max(sizeof(SgdUpdate), sizeof(AdamUpdate)));
    uploads_.copy(table_.get(), tensors.data(), bytes);
    uploads_.copy(pieces_.get(), pieces.data(), pieces_.size());
  }

  template <class Update>
  const Update* upload(std::span<const Update> updates) {
    uploads_.copy(updates_.get(), updates.data(), updates.size_bytes());
    return reinterpret_cast<const Update*>(updates_.get());
  }

  CudaStream stream_;
  CudaUploads& uploads_;
  std::function<void()> use_;
  std::vector<OptimiserTensor> known_;
  std::int64_t piece_count_ = 0;
  DeviceBuffer table_, pieces_, partial_, sums_, updates_;
};

}  // namespace

std::unique_ptr<Updates> make_cuda_updates(CudaStream stream, CudaUploads& uploads,
                                           std::function<void()> use) {
  return std::make_unique<CudaUpdates>(stream, uploads, std::move(use));
}

}  // namespace tessera
