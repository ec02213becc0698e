// The program with a network that it has no builder for.
#include "models/import/numpy_file.h"
#include "tests/support/cli.h"
#include "tests/support/graph_model.h"

namespace tessera {
namespace {

using namespace test;
using testing::AllOf;
using testing::HasSubstr;

class GraphCli : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    RandomWeights weights;
    save_network(at("graph.safetensors"),
                 config_of(resnet_like(), 8, {"ground", "nerve", "vessel"}), weights);
  }
};

TEST_F(GraphCli, SegmentsImages) {
  make_image("a.png", 45, 61);
  const Result result = run({"segment", "-m", "graph.safetensors", "a.png", "-o", "out", "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(files_in("out"), testing::Contains("a.mask.png"));
  EXPECT_THAT(result.out, HasSubstr("vessel"));
}

TEST_F(GraphCli, InfoTellsNetworkAndAttributes) {
  const Result result = run({"info", "graph.safetensors", "--layers"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(
      result.out,
      AllOf(HasSubstr("input image of 3 channel(s)"), HasSubstr("tissue: logits (softmax)"),
            HasSubstr("sizes that 8 divides"), HasSubstr("c_out 8, kernel 7x7, stride 2x2, pads 3"),
            HasSubstr("input sizes    8, 16, 24")));
  const Result as_json = run({"info", "graph.safetensors", "--layers", "--json"});
  ASSERT_EQ(as_json.code, 0) << as_json.err;
  const json info = json::parse(as_json.out);
  EXPECT_EQ(info["layers"][0]["attributes"]["c_out"], 8);
}

TEST_F(GraphCli, RunsOnArraysInEveryPrecision) {
  std::vector<float> values(32 * 40 * 3);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 17) / 17;
  write_numpy(at("in.npy"), {values.data(), {DType::kF32, {1, 32, 40, 3}}});
  const std::vector<std::string> input = {"graph.safetensors", "--input", "in.npy"};
  const auto with = [&](std::string verb, std::vector<std::string> more) {
    more.insert(more.begin(), input.begin(), input.end());
    more.insert(more.begin(), std::move(verb));
    return run(more);
  };
  const Result made = with("run", {"--output", "out.npy"});
  ASSERT_EQ(made.code, 0) << made.err;
  EXPECT_THAT(made.out, HasSubstr("f32 (1, 32, 40, 3)"));
  for (const char* precision : {"fp32", "bf16"}) {
    const Result again =
        with("run", {"--output", std::string(precision) + ".npy", "--precision", precision});
    ASSERT_EQ(again.code, 0) << again.err;
    EXPECT_THAT(again.out, HasSubstr("f32 (1, 32, 40, 3)"));
  }
  EXPECT_EQ(read_text(at("fp32.npy")), read_text(at("out.npy")));
  EXPECT_NE(read_text(at("bf16.npy")), read_text(at("out.npy")));
  const std::vector<std::string> expect = {"--expect", "out.npy", "--precision", "bf16",
                                           "--tolerance"};
  const auto verify = [&](const char* tolerance) {
    std::vector<std::string> options = expect;
    options.push_back(tolerance);
    return with("verify", options);
  };
  EXPECT_EQ(verify("0.1").code, 0) << verify("0.1").out;
  EXPECT_EQ(verify("1e-7").code, 1);
}

TEST_F(GraphCli, ASizeThatDoesNotRunIsToldTheNext) {
  const Result result = run({"bench", "-m", "graph.safetensors", "--size", "100x64"});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err, HasSubstr("does not take 100 pixels, 104 is the next size"));
  const Result runs =
      run({"bench", "-m", "graph.safetensors", "--size", "104x64", "--iterations", "1"});
  EXPECT_EQ(runs.code, 0) << runs.err;
}

TEST_F(GraphCli, APublishedNetworkIsNamed) {
  // The small model is the paper's but for depth and width.
  UNetConfig family{.depth = 1, .base = 4, .up_relu = true, .head_relu = true};
  write_model(at("tf.safetensors"), build_unet(family, false), {{DType::kF32, {1, 20, 20, 1}}},
              {{"architecture", "unet"}, {"unet", to_json(family)}}, "");
  const Result named = run({"info", "tf.safetensors"});
  EXPECT_THAT(named.out, HasSubstr("network        tf_unet\n")) << named.err;
  EXPECT_THAT(run({"info", unet_}).out, testing::Not(HasSubstr("network   ")));
  for (const char* verb : {"unet", "han"}) {
    expect_error(run({"train", verb, "data", "-o", "m.safetensors", "--network", "no"}), 2,
                 "--network");
  }
}

}  // namespace
}  // namespace tessera
