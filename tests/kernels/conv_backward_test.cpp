// Conv and ConvTranspose in training.
#include <gmock/gmock.h>

#include "tests/support/backward_check.h"
#include "tests/support/conv_operands.h"
#include "tests/support/targets.h"

namespace tessera {
namespace {

using test::Tensor;
using test::TrainCase;

// Weights of a layer whose outputs are of order one.
std::vector<Tensor> weights_of(const auto& op, const Tensor& x, std::int64_t terms) {
  std::vector<Tensor> list;
  const std::vector<TensorType> types{x.type()};
  for (const Parameter& parameter : parameters(op, types)) {
    const auto seed = 40 + static_cast<unsigned>(list.size());
    const bool matrix = parameter.shape.rank() > 1;
    list.push_back(test::random(parameter.shape, seed,
                                matrix ? 1 / std::sqrt(static_cast<float>(terms)) : 1.0f));
  }
  return list;
}

TrainCase<Conv> conv_case(Conv op, Shape shape) {
  if (op.window.is_square(3) && shape[3] >= 16 && op.c_out >= 16)
    op.technique = Conv::Technique::kWinograd;
  const Tensor x = test::random(shape, 30);
  return {op, {x}, weights_of(op, x, shape[3] * op.window.kernel[0] * op.window.kernel[0])};
}

// Forward and dx are sums of k^2 c products each of order 1 / sqrt(k^2 c) and 1; dW of one per
// pixel, of order one. Winograd's coefficients amplify the rounding of a sum: by up to 94 forward
// and in dx (kernels/ops/conv/winograd.cpp), by 24 in dW
// (kernels/ops/conv/train/winograd_weights.cpp), and the transformed operands round as well. A
// sum's error grows with the root of its terms as long as the roundings are independent; 8 is room
// for the worst of all elements.
test::BackwardBounds bounds_of(const TrainCase<Conv>& c) {
  const ConvGeometry g = geometry_of(c.op, test::types(c.inputs));
  const bool winograd = c.op.technique == Conv::Technique::kWinograd;
  const auto bound = [](double terms, double amplification, double size) {
    return test::Bound{8 * 0x1p-24 * amplification * size * std::sqrt(terms + 16), 8 * 0x1p-24};
  };
  const double pixels = static_cast<double>(g.n * g.ho * g.wo);
  const double products =
      static_cast<double>(c.op.window.kernel[0] * c.op.window.kernel[0] * g.c_in);
  const double back = static_cast<double>(c.op.window.kernel[0] * c.op.window.kernel[0] * g.c_out);
  const double spread = winograd ? 31 : 1;  // sqrt(94^2 / 3^2) of a pixel's own products
  return {.forward = bound(products, spread, 1),
          .input = bound(back, spread, std::sqrt(back / products) + 1),
          .weight = bound(pixels, winograd ? 24 : 1, std::sqrt(pixels) / 4 + 1)};
}

void check(const TrainCase<Conv>& c) {
  test::check_backward(c, bounds_of(c));
}

TEST(ConvBackward, AgreesWithFiniteDifferences) {
  for (const int kernel : {1, 3}) {
    for (const auto padding : {test::Padding::kValid, test::Padding::kSame}) {
      SCOPED_TRACE(fmt::format("kernel {}, padding {}", kernel, static_cast<int>(padding)));
      test::check_finite_differences(
          conv_case({.c_out = 3, .window = test::window(kernel, padding)}, {2, 5, 6, 2}));
    }
  }
  // Far from zero, so that no difference steps over the kink.
  TrainCase<Conv> relu = conv_case({.c_out = 4, .relu = true}, {1, 4, 5, 2});
  relu.inputs[0] = test::random({1, 4, 5, 2}, 31, 0.05f);
  for (const std::size_t o : {0, 1, 2, 3})
    relu.weights[1].view().as<float>()[o] = o % 2 == 0 ? 2.0f : -2.0f;
  test::check_finite_differences(relu);
}

TEST(ConvBackward, MatchesTheReferenceAtEveryChannelCount) {
  for (const std::int64_t c_in : {1, 3, 15, 16, 17, 40}) {
    for (const int c_out : {1, 2, 15, 16, 17, 33}) {
      SCOPED_TRACE(fmt::format("{} -> {}", c_in, c_out));
      check(
          conv_case({.c_out = c_out, .window = test::window(3, test::Padding::kSame), .relu = true},
                    {1, 7, 6, c_in}));
      check(conv_case({.c_out = c_out, .window = test::window(1)}, {2, 3, 5, c_in}));
    }
  }
}

TEST(ConvBackward, MatchesTheReferenceAtEveryTileBorder) {
  for (const std::int64_t size : {3, 4, 5, 6, 7, 9, 10, 13}) {
    for (const auto padding : {test::Padding::kValid, test::Padding::kSame}) {
      SCOPED_TRACE(fmt::format("size {}, padding {}", size, static_cast<int>(padding)));
      check(conv_case({.c_out = 16, .window = test::window(3, padding), .bias = false},
                      {2, size, size + 1, 20}));
      check(conv_case({.c_out = 5, .window = test::window(3, padding)}, {2, size, size + 1, 4}));
    }
  }
  check(conv_case({.c_out = 16, .window = test::window(3, test::Padding::kSame), .relu = true},
                  {1, 1, 1, 16}));
}

TEST(ConvBackward, MatchesTheReferenceAcrossBandsAndChunks) {
  check(conv_case({.c_out = 4, .relu = true}, {2, 70, 90, 3}));  // many bands, all slots
  check(conv_case({.c_out = 6, .window = test::window(1)}, {3, 40, 50, 7}));
  check(conv_case({.c_out = 18, .window = test::window(3, test::Padding::kSame)}, {2, 85, 83, 17}));
  check(conv_case({.c_out = 130, .window = test::window(3, test::Padding::kSame)}, {1, 9, 9, 70}));
}

TEST(ConvBackward, MatchesOnEveryInstructionSet) {
  test::for_each_target([] {
    check(conv_case({.c_out = 19, .window = test::window(3, test::Padding::kSame), .relu = true},
                    {1, 9, 6, 21}));
    check(conv_case({.c_out = 5, .relu = true}, {1, 9, 6, 3}));
    check(conv_case({.c_out = 5, .window = test::window(1)}, {1, 9, 6, 19}));
  });
}

TEST(ConvBackward, MasksWhereTheReluIsFlat) {
  TrainCase<Conv> c =
      conv_case({.c_out = 1, .window = test::window(1), .relu = true}, {1, 1, 3, 1});
  c.inputs[0] = Tensor::of({1, 1, 3, 1}, {-1, 0, 1});
  c.weights = {Tensor::of({1, 1, 1, 1}, {2}), Tensor::of({1}, {0})};
  c.output_gradients = {Tensor::of({1, 1, 3, 1}, {10, 10, 10})};
  const auto forward = test::train_by_reference(c);
  EXPECT_THAT(test::backward_on_cpu(c, forward, 1).inputs[0].values(),
              testing::ElementsAre(0, 0, 20));
}

TEST(ConvBackward, GradientsThatAreNotAskedForAreNotComputed) {
  const TrainCase<Conv> c = conv_case({.c_out = 4}, {1, 5, 5, 3});
  const auto forward = test::train_by_reference(c);
  const auto all = test::backward_on_cpu(c, forward, 1);
  const auto types = test::types(c.inputs);
  const auto in = test::views(c.inputs), w = test::views(c.weights);
  const auto out = test::views(forward.outputs);
  const std::vector<Tensor> dy = test::output_gradients_of(c);
  const auto dy_views = test::views(dy);
  PackedWeights packed;
  const BackwardStep step = cpu_backward(c.op, CpuSetup{"node", types, w, 1, &packed});
  const test::Scratch scratch(step.scratch_bytes);
  const Tensor bias = test::earlier_gradients(c, false)[1];
  const std::vector<TensorView> none{{nullptr, types[0]}};
  const std::vector<TensorView> bias_alone{{nullptr, c.weights[0].type()}, bias.view()};
  step.run({in, w, out, {}, dy_views, none, bias_alone}, scratch.get());
  EXPECT_TRUE(bias.same_bytes(all.weights[1]));
}

TEST(ConvBackward, NamesWhatItCannotTake) {
  using testing::HasSubstr;
  using testing::ThrowsMessage;
  const std::vector<TensorType> types{{DType::kF32, {1, 8, 8, 4}}};
  EXPECT_THAT([&] { saved_for_backward(Conv{.c_out = 3, .pool = true}, types); },
              ThrowsMessage<Error>(HasSubstr("without norm, concat and pool")));
}

TrainCase<ConvTranspose> transpose_case(const ConvTranspose& op, Shape shape) {
  const Tensor x = test::random(shape, 32);
  return {op, {x}, weights_of(op, x, shape[3] * op.kernel * op.kernel / 4 + 1)};
}

void check(const TrainCase<ConvTranspose>& c) {
  const Shape& x = c.inputs[0].type().shape;
  const double taps = c.op.kernel * c.op.kernel;
  // As bounds_of(): sums of products of order one and of the weights' order.
  const auto bound = [](double terms, double size) {
    return test::Bound{8 * 0x1p-24 * size * std::sqrt(terms + 16), 8 * 0x1p-24};
  };
  const double pixels = static_cast<double>(x.elements(0, 3));
  const double back = taps * c.op.c_out;
  test::check_backward(c, {.forward = bound(4.0 * static_cast<double>(x[3]), 1),
                           .input = bound(back, std::sqrt(back / static_cast<double>(x[3])) + 1),
                           .weight = bound(4 * pixels, std::sqrt(4 * pixels) / 4 + 1)});
}

TEST(ConvTransposeBackward, AgreesWithFiniteDifferences) {
  for (const int kernel : {2, 3}) {
    SCOPED_TRACE(kernel);
    test::check_finite_differences(transpose_case({.c_out = 3, .kernel = kernel}, {2, 3, 4, 2}));
  }
}

TEST(ConvTransposeBackward, MatchesTheReference) {
  for (const int kernel : {2, 3}) {
    for (const std::int64_t c_in : {1, 5, 16, 33}) {
      for (const int c_out : {1, 7, 16, 35}) {
        SCOPED_TRACE(fmt::format("{} x {}, {} -> {}", kernel, kernel, c_in, c_out));
        check(transpose_case({.c_out = c_out, .kernel = kernel, .relu = true}, {2, 3, 5, c_in}));
        check(transpose_case({.c_out = c_out, .kernel = kernel, .bias = false}, {1, 1, 1, c_in}));
      }
    }
    check(transpose_case({.c_out = 8, .kernel = kernel, .relu = true}, {2, 31, 17, 12}));
  }
}

TEST(ConvTransposeBackward, MatchesOnEveryInstructionSet) {
  test::for_each_target([] {
    for (const int kernel : {2, 3})
      check(transpose_case({.c_out = 19, .kernel = kernel, .relu = true}, {1, 4, 7, 21}));
  });
}

}  // namespace
}  // namespace tessera
