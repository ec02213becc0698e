// Convolution against its reference, and the promise that a pixel's bytes depend on neither the
// image's size, nor its place, nor the batch, nor the threads.
#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "kernels/ops/binary/binary.h"
#include "kernels/ops/conv/conv.h"
#include "tests/support/conv_operands.h"
#include "tests/support/error.h"
#include "tests/support/operator_check.h"
#include "tests/support/targets.h"

namespace tessera::test {
namespace {

using Technique = Conv::Technique;
using test::Padding;
using test::window;
using Norm = Conv::Norm;

std::int64_t channels_in(const Conv& op, const std::vector<Tensor>& inputs) {
  const auto input_types = types(inputs);
  return parameters(op, input_types)[0].shape[1];
}

// Weights are drawn so that every y is a sum of order one. Direct f32: a chain of `terms` products
// rounds each partial sum, at most order 4 here: sum_bound(terms) / sqrt(terms) per unit of y.
// Winograd: its header derives an amplification of 94 / 3 over the direct sum; chains are c_in long
// and the transforms add about 16 roundings. bf16: x and w are rounded to 8 bits (2^-9 each, adding
// like a random walk to 2^-8 of y's spread of 1, times 8 for the largest of many), then y to 2^-9.
// A norm multiplies by gamma / sqrt(var + eps), which is below 5 in these draws.
Bound bound_for(const Conv& op, std::int64_t c_in) {
  const double gain = op.norm == Norm::kNone ? 1 : 5;
  if (op.dtype == DType::kBF16) return {gain * 0x1p-5, 0x1p-7};
  const double epsilon = 0x1p-24;
  const double terms = static_cast<double>(c_in * op.window.kernel[0] * op.window.kernel[1]);
  if (op.technique == Technique::kWinograd) {
    const double rounded = 2 * std::sqrt(static_cast<double>(c_in)) + 16;
    return {gain * epsilon * 94 / 3 * rounded, 8 * epsilon};
  }
  return {gain * 4 * epsilon * (std::sqrt(terms) + 4), 8 * epsilon};
}

void check(const Conv& op, const std::vector<Tensor>& inputs) {
  SCOPED_TRACE(fmt::format("{} -> {}, technique {}", inputs[0].type().to_string(), op.c_out,
                           static_cast<int>(op.technique)));
  check_cpu(op, inputs, weights_for(op, inputs), bound_for(op, channels_in(op, inputs)));
}

// The variants that every shape is tried with.
std::vector<Conv> variants(Conv op) {
  std::vector<Conv> list;
  for (Technique technique : {Technique::kDirect, Technique::kWinograd}) {
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      op.technique = technique, op.dtype = dtype;
      if (technique == Technique::kDirect || is_winograd(op)) list.push_back(op);
    }
  }
  return list;
}

TEST(Conv, ChannelCountsAroundVectors) {
  for (const auto& [c_in, c_out] : std::vector<std::pair<int, int>>{
           {1, 1}, {1, 64}, {2, 3}, {3, 16}, {15, 17}, {16, 15}, {17, 33}, {64, 65}, {100, 37}}) {
    for (const Conv& op : variants({.c_out = c_out, .relu = true})) {
      check(op, {random({1, 7, 9, c_in}, 1).rounded_to(op.dtype)});
    }
  }
}

TEST(Conv, SizesAroundTilesAndBlocks) {
  for (const auto& [h, w] : std::vector<std::pair<int, int>>{
           {3, 3}, {4, 3}, {5, 6}, {6, 6}, {7, 10}, {6, 67}, {3, 68}, {5, 69}, {11, 70}}) {
    for (const Conv& op : variants({.c_out = 5})) check(op, {random({1, h, w, 4}, 2)});
  }
}

TEST(Conv, SamePaddingDownToOnePixel) {
  for (const auto& [h, w] :
       std::vector<std::pair<int, int>>{{1, 1}, {1, 2}, {2, 1}, {4, 4}, {5, 8}, {9, 66}, {6, 67}}) {
    for (const Conv& op : variants({.c_out = 18, .window = window(3, Padding::kSame)}))
      check(op, {random({2, h, w, 3}, 3)});
  }
}

TEST(Conv, OneByOne) {
  for (int c_in : {1, 3, 16, 100}) {
    for (const Conv& op : variants({.c_out = 3, .window = window(1)}))
      check(op, {random({2, 5, 71, c_in}, 4)});
  }
}

// Any kernel, stride, dilation and pads, with a pad below zero too.
TEST(Conv, AnyWindow) {
  const std::vector<Window> windows{
      square(7, 3, 2),
      square(2, 0, 2),
      {.kernel = {3, 3}, .stride = {2, 1}, .dilation = {1, 1}, .pads = {0, 1, 1, 1}},
      {.kernel = {1, 5}, .stride = {1, 3}, .dilation = {1, 2}, .pads = {0, 0, 4, 3}},
      {.kernel = {3, 1}, .stride = {1, 1}, .dilation = {3, 1}, .pads = {2, 5, 0, 0}},
      {.kernel = {3, 3}, .stride = {1, 1}, .dilation = {2, 4}, .pads = {2, 2, 4, 4}},
      {.kernel = {3, 3}, .stride = {1, 1}, .dilation = {1, 1}, .pads = {-1, 1, 1, -2}}};
  for (const Window& w : windows) {
    SCOPED_TRACE(fmt::format("kernel {}x{}, pads {} {} {} {}", w.kernel[0], w.kernel[1], w.pads[0],
                             w.pads[1], w.pads[2], w.pads[3]));
    for (const int c_in : {1, 3, 16}) {
      for (const Conv& op : variants({.c_out = 18, .window = w, .relu = true}))
        check(op, {random({2, 9, 73, c_in}, 40).rounded_to(op.dtype)});
    }
  }
}

// The heads of networks, whose vectors run along a filter row.
TEST(Conv, FewOutputs) {
  const std::vector<Window> windows{
      same(3),
      square(1),
      square(5, 2, 2),
      {.kernel = {3, 3}, .stride = {1, 1}, .dilation = {2, 4}, .pads = {2, 2, 4, 4}}};
  for (const Window& w : windows) {
    for (const int c_in : {5, 6, 16, 21, 64}) {
      for (const int c_out : {1, 2, 3, 4}) {
        for (const Conv& op : variants({.c_out = c_out, .window = w, .relu = c_out == 2}))
          check(op, {random({2, 9, 74, c_in}, 49).rounded_to(op.dtype)});
      }
    }
  }
  for (const Norm norm : {Norm::kBeforeRelu, Norm::kAfterRelu}) {
    for (const Conv& op :
         variants({.c_out = 3, .window = same(3), .relu = true, .norm = norm, .pool = true}))
      check(op, {random({1, 12, 14, 16}, 50).rounded_to(op.dtype)});
  }
  // A number behind a run is no part of it.
  Tensor x = random({1, 4, 7, 6}, 51);
  x.view().as<float>()[3 * 7 * 6 + 6 * 6 + 5] = std::numeric_limits<float>::quiet_NaN();
  const Conv op{.c_out = 2, .window = same(3)};
  const std::vector<float> y = run_cpu(op, {x}, weights_for(op, {x}), 1)[0].values();
  for (std::int64_t i = 0; i < 4 * 7; ++i)
    EXPECT_EQ(std::isnan(y[static_cast<std::size_t>(2 * i)]), i / 7 >= 2 && i % 7 >= 5) << i;
}

struct Groups {
  int groups, c_in, c_out;
};
// Groups of few and many channels, and filters for each channel, around the vectors.
const std::vector<Groups> kGroups{{3, 9, 6},    {2, 32, 36},  {5, 5, 15},   {8, 64, 24},
                                  {32, 64, 32}, {15, 15, 15}, {16, 16, 16}, {33, 33, 33}};

TEST(Conv, Groups) {
  for (const auto& [groups, c_in, c_out] : kGroups) {
    for (const Window& w :
         {same(3), square(3, 1, 2), square(1), square(7, 3),
          Window{.kernel = {3, 2}, .stride = {1, 2}, .dilation = {2, 3}, .pads = {2, 0, -1, 3}}}) {
      SCOPED_TRACE(fmt::format("{} groups, kernel {}x{}", groups, w.kernel[0], w.kernel[1]));
      for (const Conv& op : variants({.c_out = c_out, .window = w, .groups = groups}))
        check(op, {random({2, 9, 71, c_in}, 41).rounded_to(op.dtype)});
    }
  }
  const Conv fused{.c_out = 18,
                   .window = same(3),
                   .groups = 18,
                   .bias = false,
                   .relu = true,
                   .norm = Norm::kAfterRelu,
                   .concat = CropConcat{CropConcat::Align::kEqual},
                   .pool = true};
  check(fused, {random({1, 9, 11, 7}, 42), random({1, 9, 11, 11}, 43)});
}

// One channel's NaN stays in its group.
TEST(Conv, NanStaysInItsGroup) {
  for (const int groups : {2, 4}) {  // of two channels, of one
    Tensor x = random({1, 5, 5, 4}, 44);
    x.view().as<float>()[(2 * 5 + 2) * 4] = NAN;
    const Conv op{.c_out = 4, .window = same(3), .groups = groups};
    const std::vector<float> y = run_cpu(op, {x}, weights_for(op, {x}), 1)[0].values();
    for (std::size_t i = 0; i < y.size(); ++i) {
      const std::size_t row = i / 20, column = i / 4 % 5;
      const bool sees = row >= 1 && row <= 3 && column >= 1 && column <= 3;
      EXPECT_EQ(std::isnan(y[i]), sees && i % 4 < static_cast<std::size_t>(4 / groups)) << i;
    }
  }
}

// What passes put behind the sums. An activation's slope is below 1.2, and it rounds within 6 ULP.
TEST(Conv, ResidualAndActivation) {
  for (std::size_t kind = 0; kind <= names_of(Activation::Kind{}).size(); ++kind) {
    for (const int c_out : {16, 19}) {
      for (const int groups : {1, c_out}) {
        Conv base{.c_out = c_out, .window = same(3), .groups = groups, .pool = kind % 2 == 0};
        if (kind == 0) {
          base.relu = true, base.norm = Norm::kAfterRelu;
        } else {
          base.epilogue.activation = Activation{.kind = static_cast<Activation::Kind>(kind - 1)};
        }
        for (Conv op : variants(base)) {
          SCOPED_TRACE(fmt::format("activation {}, {} groups", kind, groups));
          const Tensor x = random({2, 6, 9, c_out}, 45).rounded_to(op.dtype);
          const Tensor residual = random({2, 6, 9, c_out}, 46).rounded_to(op.dtype);
          Bound bound = bound_for(op, c_out / groups);
          bound.absolute = 1.5 * bound.absolute + 8 * 0x1p-24, bound.relative += 6 * 0x1p-23;
          check_cpu(op, {x}, weights_for(op, {x}), bound);
          if (op.technique == Technique::kWinograd) continue;
          op.epilogue.residual = true;
          check_cpu(op, {x, residual}, weights_for(op, {x, residual}), bound);
        }
      }
    }
  }
}

// A fused sum has the bytes of one for itself.
TEST(Conv, AResidualRoundsAsASumOfItsOwn) {
  Conv op{.c_out = 20, .window = same(3)};
  const Tensor x = random({1, 7, 9, 16}, 47), residual = random({1, 7, 9, 20}, 48);
  const std::vector<Tensor> weights = weights_for(op, {x});
  const Tensor y = run_cpu(op, {x}, weights, 1)[0];
  const Tensor sum = run_cpu(Binary{}, {y, residual}, {}, 1)[0];
  op.epilogue.residual = true;
  EXPECT_TRUE(run_cpu(op, {x, residual}, weights, 1)[0].same_bytes(sum));
}

TEST(Conv, LongReduction) {
  for (const Conv& op : variants({.c_out = 70})) check(op, {random({1, 6, 7, 520}, 5)});
}

TEST(Conv, NormsBiasAndPooling) {
  for (Norm norm : {Norm::kNone, Norm::kBeforeRelu, Norm::kAfterRelu}) {
    for (bool bias : {false, true}) {
      for (Padding padding : {Padding::kValid, Padding::kSame}) {
        const Conv base{.c_out = 19,
                        .window = window(3, padding),
                        .bias = bias,
                        .relu = true,
                        .norm = norm,
                        .pool = true};
        for (const Conv& op : variants(base)) {
          check(op, {random({2, 8, 11, 6}, 6).rounded_to(op.dtype)});
          check(op, {random({1, 7, 73, 6}, 7).rounded_to(op.dtype)});
        }
      }
    }
  }
}

TEST(Conv, TwoSources) {
  struct Case {
    CropConcat concat;
    Shape skip, up;
  };
  using Align = CropConcat::Align;
  for (const Case& c :
       std::vector<Case>{{{Align::kCropSkip, true}, {2, 16, 15, 5}, {2, 12, 12, 7}},
                         {{Align::kCropSkip, false}, {1, 11, 16, 16}, {1, 8, 9, 32}},
                         {{Align::kCropSkip, true}, {1, 9, 9, 3}, {1, 9, 9, 20}},
                         {{Align::kPadUp, true}, {2, 11, 13, 4}, {2, 10, 10, 17}},
                         {{Align::kPadUp, false}, {1, 17, 12, 16}, {1, 12, 12, 16}},
                         {{Align::kEqual, true}, {1, 9, 8, 5}, {1, 9, 8, 18}}}) {
    for (Padding padding : {Padding::kValid, Padding::kSame}) {
      for (const Conv& op :
           variants({.c_out = 21, .window = window(3, padding), .concat = c.concat})) {
        SCOPED_TRACE(static_cast<int>(c.concat.align));
        check(op, {random(c.skip, 8).rounded_to(op.dtype), random(c.up, 9).rounded_to(op.dtype)});
      }
    }
  }
}

TEST(Conv, MixedTypesOfInputAndOutput) {
  check({.c_out = 16, .dtype = DType::kBF16}, {random({1, 9, 9, 1}, 10)});
  check({.c_out = 16, .dtype = DType::kF32}, {random({1, 9, 9, 5}, 11).rounded_to(DType::kBF16)});
}

TEST(Conv, NanReachesExactlyThePixelsThatSeeIt) {
  for (const Conv& op :
       variants({.c_out = 3, .relu = true, .norm = Norm::kAfterRelu, .pool = true})) {
    Tensor x = random({1, 12, 12, 2}, 12);
    x.view().as<float>()[(5 * 12 + 5) * 2] = NAN;
    const std::vector<Tensor> y = run_cpu(op, {x}, weights_for(op, {x}), 2);
    const std::vector<float> values = y[0].values(), pooled = y[1].values();
    // A Winograd tile computes all of its pixels from all of its window.
    const int side = op.technique == Technique::kWinograd ? 8 : 3;
    const int first = op.technique == Technique::kWinograd ? 0 : 3;
    for (int i = 0; i < 10; ++i) {
      for (int j = 0; j < 10; ++j) {
        const bool sees = i >= first && i < first + side && j >= first && j < first + side;
        const bool must = i >= 3 && i < 6 && j >= 3 && j < 6;
        const bool nan = std::isnan(values[static_cast<std::size_t>((i * 10 + j) * 3)]);
        EXPECT_TRUE(nan || !must) << i << ", " << j;
        EXPECT_TRUE(!nan || sees) << i << ", " << j;
        const bool pooled_nan =
            std::isnan(pooled[static_cast<std::size_t>((i / 2 * 5 + j / 2) * 3)]);
        EXPECT_TRUE(pooled_nan || !nan) << i << ", " << j;
      }
    }
  }
}

struct Window {
  std::int64_t y, x, h, w;  // of the input
};

// y of a window cut from a valid convolution's input equals the same window of y, to the byte.
void expect_same_bytes_anywhere(const Conv& op, const Tensor& x,
                                const std::vector<Window>& windows) {
  const std::vector<Tensor> weights = weights_for(op, {x});
  const Tensor whole = run_cpu(op, {x}, weights, 2)[0];
  for (const Window& at : windows) {
    const Tensor tile = run_cpu(op, {window(x, at.y, at.x, at.h, at.w)}, weights, 1)[0];
    std::int64_t h = tile.type().shape[1], w = tile.type().shape[2];
    if (op.technique == Technique::kWinograd) {  // complete tiles, or those that end with the image
      const Shape& y = whole.type().shape;
      if (at.y + h != y[1]) h -= h % kWinogradTile;
      if (at.x + w != y[2]) w -= w % kWinogradTile;
    }
    EXPECT_TRUE(window(tile, 0, 0, h, w).same_bytes(window(whole, at.y, at.x, h, w)))
        << x.type().to_string() << " -> " << op.c_out << ", kernel " << op.window.kernel[0] << ", "
        << name_of(op.dtype) << ", technique " << static_cast<int>(op.technique) << ": window "
        << at.h << "x" << at.w << " at " << at.y << ", " << at.x;
  }
}

TEST(Conv, BytesDoNotDependOnSizeOrPlace) {
  for (const auto& [c_in, c_out] : std::vector<std::pair<int, int>>{
           {1, 64}, {3, 16}, {16, 16}, {64, 64}, {100, 70}, {520, 20}}) {
    for (int kernel : {1, 3}) {
      for (const Conv& op : variants({.c_out = c_out, .window = window(kernel), .relu = true})) {
        const Tensor x = random({1, 46, 83, c_in}, 13).rounded_to(op.dtype);
        std::vector<Window> windows{{0, 0, 46, 83},  {4, 8, 6, 6},   {12, 0, 11, 83},
                                    {0, 40, 46, 30}, {8, 4, 38, 79}, {24, 60, 22, 23},
                                    {40, 4, 6, 70}};
        if (op.technique == Technique::kDirect) {
          for (Window at : {Window{3, 5, 3, 3}, {1, 1, 9, 7}, {17, 2, 28, 69}, {13, 11, 5, 72}})
            windows.push_back(at);
        }
        expect_same_bytes_anywhere(op, x, windows);
      }
    }
  }
  for (const auto& [groups, c_in, c_out] : kGroups) {
    const Tensor x = random({1, 20, 83, c_in}, 14);
    for (const Conv& op : variants({.c_out = c_out, .groups = groups}))
      expect_same_bytes_anywhere(op, x,
                                 {{0, 0, 20, 83}, {3, 5, 3, 3}, {1, 1, 9, 7}, {7, 2, 8, 69}});
  }
}

TEST(Conv, BytesDoNotDependOnTheBatch) {
  for (const Conv& op :
       variants({.c_out = 70, .window = window(3, Padding::kSame), .pool = true})) {
    const Tensor x = random({3, 13, 70, 20}, 14).rounded_to(op.dtype);
    const std::vector<Tensor> weights = weights_for(op, {x});
    const std::vector<Tensor> together = run_cpu(op, {x}, weights, 2);
    const std::size_t bytes = x.type().bytes() / 3;
    for (std::size_t n = 0; n < 3; ++n) {
      Tensor one({op.dtype, {1, 13, 70, 20}});
      std::memcpy(one.view().pointer, x.view().as<std::byte>() + n * bytes, bytes);
      const std::vector<Tensor> alone = run_cpu(op, {one}, weights, 2);
      for (std::size_t output = 0; output < 2; ++output) {
        const std::size_t size = alone[output].type().bytes();
        EXPECT_EQ(std::memcmp(alone[output].view().pointer,
                              together[output].view().as<std::byte>() + n * size, size),
                  0)
            << "image " << n << ", output " << output;
      }
    }
  }
}

TEST(Conv, EveryInstructionSet) {
  const CropConcat concat{CropConcat::Align::kPadUp, false};
  for (const Conv& op : variants({.c_out = 37,
                        .window = window(3, Padding::kSame),
                        .relu = true,
                        .norm = Norm::kAfterRelu,
                        .concat = concat,
                        .pool = true})) {
    const Tensor skip = random({1, 11, 13, 9}, 16).rounded_to(op.dtype);
    const Tensor up = random({1, 10, 11, 20}, 17).rounded_to(op.dtype);
    for_each_target([&] { check(op, {skip, up}); });
  }
}

// A map too large for the caches is written around them if its memory is aligned, as an arena's is.
TEST(Conv, LargeAlignedOutputHasTheSameBytes) {
  for (const Conv& op : variants({.c_out = 128, .relu = true, .pool = true})) {
    const Tensor x = random({1, 258, 258, 4}, 18).rounded_to(op.dtype);
    const std::vector<Tensor> weights = weights_for(op, {x});
    const std::vector<Tensor> expected = run_cpu(op, {x}, weights, 2);
    const std::vector<TensorType> input{x.type()};
    const std::vector<TensorView> in{x.view()}, w = views(weights);
    PackedWeights packed;
    const Step step = cpu(op, {"node", input, w, 2, &packed});
    const AlignedBuffer y(expected[0].type().bytes()), pooled(expected[1].type().bytes());
    const AlignedBuffer scratch(step.scratch_bytes);
    const std::vector<TensorView> out{{y.get(), expected[0].type()},
                                      {pooled.get(), expected[1].type()}};
    step.run({in, w, out}, scratch.get());
    for (std::size_t i = 0; i < 2; ++i)
      EXPECT_EQ(std::memcmp(out[i].pointer, expected[i].view().pointer, out[i].type.bytes()), 0)
          << "output " << i << ", " << name_of(op.dtype) << ", technique "
          << static_cast<int>(op.technique);
  }
}

// Both ways to cut Winograd's work: by tiles (large maps) and by columns (small ones).
TEST(Conv, WinogradSchedules) {
  for (const auto& [side, c] : std::vector<std::pair<int, int>>{{10, 150}, {258, 3}}) {
    const Conv op{.c_out = c, .technique = Technique::kWinograd};
    check(op, {random({1, side, side, c}, 15)});
  }
}

std::string error_of(const Conv& op, const std::vector<TensorType>& inputs) {
  return test::error_of([&] { infer(op, inputs); });
}

TEST(Conv, ErrorsNameWhatWasFound) {
  using ::testing::HasSubstr;
  const TensorType x{DType::kF32, {1, 2, 9, 3}};
  EXPECT_THAT(error_of({.c_out = 4}, {x}), HasSubstr("2x9"));
  EXPECT_THAT(error_of({.c_out = 4, .window = window(5)}, {x}), HasSubstr("at least 5x5"));
  EXPECT_THAT(error_of({.c_out = 0}, {x}), HasSubstr("not 0"));
  EXPECT_THAT(error_of({.c_out = 4}, {x, x}), HasSubstr("2 given"));
  EXPECT_THAT(error_of({.c_out = 4, .concat = CropConcat{}}, {x}), HasSubstr("1 given"));
  EXPECT_THAT(error_of({.c_out = 4}, {{DType::kI32, {1, 9, 9, 3}}}), HasSubstr("i32"));
  EXPECT_THAT(error_of({.c_out = 4}, {{DType::kF32, {9, 9, 3}}}), HasSubstr("(9, 9, 3)"));
  EXPECT_THAT(error_of({.c_out = 4}, {{DType::kF32, {1, 9, 0, 3}}}), HasSubstr("(1, 9, 0, 3)"));
  EXPECT_THAT(error_of({.c_out = 4, .dtype = DType::kI64}, {x}), HasSubstr("i64"));
  EXPECT_THAT(error_of({.c_out = 4, .technique = Technique::kWinograd, .dtype = DType::kBF16}, {x}),
              HasSubstr("bf16"));
  EXPECT_THAT(error_of({.c_out = 4, .window = window(1), .technique = Technique::kWinograd}, {x}),
              HasSubstr("1x1"));
  EXPECT_THAT(error_of({.c_out = 4, .pool = true}, {{DType::kF32, {1, 3, 9, 3}}}),
              HasSubstr("1x7"));
}

TEST(Conv, CostCountsEveryProduct) {
  const Conv op{.c_out = 64, .relu = true};
  const std::vector<TensorType> x{{DType::kF32, {1, 570, 570, 64}}};
  EXPECT_DOUBLE_EQ(cost(op, x).flops, 2.0 * 568 * 568 * 64 * 64 * 9);
  EXPECT_DOUBLE_EQ(cost(op, x).bytes, 4.0 * (570 * 570 * 64 + 64 * 64 * 9 + 64 + 568.0 * 568 * 64));
}

}  // namespace
}  // namespace tessera::test
