// Transposed convolution against its reference, and the promise that a pixel's bytes depend on
// neither the image's size, nor its place, nor the batch, nor the threads.
#include <gmock/gmock.h>

#include <cmath>

#include "kernels/ops/conv_transpose/conv_transpose.h"
#include "tests/support/conv_operands.h"
#include "tests/support/error.h"
#include "tests/support/operator_check.h"
#include "tests/support/targets.h"

namespace tessera::test {
namespace {

// A chain of at most 4 c_in products rounds partial sums of order at most 4. bf16: x and w are
// rounded to 2^-9 each, a random walk to 2^-8 of y's spread of 1, times 8 for the largest of many;
// then y to 2^-9.
Bound bound_for(const ConvTranspose& op, std::int64_t c_in) {
  if (op.dtype == DType::kBF16) return {0x1p-5, 0x1p-7};
  const double epsilon = 0x1p-24;
  return {4 * epsilon * (std::sqrt(4.0 * static_cast<double>(c_in)) + 4), 8 * epsilon};
}

std::vector<ConvTranspose> variants(ConvTranspose op) {
  std::vector<ConvTranspose> list;
  for (int kernel : {2, 3}) {
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      op.kernel = kernel, op.dtype = dtype;
      list.push_back(op);
    }
  }
  return list;
}

void check(const ConvTranspose& op, const Tensor& x) {
  SCOPED_TRACE(fmt::format("{} -> {}, kernel {}", x.type().to_string(), op.c_out, op.kernel));
  const std::int64_t c_in = x.type().shape[3];
  check_cpu(op, {x}, weights_for(op, c_in), bound_for(op, c_in));
}

TEST(ConvTranspose, ChannelCountsAroundVectors) {
  for (const auto& [c_in, c_out] : std::vector<std::pair<int, int>>{
           {1, 1}, {2, 3}, {3, 16}, {15, 17}, {16, 8}, {17, 33}, {64, 65}, {100, 37}, {300, 16}}) {
    for (const ConvTranspose& op : variants({.c_out = c_out, .relu = true}))
      check(op, random({2, 5, 7, c_in}, 1).rounded_to(op.dtype));
  }
}

TEST(ConvTranspose, SizesAroundBlocks) {
  for (const auto& [h, w] :
       std::vector<std::pair<int, int>>{{1, 1}, {1, 6}, {2, 1}, {4, 59}, {5, 60}, {9, 61}}) {
    for (const ConvTranspose& op : variants({.c_out = 5})) check(op, random({1, h, w, 4}, 2));
  }
}

TEST(ConvTranspose, WithoutBias) {
  for (const ConvTranspose& op : variants({.c_out = 20, .bias = false}))
    check(op, random({1, 6, 5, 18}, 3));
}

TEST(ConvTranspose, EveryInstructionSet) {
  for (const ConvTranspose& op : variants({.c_out = 37, .relu = true})) {
    const Tensor x = random({1, 7, 9, 19}, 6).rounded_to(op.dtype);
    for_each_target([&] { check(op, x); });
  }
}

// Pixel by pixel: the output of a 3x3 kernel of ones counts the taps that meet there.
TEST(ConvTranspose, CountsTaps) {
  const ConvTranspose op{.c_out = 1, .kernel = 3, .bias = false};
  const Tensor ones = Tensor::of({1, 2, 2, 1}, {1, 1, 1, 1});
  const Tensor weight = Tensor::of({1, 1, 3, 3}, std::vector<float>(9, 1.0f));
  EXPECT_EQ(run_cpu(op, {ones}, {weight}, 1)[0].values(),
            (std::vector<float>{1, 2, 1, 1, 2, 4, 2, 2, 1, 2, 1, 1, 1, 2, 1, 1}));
}

TEST(ConvTranspose, NanPassesRelu) {
  for (const ConvTranspose& op : variants({.c_out = 2, .relu = true})) {
    Tensor x = random({1, 3, 3, 2}, 4).rounded_to(op.dtype);
    if (op.dtype == DType::kBF16) {
      x.view().as<std::uint16_t>()[8] = f32_to_bf16(NAN);
    } else {
      x.view().as<float>()[8] = NAN;
    }
    const std::vector<float> y = run_cpu(op, {x}, weights_for(op, 2), 1)[0].values();
    for (std::size_t pixel : {2 * 6 + 2, 3 * 6 + 3}) EXPECT_TRUE(std::isnan(y[pixel * 2]));
    EXPECT_FALSE(std::isnan(y[0]));
  }
}

// A cut of x gives the bytes of the same place of y; the last row and column of a 3x3 kernel's cut
// lack their neighbours.
TEST(ConvTranspose, BytesDoNotDependOnSizePlaceOrBatch) {
  for (int c_in : {1, 16, 100, 520}) {
    for (const ConvTranspose& op : variants({.c_out = 24})) {
      const Shape shape{2, 19, 67, c_in};
      const Tensor x = random(shape, 5).rounded_to(op.dtype);
      const std::vector<Tensor> weights = weights_for(op, c_in);
      const Tensor whole = run_cpu(op, {x}, weights, 2)[0];
      struct Window {
        std::int64_t n, y, x, h, w;
      };
      for (const Window& at : {Window{0, 0, 0, 19, 67},
                               {1, 3, 5, 7, 8},
                               {0, 18, 66, 1, 1},
                               {1, 1, 2, 5, 61},
                               {0, 2, 63, 17, 4}}) {
        const std::size_t pixel = static_cast<std::size_t>(c_in) * size_of(op.dtype);
        Tensor cut({op.dtype, {1, at.h, at.w, c_in}});
        for (std::int64_t row = 0; row < at.h; ++row) {
          const std::int64_t from = (at.n * shape[1] + at.y + row) * shape[2] + at.x;
          std::memcpy(cut.view().as<std::byte>() + static_cast<std::size_t>(row * at.w) * pixel,
                      x.view().as<std::byte>() + static_cast<std::size_t>(from) * pixel,
                      static_cast<std::size_t>(at.w) * pixel);
        }
        const Tensor tile = run_cpu(op, {cut}, weights, 1)[0];
        const std::size_t out = static_cast<std::size_t>(op.c_out) * size_of(op.dtype);
        const bool bottom = at.y + at.h == shape[1], right = at.x + at.w == shape[2];
        const std::int64_t rows = 2 * at.h - (op.kernel == 3 && !bottom ? 1 : 0);
        const std::int64_t columns = 2 * at.w - (op.kernel == 3 && !right ? 1 : 0);
        for (std::int64_t row = 0; row < rows; ++row) {
          const std::int64_t there =
              (at.n * 2 * shape[1] + 2 * at.y + row) * 2 * shape[2] + 2 * at.x;
          EXPECT_EQ(
              std::memcmp(
                  tile.view().as<std::byte>() + static_cast<std::size_t>(row * 2 * at.w) * out,
                  whole.view().as<std::byte>() + static_cast<std::size_t>(there) * out,
                  static_cast<std::size_t>(columns) * out),
              0)
              << x.type().to_string() << ", kernel " << op.kernel << ", row " << row;
        }
      }
    }
  }
}

// Any window, at channel counts around vectors, with ReLU, on all instruction sets and threads.
TEST(ConvTranspose, AnyWindowMatchesTheReference) {
  Window wide = square(4, 1, 2), uneven = square(3, 0, 2);
  uneven.pads = {0, 1, 1, -1}, uneven.dilation = {1, 2};
  for (const Window& window : {wide, uneven, square(2, 0, 3), square(3, 1)}) {
    for (const auto& [c_in, c_out, groups] :
         {std::array{1, 1, 1}, {6, 4, 2}, {17, 33, 1}, {5, 5, 5}, {32, 16, 1}}) {
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        ConvTranspose op = conv_transpose_of(c_out, window, groups);
        op.relu = true, op.dtype = dtype;
        ASSERT_FALSE(is_doubling(op));
        const Tensor x = random({2, 4, 5, c_in}, 1).rounded_to(dtype);
        std::vector<Tensor> weights;
        for (const Parameter& p : parameters(op, std::vector{x.type()}))
          weights.push_back(random(p.shape, 7, 0.3f));
        for_each_target([&] {
          check_cpu(op, {x}, weights, {1e-5, dtype == DType::kF32 ? 1e-5 : 0x1p-7});
        });
      }
    }
  }
}

