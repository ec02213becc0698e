// Steps of optimisers on the GPU: the bytes of the CPU's arithmetic.
#include "kernels/train/optimiser/cuda.h"

#include <cmath>

#include "tests/support/cuda_check.h"
#include "tests/support/device_tensor.h"

namespace tessera::test {
namespace {

using CudaOptimiser = CudaTest;

// Around the piece, the 4 floats of a thread and the 256 threads of a block.
constexpr std::int64_t kCounts[] = {1, 3, 4, 1025, kOptimiserPiece, kOptimiserPiece + 5, 0, 7};

// One tensor of the model in host memory.
struct Weights {
  Tensor weight, gradient, first, second;
};

std::vector<Weights> some_weights(unsigned seed) {
  std::vector<Weights> list;
  for (const std::int64_t count : kCounts) {
    const Shape shape{count};
    Weights w{random(shape, seed), random(shape, seed + 1), random(shape, seed + 2),
              random(shape, seed + 3)};
    for (std::int64_t i = 0; i < count; ++i) {
      float& square = w.second.view().as<float>()[i];
      square *= square;
    }
    list.push_back(w);
    seed += 10;
  }
  return list;
}

// Weights, gradients and states on the device, each array `shift` floats behind an aligned address.
class OnDevice {
 public:
  OnDevice(const std::vector<Weights>& list, std::int64_t shift, bool banded) : list_(list) {
    std::vector<OptimiserTensor> tensors;
    std::vector<OptimiserPiece> pieces;
    for (const Weights& w : list) {
      const std::int64_t count = w.weight.type().shape.elements();
      float* at[4];
      for (int i = 0; i < 4; ++i) {
        const Tensor& from = of(w, i);
        arrays_.emplace_back(static_cast<std::size_t>(count + shift) * sizeof(float), banded);
        at[i] = reinterpret_cast<float*>(arrays_.back().get()) + shift;
        if (count > 0)
          cuda_check(
              cudaMemcpy(at[i], from.view().pointer, from.type().bytes(), cudaMemcpyHostToDevice),
              "upload");
      }
      const int tensor = static_cast<int>(tensors.size());
      tensors.push_back({at[0], at[1], at[2], at[3], count});
      for (std::int64_t begin = 0; begin < count; begin += kOptimiserPiece)
        pieces.push_back(
            {tensor, begin,
             static_cast<int>(std::min<std::int64_t>(kOptimiserPiece, count - begin))});
    }
    tensors_ = upload(tensors);
    pieces_ = upload(pieces);
    piece_count_ = static_cast<std::int64_t>(pieces.size());
  }

  template <class T>
  static std::shared_ptr<DeviceTensor> upload(const std::vector<T>& values) {
    auto memory = std::make_shared<DeviceTensor>(values.size() * sizeof(T), false);
    memory->upload(values.data());
    return memory;
  }

  const OptimiserTensor* tensors() const {
    return reinterpret_cast<const OptimiserTensor*>(tensors_->get());
  }
  const OptimiserPiece* pieces() const {
    return reinterpret_cast<const OptimiserPiece*>(pieces_->get());
  }
  std::int64_t piece_count() const { return piece_count_; }

  std::vector<Weights> download(std::int64_t shift) const {
    cuda_check(cudaDeviceSynchronize(), "run");
    std::vector<Weights> list;
    for (std::size_t tensor = 0; tensor < list_.size(); ++tensor) {
      Weights w;
      for (int i = 0; i < 4; ++i) {
        const DeviceTensor& array = arrays_[tensor * 4 + static_cast<std::size_t>(i)];
        EXPECT_TRUE(array.bands_intact()) << "wrote outside array " << i << " of " << tensor;
        Tensor to(of(list_[tensor], i).type());
        if (to.type().bytes() > 0)
          cuda_check(cudaMemcpy(to.view().pointer, array.get() + shift * sizeof(float),
                                to.type().bytes(), cudaMemcpyDeviceToHost),
                     "download");
        (i == 0 ? w.weight : i == 1 ? w.gradient : i == 2 ? w.first : w.second) = to;
      }
      list.push_back(w);
    }
    return list;
  }

