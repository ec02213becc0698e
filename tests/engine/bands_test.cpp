// Bands of rows against the whole, to the byte, and the plan by itself.
#include <gmock/gmock.h>

#include <cstring>

#include "engine/passes/passes.h"
#include "models/networks/unet.h"
#include "tests/support/network.h"

namespace tessera {
namespace {

using test::RandomWeights;
using test::Tensor;
using testing::HasSubstr;

// Outputs of a run in bands; every row of them must come once, in order.
std::vector<Tensor> run_in_bands(Executor& executor, const Graph& graph, const Tensor& image,
                                 Interval wanted, std::int64_t rows) {
  const BandedPlan plan = executor.plan_bands(graph, image.type(), wanted, rows);
  std::vector<Tensor> outputs;
  for (const ValueId value : graph.outputs) {
    TensorType type = plan.types[value];
    type.shape[1] = wanted.size();
    outputs.emplace_back(type);
  }
  std::vector<std::int64_t> done(outputs.size(), wanted.begin);
  std::int64_t filled = -1;
  const auto copy = [](const TensorView& whole, Interval at, const TensorView& part, bool out) {
    const std::size_t row = part.type.bytes() / static_cast<std::size_t>(at.size());
    std::byte* place = whole.as<std::byte>() + static_cast<std::size_t>(at.begin) * row;
    std::memcpy(out ? place : part.as<std::byte>(), out ? part.as<std::byte>() : place,
                part.type.bytes());
  };
  executor.run_bands(
      plan,
      [&](Interval at, const TensorView& to) {
        EXPECT_TRUE(filled < 0 || at.begin == filled);
        EXPECT_LE(at.size(), rows);
        filled = at.end;
        copy(image.view(), at, to, false);
      },
      [&](std::size_t output, Interval at, const TensorView& from) {
        EXPECT_EQ(at.begin, done[output]);
        done[output] = at.end;
        copy(outputs[output].view(), {at.begin - wanted.begin, at.end - wanted.begin}, from, true);
      });
  for (const std::int64_t end : done) EXPECT_EQ(end, wanted.end);
  return outputs;
}

bool writes_beyond(const Op& op) {
  const auto* up = std::get_if<ConvTranspose>(&op);
  return up != nullptr && up->kernel == 3;
}

// Walks the plan on numbers: what is read was made and is held, and each row is made once.
void check_plan(const Graph& graph, const std::vector<std::int64_t>& sizes, Interval wanted,
                std::int64_t rows) {
  Bands bands(graph, sizes, wanted, rows);
  const AxisPiece need = needs(graph, 1, sizes, wanted);
  std::vector<std::int64_t> made(sizes.size(), -1);
  std::vector<Interval> held = bands.held();
  while (const std::optional<Band> band = bands.next()) {
    made[graph.inputs[0]] = band->input.end;
    for (const BandStep& step : band->steps) {
      const Node& node = graph.nodes[step.node];
      for (std::size_t k = 0; k < node.inputs.size(); ++k) {
        ASSERT_GE(step.reads[k].begin, held[node.inputs[k]].begin) << node.name;
        ASSERT_LE(step.reads[k].end, made[node.inputs[k]]) << node.name;
      }
      for (std::size_t k = 0; k < node.outputs.size(); ++k) {
        std::int64_t& end = made[node.outputs[k]];
        if (end >= 0) {
          ASSERT_EQ(step.makes[k].begin, end) << node.name << " makes rows again, or leaves some";
        } else {
          ASSERT_LE(step.makes[k].begin, need.nodes[step.node].outputs[k].begin) << node.name;
        }
        ASSERT_GE(step.writes[k].end, step.makes[k].end);
        const bool is_last = step.makes[k].end >= need.nodes[step.node].outputs[k].end;
        if (!writes_beyond(node.op) && !is_last) {
          ASSERT_EQ(step.writes[k], step.makes[k]) << node.name;
        }
        end = step.makes[k].end;
      }
    }
    held = bands.held();
  }
  for (std::size_t i = 0; i < graph.nodes.size(); ++i)
    ASSERT_GE(made[graph.nodes[i].outputs[0]], need.nodes[i].outputs[0].end);
}

struct BandCase {
  const char* name;
  Graph graph;  // as it is made, with an input of `channels`
  std::int64_t channels = 1;
  DType precision = DType::kF32;
  bool winograd = true;
};

void PrintTo(const BandCase& one, std::ostream* out) {
  *out << one.name;
}

UNetConfig small_same_unet(UNetConfig::Up up, bool align_corners) {
  return {.depth = 2,
          .base = 16,
          .padding = UNetConfig::Padding::kSame,
          .up = up,
          .align_corners = align_corners};
}
const UNetConfig kValidUNet{.depth = 2, .base = 16};
const UNetConfig kTutorialUNet{.depth = 2,
                               .base = 16,
                               .norm = Conv::Norm::kAfterRelu,
                               .up = UNetConfig::Up::kTransposed3,
                               .skip_first = false,
                               .head = UNetConfig::HeadKind::kConv3};

// A chain of operators on an image of 4 channels, some of which change its size.
Graph chain_of(std::vector<Op> ops) {
  Graph graph;
  ValueId last = graph.add_input("image");
  for (std::size_t i = 0; i < ops.size(); ++i)
    last = graph.add("node" + std::to_string(i), std::move(ops[i]), {last});
  graph.outputs = {last};
  return graph;
}

// An encoder of strided convolutions and a decoder of general operators, with a skip that waits.
Graph strided_network() {
  Graph graph;
  const ValueId image = graph.add_input("image");
  const ValueId wide = graph.add("wide", Conv{.c_out = 16, .window = square(5, 2)}, {image});
  const ValueId half = graph.add("half", Conv{.c_out = 16, .window = square(3, 1, 2)}, {wide});
  const ValueId quarter = graph.add("quarter", MaxPool{.window = square(3, 1, 2)}, {half});
  const ValueId deep = graph.add("deep", Conv{.c_out = 16, .window = same(3)}, {quarter});
  const ValueId up =
      graph.add("up", Resize{.mode = Resize::Mode::kLinear, .scale_h = 2, .scale_w = 2}, {deep});
  const ValueId crop = graph.add("crop", CropConcat{CropConcat::Align::kPadUp}, {half, up});
  const ValueId mixed = graph.add("mixed", Conv{.c_out = 8, .window = same(3)}, {crop});
  const ValueId full = graph.add(
      "full", ConvTranspose{.c_out = 16, .kernel = 0, .window = square(4, 1, 2)}, {mixed});
  const ValueId last = graph.add("last", CropConcat{CropConcat::Align::kPadUp}, {wide, full});
  graph.outputs = {graph.add("end", Conv{.c_out = 2, .window = square(1)}, {last})};
  return graph;
}

class BandsOf : public testing::TestWithParam<BandCase> {};

TEST_P(BandsOf, EqualTheWholeToTheByte) {
  const BandCase& one = GetParam();
  const auto type = [&](std::int64_t height) {
    return TensorType{DType::kF32, {1, height, 52, one.channels}};
  };
  RandomWeights weights;
  const std::vector<TensorType> example{type(64)};
  const Graph graph = optimise_for_cpu(one.graph, example, one.precision, one.winograd);
  Executor executor(graph, weights.source(), example, open_cpu_device(2));
  int ran = 0;
  for (const std::int64_t height : {44, 60, 64, 65, 79, 139, 188}) {
    const Tensor image = test::random(type(height).shape, 11);
    const Tensor other = test::random(type(height).shape, 12);
    std::vector<Tensor> whole;
    try {
      whole = test::run_executor(executor, {image});
    } catch (const Error&) {
      continue;  // a size that the network does not take
    }
    ++ran;
    const std::vector<std::int64_t> sizes =
        sizes_along(infer_types(graph, std::vector{image.type()}), 1);
    const std::int64_t end = sizes[graph.outputs[0]];
    for (const std::int64_t rows : {1, 8, 33, 300}) {
      SCOPED_TRACE(fmt::format("{} rows in bands of {}", height, rows));
      ASSERT_NO_FATAL_FAILURE(check_plan(graph, sizes, {0, end}, rows));
      if (rows == 8)  // other values lie in the memory then
        run_in_bands(executor, graph, other, {0, end}, rows);
      const std::vector<Tensor> made = run_in_bands(executor, graph, image, {0, end}, rows);
      for (std::size_t k = 0; k < whole.size(); ++k) ASSERT_TRUE(made[k].same_bytes(whole[k]));
    }
    const Interval some{end / 3, std::max(end * 2 / 3, end / 3 + 1)};
    ASSERT_NO_FATAL_FAILURE(check_plan(graph, sizes, some, 7));
    const std::vector<Tensor> made = run_in_bands(executor, graph, image, some, 7);
    for (std::size_t k = 0; k < whole.size(); ++k) {
      const std::size_t row = whole[k].type().bytes() / static_cast<std::size_t>(end);
      ASSERT_EQ(0, std::memcmp(
                       made[k].view().as<std::byte>(),
                       whole[k].view().as<std::byte>() + row * static_cast<std::size_t>(some.begin),
                       made[k].type().bytes()));
    }
  }
  EXPECT_GE(ran, 2);
}

Graph unet(const UNetConfig& config) {
  return build_unet(config, true);
}

INSTANTIATE_TEST_SUITE_P(
    Networks, BandsOf,
    testing::Values(
        BandCase{"valid_direct", unet(kValidUNet), 1, DType::kF32, false},
        BandCase{"valid_winograd", unet(kValidUNet)},
        BandCase{"valid_bf16", unet(kValidUNet), 1, DType::kBF16, false},
        BandCase{"tutorial_direct", unet(kTutorialUNet), 1, DType::kF32, false},
        BandCase{"tutorial_winograd", unet(kTutorialUNet)},
        BandCase{"same_direct", unet(small_same_unet(UNetConfig::Up::kTransposed2, false)), 1,
                 DType::kF32, false},
        BandCase{"same_winograd", unet(small_same_unet(UNetConfig::Up::kTransposed2, false))},
        BandCase{"bilinear", unet(small_same_unet(UNetConfig::Up::kBilinear, false))},
        BandCase{"aligned", unet(small_same_unet(UNetConfig::Up::kBilinear, true))},
        BandCase{"aligned_bf16", unet(small_same_unet(UNetConfig::Up::kBilinear, true)), 1,
                 DType::kBF16, false},
        BandCase{"strided", strided_network(), 3},
        BandCase{"pads",
                 chain_of({Pad{.mode = Pad::Mode::kReflect, .pads = {0, 5, 2, 0, 0, 9, 3, 0}},
                           Conv{.c_out = 16, .window = square(3)},
                           Conv{.c_out = 16, .window = square(3)},
                           Slice{.starts = {3}, .ends = {-2}, .axes = {1}, .steps = {1}},
                           AvgPool{.window = square(2, 0, 2)}, Upsample{true},
                           Activation{Activation::Kind::kSigmoid}}),
                 3},
        BandCase{"cubic",
                 chain_of({Resize{.mode = Resize::Mode::kCubic, .scale_h = 0.6, .scale_w = 1},
                           ConvTranspose{.c_out = 4, .kernel = 3},
                           Conv{.c_out = 3, .window = square(3, 2, 1)}, Softmax{}, Argmax{}}),
                 2}),
    testing::PrintToStringParamName());

TEST(Bands, OfWhatReadsEverythingAreRefused) {
  for (const Op& op : std::vector<Op>{GroupNorm{}, Reduce{.axes = {1, 2}}}) {
    const Graph graph = chain_of({Conv{.c_out = 4, .window = same(3)}, op});
    const std::vector<std::int64_t> sizes =
        sizes_along(infer_types(graph, std::vector<TensorType>{{DType::kF32, {1, 40, 30, 4}}}), 1);
    EXPECT_THAT(why_not_in_bands(graph, sizes), HasSubstr("node 'node1'"));
    EXPECT_THROW(Bands(graph, sizes, {0, 1}, 8), Error);
  }
}

TEST(Bands, MemoryDoesNotGrowWithTheHeight) {
  const UNetConfig config = small_same_unet(UNetConfig::Up::kTransposed2, false);
  const std::vector<TensorType> example{{DType::kF32, {1, 64, 64, 1}}};
  RandomWeights weights;
  Executor executor(optimise_for_cpu(build_unet(config, false), example, DType::kF32),
                    weights.source(), example, open_cpu_device(1));
  const auto peak = [&](std::int64_t height) {
    return executor.plan_bands(executor.graph(), {DType::kF32, {1, height, 64, 1}}, {0, height}, 16)
        .plan.peak;
  };
  EXPECT_EQ(peak(4096), peak(1024));
  const Plan whole = executor.plan(std::vector<TensorType>{{DType::kF32, {1, 1024, 64, 1}}});
  EXPECT_LT(peak(1024), whole.peak / 2);
}

TEST(Bands, AskedForWhatIsNotThereAreRefused) {
  const Graph graph = chain_of({Conv{.c_out = 4, .window = same(3)}});
  const std::vector<std::int64_t> sizes{40, 40};
  EXPECT_THROW(Bands(graph, sizes, {0, 41}, 8), Error);
  EXPECT_THROW(Bands(graph, sizes, {8, 8}, 8), Error);
  EXPECT_THROW(Bands(graph, sizes, {0, 8}, 0), Error);
}

}  // namespace
}  // namespace tessera
