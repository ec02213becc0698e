#include "kernels/train/loss/cuda.h"

#include <cuda_runtime_api.h>

#include "kernels/check.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/training.h"
#include "kernels/train/loss/loss.h"

namespace tessera {

namespace {

// Cuts the scratch into parts; without memory it finds their extent.
class Parts {
 public:
  explicit Parts(std::byte* memory) : memory_(memory) {}
  template <class T>
  T* take(std::int64_t count) {
    T* part = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + bytes_);
    bytes_ += in_whole_parts(static_cast<std::size_t>(count) * sizeof(T));
    return part;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::byte* memory_;
  std::size_t bytes_ = 0;
};

std::size_t lay_out(LossArgs& args, std::byte* scratch) {
  Parts parts(scratch);
  args.sums = parts.take<float>(args.sum_count * args.units);
  args.counts = parts.take<std::int64_t>(kLossCounts * args.units);
  args.all_sums = parts.take<double>(args.sum_count);
  args.all_counts = parts.take<std::int64_t>(kLossCounts);
  args.cross_entropy_each = parts.take<float>(1);
  args.constant = parts.take<float>(args.classes);
  args.labelled = parts.take<float>(args.classes);
  args.found = parts.take<LossFound>(1);
  return parts.bytes();
}

}  // namespace

LossStep cuda(const Loss& op, const TensorType& logits, const TensorType& labels,
              const CudaSetup& setup) {
  check_types(op, logits, labels);
  constexpr std::int64_t kMostClasses = 1 << 20;
  const std::int64_t classes = logits.shape[-1];
  require(classes <= kMostClasses, "loss: {} classes; the GPU's takes up to {}: use the CPU",
          classes, kMostClasses);
  LossArgs fixed{};
  fixed.elements = logits.shape.elements() / classes;
  fixed.classes = static_cast<int>(classes);
  fixed.labels_are_bytes = labels.dtype == DType::kU8;
  fixed.has_ignored = op.ignored.has_value();
  fixed.ignored = op.ignored.value_or(0);
  fixed.mean_of_weights = op.mean == Loss::Mean::kWeights;
  fixed.cross_entropy = op.cross_entropy;
  fixed.dice = op.dice;
  fixed.smooth = op.smooth;
  fixed.units = (fixed.elements + kLossUnit - 1) / kLossUnit;
  fixed.sum_count = kLossSums + (op.dice > 0 ? 2 * fixed.classes : 0);
  const std::size_t bytes = lay_out(fixed, nullptr);
  const auto run = [fixed, shape = labels.shape, stream = setup.stream](
                       const LossOperands& operands, std::byte* scratch) {
    LossArgs args = fixed;
    lay_out(args, scratch);
    args.logits = operands.logits.as<float>();
    args.labels = operands.labels.pointer;
    args.weights = operands.weights;
    args.class_weights = operands.class_weights;
    args.gradient = operands.gradient;
    args.scale = operands.scale;
    loss_cuda(args, stream);
    LossFound found{};
    cuda_check(cudaMemcpyAsync(&found, args.found, sizeof found, cudaMemcpyDeviceToHost, stream),
               "download of the loss");
    cuda_check(cudaStreamSynchronize(stream), "loss");
    if (found.first_wrong < args.elements)
      refuse_label(found.wrong_label, found.first_wrong, shape, args.classes);
    return LossResult{found.loss, found.counted, found.correct};
  };
  return {bytes, run};
}

}  // namespace tessera