 private:
  static const Tensor& of(const Weights& w, int i) {
    return i == 0 ? w.weight : i == 1 ? w.gradient : i == 2 ? w.first : w.second;
  }
  const std::vector<Weights>& list_;
  std::vector<DeviceTensor> arrays_;
  std::shared_ptr<DeviceTensor> tensors_, pieces_;
  std::int64_t piece_count_ = 0;
};

// `launch` makes on the device the bytes that `update` makes of each tensor on the CPU.
template <class Update, class Launch, class OnCpu>
void check(const std::vector<Update>& updates, const Launch& launch, const OnCpu& on_cpu) {
  const std::vector<Weights> before = some_weights(1);
  for (const std::int64_t shift : {0, 1}) {
    for (const bool banded : {false, true}) {
      SCOPED_TRACE(fmt::format("shift {}, banded {}", shift, banded));
      const OnDevice device(before, shift, banded);
      const auto device_updates = OnDevice::upload(updates);
      launch(device.tensors(), device.pieces(), device.piece_count(),
             reinterpret_cast<const Update*>(device_updates->get()), nullptr);
      const std::vector<Weights> after = device.download(shift);
      for (std::size_t i = 0; i < before.size(); ++i) {
        const Weights& b = before[i];
        const Weights expected{b.weight.copy(), b.gradient.copy(), b.first.copy(), b.second.copy()};
        on_cpu(updates[i], expected.weight.view().as<float>(), expected.gradient.view().as<float>(),
               expected.first.view().as<float>(), expected.second.view().as<float>(),
               static_cast<std::size_t>(b.weight.type().shape.elements()));
        EXPECT_TRUE(after[i].weight.same_bytes(expected.weight)) << "weight " << i;
        EXPECT_TRUE(after[i].gradient.same_bytes(expected.gradient)) << "gradient " << i;
        EXPECT_TRUE(after[i].first.same_bytes(expected.first)) << "first " << i;
        EXPECT_TRUE(after[i].second.same_bytes(expected.second)) << "second " << i;
      }
    }
  }
}

TEST_F(CudaOptimiser, SgdGivesTheBytesOfTheCpu) {
  std::vector<SgdUpdate> updates;
  for (std::size_t i = 0; i < std::size(kCounts); ++i)
    updates.push_back({.gradient_scale = 0.37f,
                       .decay = i % 3 == 0 ? 0.0f : 1e-3f,
                       .momentum = i % 2 == 0 ? 0.99f : 0.0f,
                       .nesterov = i % 4 == 0,
                       .rate = 0.013f * static_cast<float>(i + 1)});
  check(updates, sgd_cuda,
        [](const SgdUpdate& update, float* weight, const float* gradient, float* first, float*,
           std::size_t count) { update_sgd(update, weight, gradient, first, count); });
}

TEST_F(CudaOptimiser, AdamGivesTheBytesOfTheCpu) {
  std::vector<AdamUpdate> updates;
  for (std::size_t i = 0; i < std::size(kCounts); ++i)
    updates.push_back({.gradient_scale = 0.37f,
                       .decay = i % 2 == 0 ? 0.0f : 1e-3f,
                       .weight_scale = i % 2 == 0 ? 0.999f : 1.0f,
                       .beta1 = 0.9f,
                       .beta2 = 0.999f,
                       .one_minus_beta1 = static_cast<float>(1 - 0.9),
                       .one_minus_beta2 = static_cast<float>(1 - 0.999),
                       .step_size = 0.01f,
                       .root_correction = 0.3f,
                       .eps = 1e-8f});
  check(updates, adam_cuda, update_adam);
}

// Tensors without a piece, as frozen ones are, are not touched.
TEST_F(CudaOptimiser, NoPieceNoWork) {
  const std::vector<Weights> none{
      {Tensor::of({0}, {}), Tensor::of({0}, {}), Tensor::of({0}, {}), Tensor::of({0}, {})}};
  const OnDevice device(none, 0, false);
  sgd_cuda(device.tensors(), device.pieces(), 0, nullptr, nullptr);
  adam_cuda(device.tensors(), device.pieces(), 0, nullptr, nullptr);
  const DeviceTensor sums(sizeof(double), true);
  squares_cuda(device.tensors(), device.pieces(), 0, 1, nullptr,
               reinterpret_cast<double*>(sums.get()), nullptr);
  cuda_check(cudaDeviceSynchronize(), "run");
  double sum = -1;
  sums.download(&sum);
  EXPECT_EQ(sum, 0);
}

std::vector<double> squares(const std::vector<Weights>& list, std::int64_t shift) {
  std::vector<double> results[2];
  for (const bool banded : {false, true}) {
    const OnDevice device(list, shift, banded);
    const DeviceTensor partial(static_cast<std::size_t>(device.piece_count()) * sizeof(double),
                               banded),
        sums(list.size() * sizeof(double), banded);
    squares_cuda(device.tensors(), device.pieces(), device.piece_count(),
                 static_cast<int>(list.size()), reinterpret_cast<double*>(partial.get()),
                 reinterpret_cast<double*>(sums.get()), nullptr);
    cuda_check(cudaDeviceSynchronize(), "run");
    EXPECT_TRUE(partial.bands_intact());
    EXPECT_TRUE(sums.bands_intact());
    results[banded].resize(list.size());
    sums.download(results[banded].data());
  }
  for (std::size_t i = 0; i < list.size(); ++i)
    EXPECT_TRUE(results[0][i] == results[1][i] || std::isnan(results[0][i])) << i;
  return results[0];
}

// Terms are exact and not negative: a sum in double is off by its number of additions in a row,
// times 2^-53.
TEST_F(CudaOptimiser, SquaresAreTheSumsOfTheCpu) {
  std::vector<Weights> list = some_weights(5);
  list.front().gradient.view().as<float>()[0] = 1e30f;  // its square is no f32
  const std::vector<double> aligned = squares(list, 0), shifted = squares(list, 1);
  for (std::size_t i = 0; i < list.size(); ++i) {
    const auto count = static_cast<std::size_t>(kCounts[i]);
    const double expected = sum_of_squares(list[i].gradient.view().as<float>(), count);
    EXPECT_TRUE(std::abs(aligned[i] - expected) <= static_cast<double>(count) * 0x1p-53 * expected)
        << aligned[i] << ", expected " << expected;
    EXPECT_EQ(aligned[i], shifted[i]) << "depends on the alignment";
  }
}

TEST_F(CudaOptimiser, SquaresOfWhatIsNotFiniteAreNot) {
  std::vector<Weights> list = some_weights(5);
  list[4].gradient.view().as<float>()[4095] = NAN;
  list[5].gradient.view().as<float>()[4097] = -INFINITY;
  const std::vector<double> sums = squares(list, 0);
  for (std::size_t i = 0; i < sums.size(); ++i)
    EXPECT_EQ(std::isfinite(sums[i]), i != 4 && i != 5) << i;
}

}  // namespace
}  // namespace tessera::test
