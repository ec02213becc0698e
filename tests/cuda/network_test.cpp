// Whole networks on the GPU: the same graph, executor and weights as on the CPU.
#include <gmock/gmock.h>

#include <cmath>
#include <cstdlib>

#include "engine/device/device.h"
#include "models/networks/published_images.h"
#include "models/session.h"
#include "tests/support/cuda_check.h"
#include "tests/support/network.h"
#include "tests/support/paths.h"

namespace tessera::test {
namespace {

using testing::HasSubstr;

Executor make_executor(const Graph& plain, RandomWeights& weights, Types inputs,
                       Precision precision) {
  const std::shared_ptr<Device> device = open_cuda_device(kAnyGpu, precision);
  return {device->optimise(plain, inputs, true), weights.source(), inputs, device};
}

// What a precision may do to the probabilities of these networks. fp32: as on a CPU. The others
// round each of up to 25 maps and their weights to 8 (bf16) or 11 bits (fp16, tf32), partly
// averaged out; probabilities have slope at most 1/4 in a logit of order one.
Bound network_bound(Precision precision) {
  switch (precision) {
    case Precision::kFp32:
      return kNetworkBound;
    case Precision::kBf16:
      return {0.08, 0};
    default:
      return {0.01, 0};
  }
}

constexpr Precision kPrecisions[] = {Precision::kFp32, Precision::kTf32, Precision::kBf16,
                                     Precision::kFp16};

class CudaUNet : public CudaTest, public testing::WithParamInterface<UNetVariant> {};

INSTANTIATE_TEST_SUITE_P(Variants, CudaUNet, testing::ValuesIn(unet_variants()),
                         testing::PrintToStringParamName());

TEST_P(CudaUNet, AgreesWithTheReferenceAndTheCpu) {
  const UNetVariant& one = GetParam();
  const std::vector<Tensor> input{random({1, one.height, one.width, one.config.channels}, 3)};
  const Graph plain = build_unet(one.config, true);
  RandomWeights weights;
  const std::vector<Tensor> expected = run_graph_reference(plain, weights.source(), input);
  const std::shared_ptr<Device> cpu = open_cpu_device(2);
  Executor cpu_executor(cpu->optimise(plain, types(input), true), weights.source(), types(input),
                        cpu);
  const std::vector<Tensor> on_cpu = run_executor(cpu_executor, input);
  for (const Precision precision : kPrecisions) {
    SCOPED_TRACE(name_of(precision));
    Executor executor = make_executor(plain, weights, types(input), precision);
    const std::vector<Tensor> result = run_executor(executor, input);
    expect_close(result[1], expected[1], network_bound(precision));
    expect_close(result[1], on_cpu[1], network_bound(precision));
    if (precision == Precision::kFp32) expect_close(result[0], expected[0], {});
  }
}

TEST_P(CudaUNet, AnImageAloneGivesTheBytesOfItsRowInABatch) {
  const UNetVariant& one = GetParam();
  UNetConfig config = one.config;
  config.base = 8;
  const Tensor batch = random({2, one.height, one.width, config.channels}, 5);
  RandomWeights weights;
  Executor executor =
      make_executor(build_unet(config, true), weights, types({batch}), Precision::kBf16);
  const std::vector<Tensor> all = run_executor(executor, {batch});
  for (std::int64_t row = 0; row < 2; ++row) {
    const std::vector<Tensor> alone = run_executor(executor, {rows_of(batch, row, row + 1)});
    for (std::size_t i = 0; i < all.size(); ++i)
      EXPECT_TRUE(rows_of(all[i], row, row + 1).same_bytes(alone[i])) << "row " << row;
  }
}

using CudaHostStep = CudaTest;

// No kernel has layer norm: the host computes it between copies, also in 16 bits, and such a run is
// never recorded.
TEST_F(CudaHostStep, ComputesWhatNoKernelServes) {
  Graph graph;
  ValueId x = graph.add_input("image");
  x = graph.add("stem", Conv{.c_out = 16, .window = same(3)}, {x});
  x = graph.add("stem/norm", LayerNorm{}, {x});
  x = graph.add("stem/relu", Activation{}, {x});
  x = graph.add("head", Conv{.c_out = 3, .window = square(1)}, {x});
  graph.outputs = {graph.add("softmax", Softmax{}, {x})};
  const std::vector<Tensor> input{random({2, 13, 18, 3}, 7)};
  RandomWeights weights;
  const std::vector<Tensor> expected = run_graph_reference(graph, weights.source(), input);
  for (const Precision precision : kPrecisions) {
    SCOPED_TRACE(name_of(precision));
    Executor executor = make_executor(graph, weights, types(input), precision);
    const std::vector<Tensor> first = run_executor(executor, input);
    expect_close(first[0], expected[0], network_bound(precision));
    for (int again = 0; again < 3; ++again)
      EXPECT_TRUE(run_executor(executor, input)[0].same_bytes(first[0]));
    EXPECT_EQ(executor.replay_seconds(types(input), 1), 0);
  }
}

using CudaPublished = CudaTest;

// Logits of order one; 16 bits round each of some 40 maps.
Bound published_bound(Precision precision) {
  switch (precision) {
    case Precision::kFp32:
      return {1e-4, 1e-4};
    case Precision::kBf16:
      return {0.15, 0.05};
    default:
      return {0.03, 0.01};
  }
}

// On the GPU alone, as the references and the CPU have it, and recorded: no step is the host's.
void check_published(const Graph& plain, const Shape& image) {
  const std::vector<Tensor> input{random(image, 1)};
  RandomWeights weights;
  const std::vector<Tensor> expected = run_graph_reference(plain, weights.source(), input);
  const std::shared_ptr<Device> cpu = open_cpu_device(2);
  Executor cpu_executor(cpu->optimise(plain, types(input), true), weights.source(), types(input),
                        cpu);
  const std::vector<Tensor> on_cpu = run_executor(cpu_executor, input);
  for (const Precision precision : kPrecisions) {
    SCOPED_TRACE(name_of(precision));
    Executor executor = make_executor(plain, weights, types(input), precision);
    const Tensor first = run_executor(executor, input)[0];
    expect_close(first.rounded_to(DType::kF32), expected[0], published_bound(precision));
    expect_close(first.rounded_to(DType::kF32), on_cpu[0], published_bound(precision));
    for (const char* run : {"recorded", "replayed"})
      EXPECT_TRUE(run_executor(executor, input)[0].same_bytes(first)) << run;
    EXPECT_GT(executor.replay_seconds(types(input), 1), 0) << "a step is the host's";
  }
}

TEST_F(CudaPublished, AResNetUNetRunsOnTheGpuAlone) {
  check_published(resnet_unet({1, 2, 1, 1}, 16, 3).network.graph, {1, 32, 32, 3});
}

TEST_F(CudaPublished, AnNnUNetRunsOnTheGpuAlone) {
  check_published(plain_nnunet(1, {16, 24, 40}, 2).network.graph, {2, 16, 20, 1});
}

class CudaHan : public CudaTest, public testing::WithParamInterface<HanVariant> {};

INSTANTIATE_TEST_SUITE_P(Variants, CudaHan, testing::ValuesIn(han_variants()),
                         testing::PrintToStringParamName());

TEST_P(CudaHan, AgreesWithTheReferenceAndTheCpu) {
  const HanConfig& config = GetParam().config;
  const std::vector<Tensor> inputs = han_inputs(config);
  const Graph plain = build_han(config);
  RandomWeights weights;
  const std::vector<Tensor> expected = run_graph_reference(plain, weights.source(), inputs);
  const std::shared_ptr<Device> cpu = open_cpu_device(2);
  Executor cpu_executor(cpu->optimise(plain, types(inputs), true), weights.source(), types(inputs),
                        cpu);
  const std::vector<Tensor> on_cpu = run_executor(cpu_executor, inputs);
  for (const Precision precision : kPrecisions) {
    SCOPED_TRACE(name_of(precision));
    Executor executor = make_executor(plain, weights, types(inputs), precision);
    const std::vector<Tensor> result = run_executor(executor, inputs);
    const Bound bound = precision == Precision::kFp32 ? Bound{1e-5, 0} : network_bound(precision);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      SCOPED_TRACE(plain.values[plain.outputs[i]]);
      expect_close(result[i], expected[i], bound);
      expect_close(result[i], on_cpu[i], bound);
    }
  }
}

TEST_P(CudaHan, ADocumentAloneGivesTheBytesOfItsRowInABatch) {
  const std::vector<Tensor> inputs = han_inputs(GetParam().config);
  RandomWeights weights;
  Executor executor =
      make_executor(build_han(GetParam().config), weights, types(inputs), Precision::kFp32);
  const std::vector<Tensor> all = run_executor(executor, inputs);
  for (std::int64_t row = 0; row < 3; ++row) {
    std::vector<Tensor> one;
    for (const Tensor& input : inputs) one.push_back(rows_of(input, row, row + 1));
    const std::vector<Tensor> alone = run_executor(executor, one);
    for (std::size_t i = 0; i < all.size(); ++i)
      EXPECT_TRUE(rows_of(all[i], row, row + 1).same_bytes(alone[i])) << "row " << row;
  }
}

using CudaExecutor = CudaTest;

TEST_F(CudaExecutor, ARecordingGivesTheBytesOfTheFirstRunOnNewInputs) {
  const Graph plain = build_unet({.depth = 1, .base = 4}, true);
  RandomWeights weights;
  const Tensor first = random({1, 20, 24, 1}, 1), second = random({1, 20, 24, 1}, 2);
  const Tensor larger = random({1, 40, 44, 1}, 3);
  const auto fresh = [&](const Tensor& input) {
    Executor executor = make_executor(plain, weights, types({input}), Precision::kFp32);
    return run_executor(executor, {input});
  };
  Executor executor = make_executor(plain, weights, types({first}), Precision::kFp32);
  run_executor(executor, {first});
  EXPECT_TRUE(run_executor(executor, {second})[1].same_bytes(fresh(second)[1])) << "recorded";
  EXPECT_TRUE(run_executor(executor, {first})[1].same_bytes(fresh(first)[1])) << "replayed";
  // A larger arena: what was recorded in the old one must be forgotten.
  for (int i = 0; i < 3; ++i)
    EXPECT_TRUE(run_executor(executor, {larger})[1].same_bytes(fresh(larger)[1]));
  for (int i = 0; i < 3; ++i)
    EXPECT_TRUE(run_executor(executor, {second})[1].same_bytes(fresh(second)[1]));
}

TEST_F(CudaExecutor, TimesEveryNodeAndGivesTheSameBytes) {
  const Graph plain = build_unet({.depth = 1, .base = 4}, true);
  RandomWeights weights;
  const Tensor input = random({1, 20, 20, 1}, 1);
  Executor executor = make_executor(plain, weights, types({input}), Precision::kFp32);
  const std::vector<Tensor> expected = run_executor(executor, {input});
  std::vector<Tensor> outputs;
  for (const TensorType& type : executor.output_types(types({input}))) outputs.emplace_back(type);
  std::vector<NodeTiming> timings;
  executor.run(views({input}), views(outputs), &timings);
  ASSERT_EQ(timings.size(), executor.graph().nodes.size());
  EXPECT_EQ(timings[0].name, "down0/conv1");
  for (const NodeTiming& timing : timings) EXPECT_GE(timing.seconds, 0);
  EXPECT_TRUE(outputs[1].same_bytes(expected[1]));
}

TEST_F(CudaExecutor, WrongIdsAndLengthsAreNamedBeforeAnythingRuns) {
  const HanConfig config{.words = 9, .features = 3, .units = 2, .attention = 4};
  RandomWeights weights;
  const auto message = [&](std::vector<std::int32_t> ids, std::vector<std::int32_t> words,
                           std::vector<std::int32_t> sentences) {
    const std::vector<Tensor> inputs{Tensor::of_ids({1, 2, 2}, ids), Tensor::of_ids({1, 2}, words),
                                     Tensor::of_ids({1}, sentences)};
    Executor executor = make_executor(build_han(config), weights, types(inputs), Precision::kFp32);
    try {
      run_executor(executor, inputs);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(message({0, 1, 8, 3}, {2, 1}, {2}), "no error");
  EXPECT_THAT(message({0, 1, 9, 3}, {2, 1}, {2}), HasSubstr("id 9"));
  EXPECT_THAT(message({0, -1, 8, 3}, {2, 1}, {2}), HasSubstr("id -1"));
  EXPECT_THAT(message({0, 1, 8, 3}, {2, 3}, {2}), HasSubstr("length 3"));
  EXPECT_THAT(message({0, 1, 8, 3}, {2, 2}, {3}), HasSubstr("length 3"));
}

using CudaSession = CudaTest;

std::string demo(const std::string& file) {
  return test::source_dir() / "models/demo" / file;
}

TEST_F(CudaSession, ATiledMaskIsTheWholeOne) {
  const std::int64_t height = 37, width = 29;
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(height * width));
  for (std::size_t i = 0; i < pixels.size(); ++i)
    pixels[i] = static_cast<std::uint8_t>((i * 7 + i * i % 61) % 256);
  const auto segment = [&](int tile, const char* precision) {
    Session session = Session::open(
        demo("unet_isbi.safetensors"),
        {.device = "cuda", .precision = precision, .tile = tile, .probabilities = true});
    EXPECT_THAT(session.device(), testing::StartsWith("cuda:0"));
    return session.segment({pixels.data(), height, width});
  };
  const Segmentation whole = segment(0, "auto"), tiled = segment(204, "auto");
  EXPECT_EQ(whole.mask, tiled.mask);
  EXPECT_EQ(whole.probabilities, tiled.probabilities);
}

TEST_F(CudaSession, ABatchGivesTheBytesOfEachImageAlone) {
  constexpr std::int64_t kSide = 24;
  std::vector<std::vector<std::uint8_t>> pixels(2);
  std::vector<ImageView> views;
  for (std::size_t k = 0; k < pixels.size(); ++k) {
    for (std::size_t i = 0; i < kSide * kSide; ++i)
      pixels[k].push_back(static_cast<std::uint8_t>((i * 7 + i * i % (61 + k)) % 256));
    views.push_back({pixels[k].data(), kSide, kSide});
  }
  for (const char* precision : {"auto", "fp32"}) {
    Session session =
        Session::open(demo("unet_isbi.safetensors"),
                      {.device = "cuda", .precision = precision, .probabilities = true});
    EXPECT_GE(session.plan(kSide, kSide).batch, 2);
    const std::vector<Segmentation> together = session.segment(views);
    ASSERT_EQ(together.size(), views.size());
    for (std::size_t k = 0; k < views.size(); ++k) {
      const Segmentation alone = session.segment(views[k]);
      EXPECT_EQ(together[k].mask, alone.mask) << precision;
      EXPECT_EQ(together[k].probabilities, alone.probabilities) << precision;
    }
  }
}

TEST_F(CudaSession, ClassifiesAsTheCpuDoes) {
  const std::vector<std::string_view> texts{
      "A wonderful film. I loved every minute of it!",
      "Dull and far too long. The plot makes no sense. Avoid."};
  const std::string model = demo("han_imdb.safetensors");
  Session gpu = Session::open(model, {.device = "cuda"});
  Session cpu = Session::open(model, {.device = "cpu"});
  EXPECT_EQ(gpu.precision(), "fp32");
  const std::vector<Classification> got = gpu.classify(texts), want = cpu.classify(texts);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(got[i].label, want[i].label);
    for (std::size_t k = 0; k < want[i].probabilities.size(); ++k)
      EXPECT_NEAR(got[i].probabilities[k], want[i].probabilities[k], 1e-5);
    ASSERT_EQ(got[i].sentences.size(), want[i].sentences.size());
    for (std::size_t s = 0; s < want[i].sentences.size(); ++s)
      EXPECT_NEAR(got[i].sentences[s].weight, want[i].sentences[s].weight, 1e-5);
  }
}

}  // namespace
}  // namespace tessera::test
