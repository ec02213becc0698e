// Dropout on the GPU: a copy.
#include "kernels/ops/dropout/dropout.h"

#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaDropout = CudaTest;

TEST_F(CudaDropout, CopiesAnyShapeAndType) {
  for (const Shape& shape : {Shape{1}, Shape{3, 5}, Shape{70001}, Shape{1, 2, 3, 4}}) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      const Tensor x = random(shape, 11).rounded_to(dtype);
      EXPECT_TRUE(run_cuda(Dropout{0.9}, {x}, {})[0].same_bytes(x));
    }
  }
}

}  // namespace
}  // namespace tessera::test
