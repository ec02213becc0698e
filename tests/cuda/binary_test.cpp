// Two maps, element by element, on the GPU against the reference.
#include "kernels/ops/binary/binary.h"

#include <cmath>

#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaBinary = CudaTest;

constexpr std::size_t kKinds = names_of(Binary::Kind{}).size();

// One rounding; a quotient on a GPU is rounded as on the host.
TEST_F(CudaBinary, AgreesWithTheReferenceAtEveryShapeAndType) {
  using Pair = std::pair<Shape, Shape>;
  for (const auto& [a_shape, b_shape] :
       {Pair{{2, 3, 5, 7}, {2, 3, 5, 7}}, Pair{{1, 9, 5, 33}, {33}},
        Pair{{2, 4, 4, 16}, {2, 1, 1, 16}}, Pair{{2, 3, 4, 8}, {2, 3, 4, 1}}, Pair{{1}, {5, 19}},
        Pair{{2, 3, 4, 5}, {3, 1, 5}}, Pair{{7, 1}, {1, 20}}, Pair{{2, 1, 4, 1, 3}, {5, 1, 6, 1}},
        Pair{{}, {3}}, Pair{{3, 1000}, {1}}}) {
    SCOPED_TRACE(a_shape.to_string() + " and " + b_shape.to_string());
    const Tensor a = random(a_shape, 1), b = random(b_shape, 2);
    for (std::size_t kind = 0; kind < kKinds; ++kind)
      check_cuda(Binary{static_cast<Binary::Kind>(kind)}, {a, b}, {}, {0, 0x1p-23});
    const Tensor narrow = b.rounded_to(DType::kBF16);
    check_cuda(Binary{}, {a.rounded_to(DType::kBF16), narrow}, {}, {0, 0x1p-8});
    check_cuda(Binary{}, {a, narrow}, {}, {0, 0x1p-8});
    check_cuda(Binary{}, {a.rounded_to(DType::kF16), b}, {}, {0x1p-24, 0x1p-11});
  }
}

TEST_F(CudaBinary, AConstantStandsOnEitherSide) {
  for (const bool reversed : {false, true}) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const Binary op{Binary::Kind::kSub, {3, 1, 8}, reversed};
      check_cuda(op, {random({2, 3, 4, 8}, 1).rounded_to(dtype)}, {random({3, 1, 8}, 2)},
                 {0, dtype == DType::kF32 ? 0x1p-23 : 0x1p-8});
    }
  }
}

TEST_F(CudaBinary, NanWinsFromEitherSide) {
  for (const auto kind : {Binary::Kind::kMin, Binary::Kind::kMax}) {
    const Tensor a = Tensor::of({3}, {NAN, 1, 2}), b = Tensor::of({3}, {1, NAN, 3});
    const std::vector<float> y = run_cuda(Binary{kind}, {a, b}, {})[0].values();
    EXPECT_TRUE(std::isnan(y[0]) && std::isnan(y[1]));
    EXPECT_EQ(y[2], kind == Binary::Kind::kMin ? 2 : 3);
  }
}

}  // namespace
}  // namespace tessera::test
