// Every operator, reference and CPU, against what PyTorch computed in double: without it, a mistake
// shared by our reference and our fast path would pass.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/ops/ops.h"
#include "tests/support/golden.h"
#include "tests/support/golden_ops.h"

namespace tessera::test {
namespace {

using nlohmann::json;

// Both sides round a double to f32 once: two halves of a unit in the last place, 2^-24 each,
// relative. The absolute part is what cancellation leaves of double's own rounding.
constexpr Bound kRoundingOfStoredValues{1e-12, 0x1p-23};

// Checks all cases of `op_name`. `build` makes the operator of the attributes; `terms` tells how
// many f32 roundings can add up in one output of its CPU path.
template <class Build, class Terms>
void check_goldens(const char* op_name, const Build& build, const Terms& terms) {
  const std::vector<GoldenCase> cases = load_goldens(op_name);
  EXPECT_FALSE(cases.empty());
  for (const GoldenCase& golden : cases) {
    SCOPED_TRACE(golden.name);
    const auto op = build(golden.attributes);
    std::vector<Tensor> weights;
    for (const Parameter& parameter : parameters(op, types(golden.inputs))) {
      ASSERT_TRUE(golden.weights.contains(parameter.name)) << parameter.name;
      weights.push_back(golden.weights.at(parameter.name));
    }
    ASSERT_EQ(weights.size(), golden.weights.size());

    expect_close(run_reference(op, golden.inputs, weights), golden.outputs, kRoundingOfStoredValues,
                 "output of the reference");
    expect_close(run_cpu(op, golden.inputs, weights, 2), golden.outputs, sum_bound(terms(golden)),
                 "output of the CPU");
  }
}

std::int64_t last_extent(const GoldenCase& golden) {
  return golden.inputs[0].type().shape[-1];
}

// All values of one filter, of one gate or of one unit.
std::int64_t filter_size(const Tensor& weight) {
  const Shape& shape = weight.type().shape;
  return shape.elements(1, shape.rank());
}

TEST(Golden, Activation) {
  check_goldens("activation", filled_op<Activation>, [](const GoldenCase&) { return 1; });
}

// The formulas in double, or a few vector operations; the sigmoid of SiLU is within 4 ULP. Values
// of x itself reach 1e4, and PyTorch's own SELU loses a digit to its constants.
TEST(Golden, ActivationKinds) {
  check_goldens("activation_kinds", filled_op<Activation>, [](const GoldenCase&) { return 4; });
}

TEST(Golden, Argmax) {
  check_goldens("argmax", filled_op<Argmax>, [](const GoldenCase&) { return 0; });
}

TEST(Golden, Attention) {
  check_goldens("attention", filled_op<Attention>,
                // exp turns an absolute error of a score into a relative one; each of the score's
                // terms may be wrong by its context weight times the rounding of one projection.
                [](const GoldenCase& golden) {
                  double context = 0;
                  for (const float value : golden.weights.at("context").values())
                    context += std::abs(value);
                  return static_cast<std::int64_t>(std::ceil(context)) * (last_extent(golden) + 1) +
                         golden.inputs[0].type().shape[-2];
                });
}

TEST(Golden, AvgPool) {
  check_goldens("avg_pool", filled_op<AvgPool>, [](const GoldenCase& golden) {
    const auto& kernel = golden.attributes.at("kernel");
    return kernel.at(0).get<std::int64_t>() * kernel.at(1).get<std::int64_t>();
  });
}

TEST(Golden, BatchNorm) {
  check_goldens("batch_norm", filled_op<BatchNorm>, [](const GoldenCase&) { return 2; });
}

TEST(Golden, Binary) {
  check_goldens("binary", filled_op<Binary>, [](const GoldenCase&) { return 1; });
}

TEST(Golden, Concat) {
  check_goldens("concat", filled_op<Concat>, [](const GoldenCase&) { return 0; });
}

TEST(Golden, Conv) {
  check_goldens(
      "conv",
      [](const json& attributes) {
        Conv op = conv_of(attributes);
        const json& norm = attributes.at("norm");
        op.norm = norm == "before_relu"  ? Conv::Norm::kBeforeRelu
                  : norm == "after_relu" ? Conv::Norm::kAfterRelu
                                         : Conv::Norm::kNone;
        op.batch_norm.eps = attributes.at("norm_eps");
        if (const json& concat = attributes.at("concat"); !concat.is_null())
          op.concat = filled<CropConcat>(concat);
        op.pool = attributes.at("pool");
        return op;
      },
      // The products, bias and the two roundings of the norm.
      [](const GoldenCase& golden) { return filter_size(golden.weights.at("weight")) + 3; });
}

TEST(Golden, ConvWindow) {
  check_goldens("conv_window", filled_op<Conv>, [](const GoldenCase& golden) {
    return filter_size(golden.weights.at("weight")) + 1;
  });
}

TEST(Golden, ConvTranspose) {
  check_goldens(
      "conv_transpose", conv_transpose_of,
      // At most four taps of a 3x3 kernel reach one output pixel, and one of a 2x2 kernel.
      [](const GoldenCase& golden) { return 4 * last_extent(golden) + 1; });
}

TEST(Golden, ConvTransposeWindow) {
  check_goldens("conv_transpose_window", filled_op<ConvTranspose>, [](const GoldenCase& golden) {
    const Shape& shape = golden.weights.at("weight").type().shape;
    return shape[0] * shape.elements(2, 4) + 1;
  });
}

TEST(Golden, CropConcat) {
  check_goldens("crop_concat", filled_op<CropConcat>, [](const GoldenCase&) { return 0; });
}

TEST(Golden, Dropout) {
  check_goldens("dropout", filled_op<Dropout>, [](const GoldenCase&) { return 0; });
}

TEST(Golden, Embedding) {
  check_goldens("embedding", filled_op<Embedding>, [](const GoldenCase&) { return 0; });
}

// x - mean, the product and the sum, of values within 5 deviations; a mean of 100 rounds to 2^-18.
TEST(Golden, GroupNorm) {
  check_goldens("group_norm", filled_op<GroupNorm>,
                [](const GoldenCase& golden) { return golden.name == "far_from_zero" ? 200 : 10; });
}

TEST(Golden, Head) {
  check_goldens("head", filled_op<Head>,
                // The products, then the sum over the classes.
                [](const GoldenCase& golden) {
                  return last_extent(golden) + golden.weights.at("weight").type().shape[0] + 1;
                });
}

TEST(Golden, LayerNorm) {
  check_goldens("layer_norm", filled_op<LayerNorm>, [](const GoldenCase&) { return 10; });
}

TEST(Golden, Linear) {
  check_goldens("linear", filled_op<Linear>,
                [](const GoldenCase& golden) { return last_extent(golden) + 1; });
}

TEST(Golden, MaxPool) {
  check_goldens("max_pool", filled_op<MaxPool>, [](const GoldenCase&) { return 0; });
}

TEST(Golden, MaxPoolWindow) {
  check_goldens("max_pool_window", filled_op<MaxPool>, [](const GoldenCase&) { return 0; });
}

TEST(Golden, Pad) {
  check_goldens("pad", filled_op<Pad>, [](const GoldenCase&) { return 0; });
}

TEST(Golden, Reduce) {
  check_goldens("reduce", filled_op<Reduce>, [](const GoldenCase&) { return 1; });
}

TEST(Golden, Reshape) {
  check_goldens("reshape", filled_op<Reshape>, [](const GoldenCase&) { return 0; });
}

// 16 products of the cubic.
TEST(Golden, Resize) {
  check_goldens("resize", filled_op<Resize>, [](const GoldenCase&) { return 16; });
}

TEST(Golden, Rnn) {
  check_goldens(
      "rnn",
      [](const json& attributes) {
        BiRnn op = filled<BiRnn>(attributes, {"embedding"});
        if (const json& table = attributes.at("embedding"); !table.is_null())
          op.embedding = filled<Embedding>(table);
        return op;
      },
      // Both products of a gate, at every step, since each step's error is carried into the next.
      [](const GoldenCase& golden) {
        const Shape& output = golden.outputs[0].type().shape;
        return output[-2] * (filter_size(golden.weights.at("weight_ih")) +
                             filter_size(golden.weights.at("weight_hh")) + 2);
      });
}

TEST(Golden, Slice) {
  check_goldens("slice", filled_op<Slice>, [](const GoldenCase&) { return 0; });
}

TEST(Golden, Softmax) {
  check_goldens("softmax", filled_op<Softmax>,
                [](const GoldenCase& golden) { return last_extent(golden); });
}

TEST(Golden, Transpose) {
  check_goldens("transpose", filled_op<Transpose>, [](const GoldenCase&) { return 0; });
}

TEST(Golden, Upsample) {
  check_goldens("upsample", filled_op<Upsample>, [](const GoldenCase&) { return 4; });
}

}  // namespace
}  // namespace tessera::test
