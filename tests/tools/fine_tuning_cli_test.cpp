// `tessera train unet --from` as a user runs it: networks that no builder makes learn on.
#include "models/model_digest.h"
#include "models/model_file.h"
#include "tests/support/cli.h"
#include "tests/support/graph_model.h"

namespace tessera::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// A residual network with norms of each image, whose blocks are sums: what ResNets and nnU-Nets
// consist of.
NetworkGraph residual() {
  NetworkGraph network;
  Graph& graph = network.graph;
  const ValueId image = graph.add_input("image");
  const auto unit = [&](const std::string& name, ValueId x, Conv conv) {
    x = graph.add(name, conv, {x});
    return graph.add(name + "/norm", GroupNorm{}, {x});
  };
  const auto bent = [&](const std::string& name, ValueId x) {
    return graph.add(name, Activation{.kind = Activation::Kind::kLeakyRelu}, {x});
  };
  const ValueId stem = bent("stem/bent", unit("stem", image, {.c_out = 4, .window = same(3)}));
  ValueId deep = bent("down/bent", unit("down", stem, {.c_out = 6, .window = square(3, 1, 2)}));
  deep = unit("block", deep, {.c_out = 6, .window = same(3)});
  const ValueId flat = unit("short", stem, {.c_out = 6, .window = square(1, 0, 2)});
  deep = bent("block/bent", graph.add("block/sum", Binary{}, {deep, flat}));
  const ValueId up = graph.add("up",
                               Resize{.coordinates = Resize::Coordinates::kAsymmetric,
                                      .nearest = Resize::Nearest::kFloor,
                                      .scale_h = 2,
                                      .scale_w = 2},
                               {deep});
  const ValueId both = graph.add("both", Concat{-1}, {up, stem});
  graph.outputs = {graph.add("head", Conv{.c_out = 2, .window = square(1)}, {both})};
  network.channels = {1};
  network.outputs = {{"cells", NetworkOutput::Kind::kLogits, Head::Output::kSoftmax}};
  return network;
}

class FineTuningCli : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    for (int i = 0; i < 6; ++i) {
      const Image image = picture(48 + 4 * i, 52);
      for (const char* folder : {"data/images", "data/masks"}) fs::create_directories(at(folder));
      write_png(at(fmt::format("data/images/{}.png", i)), image);
      Image mask = image;
      for (std::uint8_t& pixel : std::get<std::vector<std::uint8_t>>(mask.pixels))
        pixel = pixel > 200 ? 255 : 0;
      write_png(at(fmt::format("data/masks/{}.png", i)), mask);
    }
    save("net.safetensors", residual());
  }
  void save(const std::string& name, const NetworkGraph& network, float deviation = 0.5f) {
    ModelConfig config = config_of(network, 2, {"ground", "cell"});
    config.preprocessing.mean = {0.25f};
    config.preprocessing.std = {deviation};
    save_network(at(name), config, weights_);
  }
  // What `more` does not say is as here.
  Result train(const std::string& from, const std::string& to, std::vector<std::string> more) {
    std::vector<std::string> words{"train",    "unet", path("data"), "--from",
                                   path(from), "-o",   path(to)};
    for (const auto& [option, value] : {std::pair{"--tile", "32"},
                                        {"--batch", "2"},
                                        {"--rate", "0.01"},
                                        {"--threads", "2"},
                                        {"--seed", "3"}})
      if (std::ranges::count(more, option) == 0) words.insert(words.end(), {option, value});
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  }
  void expect_same_weights(const std::string& one, const std::string& other) {
    ModelFile first = ModelFile::open(at(one));
    ModelFile second = ModelFile::open(at(other));
    ASSERT_EQ(first.weights.names(), second.weights.names());
    for (const std::string& name : first.weights.names()) {
      const TensorView a = first.weights.take_any_shape(name),
                       b = second.weights.take_any_shape(name);
      ASSERT_EQ(a.type, b.type) << name;
      EXPECT_EQ(std::memcmp(a.pointer, b.pointer, a.type.bytes()), 0) << name;
    }
  }

  RandomWeights weights_;
};

