// Backward of crop-and-concat on the GPU: a copy, so equal to the reference to the byte.
#include "tests/support/cuda_backward_check.h"

namespace tessera::test {
namespace {

using CudaCropConcatBackward = CudaTest;
using Align = CropConcat::Align;

constexpr CropConcat kAll[] = {{Align::kCropSkip, true},
                               {Align::kCropSkip, false},
                               {Align::kPadUp, true},
                               {Align::kPadUp, false}};

TEST_F(CudaCropConcatBackward, MatchesTheReferenceExactly) {
  for (const CropConcat& op : kAll) {
    for (const auto& [dy, dx] : {std::pair{0, 0}, {1, 0}, {2, 3}}) {
      // Channels that copy as units of 2 (or 4), 4 and 16 bytes, and one of the two that does not.
      for (const auto& [cs, cu] : {std::pair{1, 1}, {2, 6}, {16, 24}, {16, 17}}) {
        SCOPED_TRACE(fmt::format("crop {} skip_first {} difference {} {} channels {} {}",
                                 op.align == Align::kCropSkip, op.skip_first, dy, dx, cs, cu));
        const TrainCase<CropConcat> c{
            op, {random({2, 3 + dy, 4 + dx, cs}, 1), random({2, 3, 4, cu}, 2)}, {}};
        for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
          check_cuda_backward(c, {}, {}, {dtype, dtype});
      }
    }
  }
}

TEST_F(CudaCropConcatBackward, TakesRowsLongerThanABlock) {
  for (const CropConcat& op : kAll)
    check_cuda_backward(
        TrainCase<CropConcat>{op, {random({1, 2, 261, 1}, 3), random({1, 1, 258, 3}, 4)}, {}}, {});
}

// Each source's gradient without the other's.
TEST_F(CudaCropConcatBackward, LeavesOutWhatIsNotWanted) {
  const CropConcat op = kAll[0];
  CudaBackwardMemory memory;
  memory.input_types = {{DType::kF32, {1, 2, 2, 1}}, {DType::kF32, {1, 1, 1, 1}}};
  memory.output_types = infer(op, memory.input_types);
  memory.inputs = {Tensor(), Tensor()};
  memory.outputs = {Tensor()};
  memory.output_gradients = {Tensor::of({1, 1, 1, 2}, {3, 4})};
  const auto make = [&](const CudaSetup& setup) { return cuda_backward(op, setup); };
  memory.input_gradients = {Tensor(memory.input_types[0]), Tensor()};
  run_cuda_backward(make, memory, {});
  EXPECT_EQ(memory.input_gradients[0].values(), (std::vector<float>{3, 0, 0, 0}));
  memory.input_gradients = {Tensor(), Tensor(memory.input_types[1])};
  run_cuda_backward(make, memory, {});
  EXPECT_EQ(memory.input_gradients[1].values(), (std::vector<float>{4}));
}

}  // namespace
}  // namespace tessera::test
