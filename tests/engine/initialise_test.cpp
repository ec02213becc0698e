// Distributions, exact properties and independence of the initial weights.
#include "engine/train/initialise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/train/random.h"
#include "kernels/error.h"
#include "models/networks/han.h"
#include "models/networks/unet.h"

namespace tessera {
namespace {

FloatTensors han_weights(const HanConfig& config, std::uint64_t seed = 1, int threads = 1) {
  std::vector<TensorType> inputs{{DType::kI32, {1, config.max_sentences, config.max_words}}};
  if (config.masked) {
    inputs.push_back({DType::kI32, {1, config.max_sentences}});
    inputs.push_back({DType::kI32, {1}});
  }
  return initial_weights(build_han(config), inputs, seed, threads);
}

FloatTensors unet_weights(const UNetConfig& config, std::uint64_t seed = 1, int threads = 1) {
  const std::vector<TensorType> inputs{
      {DType::kF32, {1, unet_input_size(config, 1), unet_input_size(config, 1), config.channels}}};
  return initial_weights(build_unet(config, true), inputs, seed, threads);
}

double mean_of(const FloatTensor& tensor) {
  return std::accumulate(tensor.values.begin(), tensor.values.end(), 0.0) /
         static_cast<double>(tensor.values.size());
}

double deviation_of(const FloatTensor& tensor) {
  const double mean = mean_of(tensor);
  double sum = 0;
  for (const double value : tensor.values) sum += (value - mean) * (value - mean);
  return std::sqrt(sum / static_cast<double>(tensor.values.size()));
}

// A normal sample's mean and deviation, within five deviations of either.
void expect_normal(const FloatTensor& tensor, double deviation) {
  const auto n = static_cast<double>(tensor.values.size());
  EXPECT_NEAR(mean_of(tensor), 0, 5 * deviation / std::sqrt(n));
  EXPECT_NEAR(deviation_of(tensor), deviation, 5 * deviation / std::sqrt(2 * n));
}

// Within the limit, close to it, and of its deviation, which is limit / sqrt(3).
void expect_uniform(const FloatTensor& tensor, double limit) {
  const auto [low, high] = std::ranges::minmax(tensor.values);
  const auto n = static_cast<double>(tensor.values.size());
  EXPECT_GE(low, -limit * (1 + 1e-7));
  EXPECT_LE(high, limit * (1 + 1e-7));
  EXPECT_GT(high - low, 2 * limit * (1 - 20 / n));
  EXPECT_NEAR(deviation_of(tensor), limit / std::sqrt(3), limit * 2.5 / std::sqrt(n));
}

void expect_all(const FloatTensor& tensor, float value) {
  EXPECT_THAT(tensor.values, testing::Each(value));
}

TEST(InitialiseTest, UNetConvolutionsFollowHe) {
  const FloatTensors weights = unet_weights({.depth = 2, .base = 32});
  expect_normal(weights.at("down0/conv1/weight"), std::sqrt(2.0 / 9));
  expect_normal(weights.at("down0/conv2/weight"), std::sqrt(2.0 / (9 * 32)));
  expect_normal(weights.at("bottom/conv2/weight"), std::sqrt(2.0 / (9 * 128)));
  // Of 2x2 taps at stride 2 one reaches a pixel: N = c_in.
  expect_normal(weights.at("up1/upsample/weight"), std::sqrt(2.0 / 128));
  expect_normal(weights.at("head/conv/weight"), std::sqrt(2.0 / 32));
  expect_all(weights.at("down0/conv1/bias"), 0);
  expect_all(weights.at("up1/upsample/bias"), 0);
}

TEST(InitialiseTest, NormsStartAsTheIdentity) {
  const FloatTensors weights = unet_weights(
      {.depth = 1, .base = 4, .norm = Conv::Norm::kBeforeRelu, .up = UNetConfig::Up::kTransposed3});
  expect_all(weights.at("down0/conv1/norm/weight"), 1);
  expect_all(weights.at("down0/conv1/norm/bias"), 0);
  expect_all(weights.at("down0/conv1/norm/running_mean"), 0);
  expect_all(weights.at("down0/conv1/norm/running_var"), 1);
  expect_normal(weights.at("up0/upsample/weight"), std::sqrt(2.0 * 4 / (8 * 9)));
}

TEST(InitialiseTest, HanFollowsKeras) {
  const HanConfig config{.words = 500,
                         .features = 20,
                         .cell = BiRnn::Cell::kLstm,
                         .units = 30,
                         .dense = 40,
                         .attention = 25,
                         .classes = 6};
  const FloatTensors weights = han_weights(config);
  expect_uniform(weights.at("embedding/weight"), 0.05);
  expect_uniform(weights.at("word/rnn/weight_ih"), std::sqrt(6.0 / (20 + 4 * 30)));
  expect_uniform(weights.at("word/dense/weight"), std::sqrt(6.0 / (60 + 40)));
  expect_uniform(weights.at("word/attention/weight"), std::sqrt(6.0 / (40 + 25)));
  expect_uniform(weights.at("sentence/rnn/weight_ih_reverse"), std::sqrt(6.0 / (40 + 4 * 30)));
  expect_uniform(weights.at("output/weight"), std::sqrt(6.0 / (40 + 6)));
  const auto [low, high] = std::ranges::minmax(weights.at("word/attention/context").values);
  EXPECT_LE(std::max(-low, high), std::sqrt(6.0 / 50));
  expect_all(weights.at("word/attention/bias"), 0);
  expect_all(weights.at("output/bias"), 0);

  // The forget gate is the second of i, f, g, o; its bias is 1 over both bias tensors together.
  for (const char* suffix : {"", "_reverse"}) {
    const auto& bias = weights.at(std::string("word/rnn/bias_ih") + suffix).values;
    ASSERT_EQ(bias.size(), 120u);
    for (std::size_t i = 0; i < bias.size(); ++i)
      EXPECT_EQ(bias[i], i >= 30 && i < 60 ? 1.0f : 0.0f) << i;
    expect_all(weights.at(std::string("word/rnn/bias_hh") + suffix), 0);
  }
}

TEST(InitialiseTest, AGruHasNoForgetBias) {
  const FloatTensors weights = han_weights({.words = 9, .features = 4, .units = 3});
  expect_all(weights.at("word/rnn/bias_ih"), 0);
  EXPECT_EQ(weights.at("word/rnn/weight_hh").shape, (Shape{9, 3}));
}

// The largest deviation of the products of a matrix's rows, or columns, from the identity.
double distance_from_orthonormal(const std::vector<float>& matrix, std::size_t count,
                                 std::size_t length, std::size_t across, std::size_t along) {
  double distance = 0;
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      double product = 0;
      for (std::size_t k = 0; k < length; ++k)
        product += double{matrix[i * across + k * along]} * matrix[j * across + k * along];
      distance = std::max(distance, std::abs(product - (i == j ? 1 : 0)));
    }
  }
  return distance;
}

