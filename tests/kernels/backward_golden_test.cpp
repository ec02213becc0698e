// Training runs, reference and CPU, against what PyTorch's autograd computed in double.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/backward_check.h"
#include "tests/support/golden.h"
#include "tests/support/golden_ops.h"

namespace tessera::test {
namespace {

using nlohmann::json;

// The reference computes in double from f32 operands, of which those that the forward run saved
// (outputs, gates, statistics) are rounded: a few 2^-24 of the largest value. The CPU's sums of at
// most 400 products round in each, and Winograd's coefficients amplify that.
constexpr double kReference = 0x1p-21;
constexpr double kCpu = 0x1p-15;

// `share` of the largest element.
void expect_near(const Tensor& result, const Tensor& golden, double share,
                 const std::string& what) {
  SCOPED_TRACE(what);
  double largest = 0;
  for (const float value : golden.values()) largest = std::max<double>(largest, std::abs(value));
  expect_close(result, golden, {share * largest + 1e-12, share});
}

template <class Build>
void check_goldens(const char* name, const Build& build) {
  const std::vector<GoldenCase> goldens = load_goldens(name, "backward");
  EXPECT_FALSE(goldens.empty());
  for (const GoldenCase& golden : goldens) {
    SCOPED_TRACE(golden.name);
    const auto op = build(golden.attributes);
    TrainCase<std::remove_const_t<decltype(op)>> c{
        op, golden.inputs, {}, {}, golden.output_gradients};
    std::vector<std::string> names;
    for (const Parameter& parameter : parameters(op, types(golden.inputs))) {
      ASSERT_TRUE(golden.weights.contains(parameter.name)) << parameter.name;
      c.weights.push_back(golden.weights.at(parameter.name));
      names.push_back(parameter.name);
    }
    ASSERT_EQ(names.size(), golden.weights.size());
    const auto check = [&](const TrainResult& forward, const Gradients& gradients, double share) {
      for (std::size_t i = 0; i < golden.outputs.size(); ++i)
        expect_near(forward.outputs[i], golden.outputs[i], share, fmt::format("output {}", i));
      for (std::size_t i = 0; i < golden.input_gradients.size(); ++i)
        expect_near(gradients.inputs[i], golden.input_gradients[i], share,
                    fmt::format("gradient of input {}", i));
      for (std::size_t i = 0; i < names.size(); ++i) {
        if (const auto after = golden.weights_after.find(names[i]);
            after != golden.weights_after.end()) {
          expect_near(forward.weights[i], after->second, share, names[i] + " after");
          continue;
        }
        ASSERT_TRUE(golden.weight_gradients.contains(names[i])) << names[i];
        // The CPU adds to what is there already, with the rounding of that.
        const Tensor earlier = earlier_gradients(c, false)[i];
        const std::vector<float> sums = gradients.weights[i].values(), before = earlier.values();
        std::vector<float> values(sums.size());
        for (std::size_t j = 0; j < sums.size(); ++j) values[j] = sums[j] - before[j];
        expect_near(Tensor::of(earlier.type().shape, values), golden.weight_gradients.at(names[i]),
                    std::max(share, 0x1p-19), "gradient of " + names[i]);
      }
    };
    const TrainResult reference = train_by_reference(c);
    {
      SCOPED_TRACE("reference");
      check(reference, backward_by_reference(c, reference, false), kReference);
    }
    SCOPED_TRACE("cpu");
    const TrainResult forward = train_on_cpu(c, 2);
    check(forward, backward_on_cpu(c, forward, 2), kCpu);
  }
}

TEST(BackwardGolden, Activation) {
  check_goldens("activation", filled_op<Activation>);
}

TEST(BackwardGolden, Attention) {
  check_goldens("attention", [](const json& attributes) {
    Attention op = filled<Attention>(attributes, {"dense"});
    if (const int units = attributes.at("dense"); units > 0) op.dense = Linear{units, true};
    return op;
  });
}

TEST(BackwardGolden, BatchNorm) {
  check_goldens("batch_norm", filled_op<BatchNorm>);
}

TEST(BackwardGolden, Conv) {
  check_goldens("conv", conv_of);
}

TEST(BackwardGolden, ConvTranspose) {
  check_goldens("conv_transpose", conv_transpose_of);
}

TEST(BackwardGolden, CropConcat) {
  check_goldens("crop_concat", filled_op<CropConcat>);
}

TEST(BackwardGolden, Embedding) {
  check_goldens("embedding", filled_op<Embedding>);
}

TEST(BackwardGolden, Linear) {
  check_goldens("linear", filled_op<Linear>);
}

TEST(BackwardGolden, MaxPool) {
  check_goldens("max_pool", filled_op<MaxPool>);
}

TEST(BackwardGolden, Rnn) {
  check_goldens("rnn", filled_op<BiRnn>);
}

TEST(BackwardGolden, Softmax) {
  check_goldens("softmax", filled_op<Softmax>);
}

TEST(BackwardGolden, Upsample) {
  check_goldens("upsample", filled_op<Upsample>);
}

TEST(BackwardGolden, ConvOfAnyWindow) {
  check_goldens("conv_window", filled_op<Conv>);
}

TEST(BackwardGolden, ConvTransposeOfAnyWindow) {
  check_goldens("conv_transpose_window", filled_op<ConvTranspose>);
}

TEST(BackwardGolden, ActivationKinds) {
  check_goldens("activation_kinds", filled_op<Activation>);
}

TEST(BackwardGolden, Binary) {
  check_goldens("binary", filled_op<Binary>);
}

TEST(BackwardGolden, Concat) {
  check_goldens("concat", filled_op<Concat>);
}

TEST(BackwardGolden, GroupNorm) {
  check_goldens("group_norm", filled_op<GroupNorm>);
}

TEST(BackwardGolden, Resize) {
  check_goldens("resize", filled_op<Resize>);
}

TEST(BackwardGolden, AvgPool) {
  check_goldens("avg_pool", filled_op<AvgPool>);
}

TEST(BackwardGolden, Reduce) {
  check_goldens("reduce", filled_op<Reduce>);
}

TEST(BackwardGolden, MaxPoolOfAnyWindow) {
  check_goldens("max_pool_window", filled_op<MaxPool>);
}

}  // namespace
}  // namespace tessera::test