TEST_F(FineTuningCli, AForeignNetworkLearnsOn) {
  ASSERT_EQ(run({"export", path("net.safetensors"), "-o", path("net.onnx")}).code, 0);
  const Result trained = train("net.onnx", "cells.safetensors", {"--epochs", "12"});
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_THAT(trained.err, HasSubstr("read as ONNX graph"));
  const auto accuracy = [&](const std::string& model) {
    const Result result = run({"eval", path("data"), "-m", path(model), "--json"});
    EXPECT_EQ(result.code, 0) << result.err;
    return 1 - json::parse(result.out).at("pixel_error").get<double>();
  };
  EXPECT_LT(accuracy("net.safetensors"), 0.95);
  EXPECT_GT(accuracy("cells.safetensors"), 0.97);
  const ModelConfig config = ModelFile::open(at("cells.safetensors")).config;
  EXPECT_TRUE(config.graph.has_value());
  EXPECT_EQ(config.classes.at(1).name, "cell");
  EXPECT_EQ(config.preprocessing.mean, std::vector<float>{0.25f});
  EXPECT_TRUE(config.masks.has_value());
  EXPECT_TRUE(config.provenance.contains("training"));
  EXPECT_EQ(config.provenance.at("from").at("digest"), digest_of_model(at("net.onnx")));
  EXPECT_THAT(config.provenance.dump(), Not(HasSubstr(at("net.onnx").parent_path().string())));

  // What was trained is trained on, and its masks are meant as before.
  const Result again = train("cells.safetensors", "more.safetensors", {"--epochs", "1"});
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_THAT(again.err, HasSubstr("as in the model's training"));
  EXPECT_EQ(ModelFile::open(at("more.safetensors")).config.provenance.at("from").at("digest"),
            digest_of_model(at("cells.safetensors")));
}

TEST_F(FineTuningCli, BeginsWithTheModelsWeights) {
  ASSERT_EQ(train("net.safetensors", "same.safetensors", {"--steps", "2", "--rate", "0"}).code, 0);
  expect_same_weights("net.safetensors", "same.safetensors");
}

TEST_F(FineTuningCli, AResumedRunReachesTheSameWeights) {
  save("other.safetensors", residual(), 0.25f);
  for (const char* folder : {"whole", "parts"}) fs::create_directories(at(folder));
  ASSERT_EQ(train("net.safetensors", "whole/m.safetensors", {"--steps", "6"}).code, 0);
  ASSERT_EQ(
      train("net.safetensors", "parts/m.safetensors", {"--steps", "3", "--threads", "1"}).code, 0);
  const Result other =
      train("other.safetensors", "parts/m.safetensors", {"--steps", "6", "--resume"});
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.err, HasSubstr("digest"));
  const Result resumed =
      train("net.safetensors", "parts/m.safetensors", {"--steps", "6", "--resume"});
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  expect_same_weights("whole/m.safetensors", "parts/m.safetensors");
}

TEST_F(FineTuningCli, SaysWhatItCannotTrain) {
  const auto fails = [&](const std::string& from, std::vector<std::string> more, int code,
                         const std::string& part) {
    expect_error(train(from, "x.safetensors", std::move(more)), code, part);
    EXPECT_FALSE(fs::exists(at("x.safetensors")));
    EXPECT_FALSE(fs::exists(at("x.safetensors.run")));
  };
  fails("net.safetensors", {"--classes", "a,b,c"}, 2, "3 were named");
  fails("net.safetensors", {"--depth", "2"}, 2, "--depth: the network");
  fails("net.safetensors", {"--family", "x"}, 2, "--family");
  fails("models/han.safetensors", {}, 1, "model of texts");
  fails("none.safetensors", {}, 1, "none.safetensors");
  expect_error(train("net.safetensors", "net.safetensors", {}), 2, "net.safetensors");

  NetworkGraph turned = residual();
  Graph& graph = turned.graph;
  const ValueId once = graph.add("turn", Transpose{{0, 2, 1, 3}}, {graph.outputs[0]});
  graph.outputs = {graph.add("back", Transpose{{0, 2, 1, 3}}, {once})};
  save("turned.safetensors", turned);
  fails("turned.safetensors", {}, 1, "transpose 'turn', transpose 'back'");

  NetworkGraph several = residual();
  several.outputs[0].activation = Head::Output::kSigmoid;
  save("several.safetensors", several);
  fails("several.safetensors", {}, 1, "a sigmoid of one output");
}

}  // namespace
}  // namespace tessera::test
