#include "kernels/ops/dropout/dropout.h"

#include <gmock/gmock.h>

#include "tests/support/operator_check.h"

namespace tessera {
namespace {

using test::Tensor;

TEST(Dropout, CopiesAnyShapeAndType) {
  // 70,000 floats are more than one piece of 256 KiB.
  for (const Shape& shape : {Shape{1}, Shape{3, 5}, Shape{70000}, Shape{1, 2, 3, 4}}) {
    const Tensor x = test::random(shape, 11);
    test::check_cpu(Dropout{}, {x}, {}, {0, 0});
    test::check_cpu(Dropout{}, {x.rounded_to(DType::kBF16)}, {}, {0, 0});
    EXPECT_TRUE(test::run_cpu(Dropout{0.9}, {x}, {}, 2)[0].same_bytes(x));
  }
}

TEST(Dropout, NamesWhatItCannotTake) {
  const std::vector<TensorType> ids{{DType::kI32, {4}}}, floats{{DType::kF32, {4}}};
  EXPECT_THAT([&] { infer(Dropout{}, ids); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("i32 (4)")));
  EXPECT_THAT([&] { infer(Dropout{1.5}, floats); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("1.5")));
}

}  // namespace
}  // namespace tessera