TEST(ConvTranspose, WindowsThatDoubleAreTakenForThose) {
  Window three = square(3, 0, 2);
  three.pads = {1, 0, 1, 0};
  EXPECT_EQ(conv_transpose_of(4, square(2, 0, 2)).kernel, 2);
  EXPECT_EQ(conv_transpose_of(4, three).kernel, 3);
  EXPECT_EQ(conv_transpose_of(4, three, 2).kernel, 0);
  EXPECT_EQ(window_of({.c_out = 4, .kernel = 3}), three);
}

std::string error_of(const ConvTranspose& op, const std::vector<TensorType>& inputs) {
  return test::error_of([&] { infer(op, inputs); });
}

TEST(ConvTranspose, ErrorsNameWhatWasFound) {
  using ::testing::HasSubstr;
  const TensorType x{DType::kF32, {1, 2, 9, 3}};
  EXPECT_THAT(error_of({.c_out = 4, .kernel = 4}, {x}), HasSubstr("not 4"));
  EXPECT_THAT(error_of({.c_out = -1}, {x}), HasSubstr("not -1"));
  EXPECT_THAT(error_of({.c_out = 4}, {}), HasSubstr("0 given"));
  EXPECT_THAT(error_of({.c_out = 4}, {{DType::kU8, {1, 2, 9, 3}}}), HasSubstr("u8"));
  EXPECT_THAT(error_of({.c_out = 4}, {{DType::kF32, {2, 9, 3}}}), HasSubstr("(2, 9, 3)"));
  EXPECT_THAT(error_of({.c_out = 4}, {{DType::kF32, {0, 2, 9, 3}}}), HasSubstr("(0, 2, 9, 3)"));
  EXPECT_THAT(error_of({.c_out = 4, .dtype = DType::kU8}, {x}), HasSubstr("u8"));
}

TEST(ConvTranspose, CostCountsEveryProduct) {
  const std::vector<TensorType> x{{DType::kF32, {1, 28, 28, 1024}}};
  EXPECT_DOUBLE_EQ(cost(ConvTranspose{.c_out = 512}, x).flops, 2.0 * 28 * 28 * 4 * 1024 * 512);
}

}  // namespace
}  // namespace tessera::test