TEST(InitialiseTest, RecurrentMatricesAreOrthogonalOverAllGates) {
  // Keras' (units, 4 units) with orthonormal rows is our (4 units, units) with orthonormal columns.
  const HanConfig config{.words = 9, .features = 4, .cell = BiRnn::Cell::kLstm, .units = 50};
  const FloatTensor weight = han_weights(config).at("word/rnn/weight_hh");
  ASSERT_EQ(weight.shape, (Shape{200, 50}));
  // 200 products of numbers of order 0.07, each rounded to 2^-25 of itself.
  EXPECT_LE(distance_from_orthonormal(weight.values, 50, 200, 1, 50), 1e-7);
}

TEST(InitialiseTest, OrthogonalDrawsTakeEveryShape) {
  for (const auto& [rows, columns] : {std::pair{1, 1}, {7, 7}, {12, 5}, {5, 12}}) {
    std::vector<float> matrix(static_cast<std::size_t>(rows * columns));
    draw_orthogonal(rows, columns, 3, 4, matrix);
    const auto r = static_cast<std::size_t>(rows), c = static_cast<std::size_t>(columns);
    if (rows >= columns) {
      EXPECT_LE(distance_from_orthonormal(matrix, c, r, 1, c), 1e-6);
    }
    if (columns >= rows) {
      EXPECT_LE(distance_from_orthonormal(matrix, r, c, c, 1), 1e-6);
    }
  }
}

TEST(InitialiseTest, OrthogonalDrawsAreTheQOfTheirNormals) {
  // The first vector is the first normals, scaled with a positive factor: R's diagonal is positive.
  std::vector<float> matrix(6 * 2);
  draw_orthogonal(6, 2, 3, 4, matrix);
  Random random(3, 4);
  double normals[6], norm = 0;
  for (double& value : normals) norm += std::pow(value = random.normal(), 2);
  for (std::size_t i = 0; i < 6; ++i)
    EXPECT_NEAR(matrix[2 * i], normals[i] / std::sqrt(norm), 1e-7);
}

bool operator_equal(const FloatTensors& a, const FloatTensors& b) {
  return std::ranges::equal(a, b, [](const auto& x, const auto& y) {
    return x.first == y.first && x.second.values == y.second.values;
  });
}

TEST(InitialiseTest, SeedAndNameDecideAndThreadsDoNot) {
  const UNetConfig config{.depth = 2, .base = 32};
  const FloatTensors one = unet_weights(config, 5, 1);
  EXPECT_TRUE(operator_equal(one, unet_weights(config, 5, 3)));
  EXPECT_FALSE(operator_equal(one, unet_weights(config, 6, 1)));
  // Another depth leaves the tensors that both have as they were.
  const FloatTensors deeper = unet_weights({.depth = 3, .base = 32}, 5, 1);
  EXPECT_EQ(one.at("down1/conv2/weight").values, deeper.at("down1/conv2/weight").values);
  EXPECT_NE(one.at("down1/conv2/weight").values, one.at("up1/conv2/weight").values);
}

TEST(InitialiseTest, InputsOfAnotherTypeAreAnError) {
  const std::vector<TensorType> inputs{{DType::kF32, {1, 3, 3, 1}}};
  EXPECT_THROW(initial_weights(build_unet({.depth = 4}, true), inputs, 1, 1), Error);
}

}  // namespace
}  // namespace tessera
