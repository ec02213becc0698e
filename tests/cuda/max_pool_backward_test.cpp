// Backward of max-pooling on the GPU: a choice of places, so equal to the reference to the byte.
#include <cmath>

#include "tests/support/cuda_backward_check.h"

namespace tessera::test {
namespace {

using CudaMaxPoolBackward = CudaTest;

TEST_F(CudaMaxPoolBackward, MatchesTheReferenceExactly) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    // Channels: one, odd, whole vectors of 16 bytes, and one more.
    for (const std::int64_t c : {1, 3, 4, 8, 9, 40}) {
      for (const auto& [h, w] : {std::pair{2, 2}, {3, 2}, {2, 5}, {5, 7}}) {
        SCOPED_TRACE(fmt::format("{} {}x{}x{}", name_of(dtype), h, w, c));
        check_cuda_backward(TrainCase<MaxPool>{{}, {random({2, h, w, c}, 1)}, {}}, {}, {},
                            {dtype, dtype});
      }
    }
  }
}

// A row of more windows than a block has threads.
TEST_F(CudaMaxPoolBackward, TakesLongRows) {
  check_cuda_backward(TrainCase<MaxPool>{{}, {random({1, 3, 521, 1}, 2)}, {}}, {});
}

TEST_F(CudaMaxPoolBackward, TheFirstOfEqualsWinsAndANaN) {
  const std::vector<float> x{1, 1, 2, 3, 5,   NAN, NAN, 9,  //
                             1, 1, 3, 3, NAN, 7,   8,   7};
  const std::vector<float> expected{10, 0, 0, 20, 0, 30, 40, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  for (const std::int64_t c : {1, 8}) {  // one by one, and by vectors
    std::vector<float> all_x, all_dy, all_expected;
    const auto repeat = [c](const std::vector<float>& values, std::vector<float>& to) {
      for (const float value : values) to.insert(to.end(), static_cast<std::size_t>(c), value);
    };
    repeat(x, all_x);
    repeat({10, 20, 30, 40}, all_dy);
    repeat(expected, all_expected);
    CudaBackwardMemory memory;
    memory.input_types = {{DType::kF32, {1, 2, 8, c}}};
    memory.output_types = {{DType::kF32, {1, 1, 4, c}}};
    memory.inputs = {Tensor::of({1, 2, 8, c}, all_x)};
    memory.outputs = {Tensor()};
    memory.output_gradients = {Tensor::of({1, 1, 4, c}, all_dy)};
    memory.input_gradients = {Tensor(memory.input_types[0])};
    run_cuda_backward([](const CudaSetup& setup) { return cuda_backward(MaxPool{}, setup); },
                      memory, {});
    EXPECT_EQ(memory.input_gradients[0].values(), all_expected);
  }
}

}  // namespace
}  // namespace tessera::test
