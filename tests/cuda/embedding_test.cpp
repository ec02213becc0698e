// Embedding on the GPU: a copy, so equal to the reference to the byte.
#include "kernels/ops/embedding/embedding.h"

#include <cmath>

#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaEmbedding = CudaTest;

std::vector<std::int32_t> some_ids(std::int64_t count, int words) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i) ids.push_back(static_cast<std::int32_t>(i * 7 % words));
  return ids;
}

TEST_F(CudaEmbedding, CopiesRowsOfAnyTypeShapeAndWidth) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const int features : {1, 3, 4, 7, 100}) {
      for (const Shape& shape : {Shape{1}, Shape{65}, Shape{2, 3, 4, 5}}) {
        SCOPED_TRACE(fmt::format("{} {}, {}", name_of(dtype), features, shape.to_string()));
        const Embedding op{.words = 33, .features = features};
        const Tensor ids = Tensor::of_ids(shape, some_ids(shape.elements(), op.words));
        check_cuda(op, {ids}, {random({op.words, features}, 1).rounded_to(dtype)}, {0, 0});
      }
    }
  }
}

TEST_F(CudaEmbedding, NanOfTheTableArrives) {
  const Tensor table = Tensor::of({2, 1}, {NAN, 1.0f});
  const auto y =
      run_cuda(Embedding{.words = 2, .features = 1}, {Tensor::of_ids({2}, {0, 1})}, {table})[0]
          .values();
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_EQ(y[1], 1.0f);
}

// The host refuses such ids; the kernel still reads nothing outside the table.
TEST_F(CudaEmbedding, AnIdOutsideTheTableReadsItsNearestRow) {
  const Embedding op{.words = 3, .features = 2};
  const Tensor ids = Tensor::of_ids({3}, {-1, 3, 1 << 30});
  const auto y = run_cuda(op, {ids}, {Tensor::of({3, 2}, {1, 2, 3, 4, 5, 6})})[0].values();
  EXPECT_EQ(y, (std::vector<float>{1, 2, 5, 6, 5, 6}));
}

TEST_F(CudaEmbedding, RowOfABatchIsThatRowAlone) {
  check_cuda_batch(Embedding{.words = 9, .features = 5}, {Tensor::of_ids({3, 4}, some_ids(12, 9))},
                   {random({9, 5}, 1)});
}

}  // namespace
}  // namespace tessera::test
