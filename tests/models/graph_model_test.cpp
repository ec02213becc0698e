// Model files that hold a graph: what a Session makes of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/files/safetensors.h"
#include "models/session.h"
#include "tests/support/error.h"
#include "tests/support/graph_model.h"
#include "tests/support/temp_folder.h"

namespace tessera {
namespace {

using nlohmann::json;
using test::error_of;
using test::RandomWeights;
using test::Tensor;
using testing::AllOf;
using testing::HasSubstr;

std::vector<float> picture(std::int64_t height, std::int64_t width) {
  std::vector<float> pixels(static_cast<std::size_t>(height * width * 3));
  for (std::size_t i = 0; i < pixels.size(); ++i)
    pixels[i] = static_cast<float>((i * 2654435761u) % 1000) / 1000;
  return pixels;
}

class GraphModel : public testing::Test {
 protected:
  std::string save(const NetworkGraph& network, std::int64_t multiple = 8,
                   const std::vector<std::string>& classes = {"ground", "nerve", "vessel"}) {
    const std::string path = (scratch_.path() / "model.safetensors").string();
    test::save_network(path, test::config_of(network, multiple, classes), weights_);
    return path;
  }
  std::string metadata() {
    return *Weights::open(scratch_.path() / "model.safetensors").metadata("tessera");
  }

  test::TempFolder scratch_;
  RandomWeights weights_;
};

TEST_F(GraphModel, SegmentsAsItsReferenceDoes) {
  const NetworkGraph network = test::resnet_like();
  Session session = Session::open(save(network), {.device = "cpu", .probabilities = true});
  EXPECT_EQ(session.task(), Session::Task::kSegment);
  EXPECT_EQ(session.classes()[1].name, "nerve");
  EXPECT_EQ(session.input_sizes(3), (std::vector<std::int64_t>{8, 16, 24}));
  constexpr std::int64_t kHeight = 40, kWidth = 56;
  const std::vector<float> pixels = picture(kHeight, kWidth);
  const Segmentation result =
      session.segment({pixels.data(), kHeight, kWidth, 3, ImageView::Type::kF32});
  EXPECT_EQ(result.outputs, 3);
  const std::vector<Tensor> expected =
      test::run_graph_reference(segmentation_graph(network, true), weights_.source(),
                                {Tensor::of({1, kHeight, kWidth, 3}, pixels)});
  const std::vector<float> probabilities = expected[1].values();
  ASSERT_EQ(result.probabilities.size(), probabilities.size());
  for (std::size_t i = 0; i < probabilities.size(); ++i)
    ASSERT_TRUE(std::abs(result.probabilities[i] - probabilities[i]) <= 1e-4f) << i;
  std::array<int, 3> count{};
  for (std::size_t i = 0; i < result.mask.size(); ++i) {
    const float* p = result.probabilities.data() + 3 * i;
    EXPECT_EQ(result.mask[i], std::max_element(p, p + 3) - p);
    ++count[result.mask[i]];
  }
  EXPECT_GT(std::ranges::count_if(count, [](int n) { return n > 0; }), 1);
}

TEST_F(GraphModel, AnImageOfAnySizeHasAMaskOfItsSize) {
  Session session = Session::open(save(test::resnet_like()), {.device = "cpu"});
  for (const auto& [height, width] : {std::pair{1, 1}, {37, 50}}) {
    const std::vector<float> pixels = picture(height, width);
    const Segmentation result =
        session.segment({pixels.data(), height, width, 3, ImageView::Type::kF32});
    EXPECT_EQ(result.mask.size(), static_cast<std::size_t>(height * width));
    EXPECT_EQ(result.outputs, 0);
  }
  EXPECT_EQ(session.plan(37, 50).tile_height, 40);
  EXPECT_EQ(session.plan(37, 50).tile_width, 56);
}

// A UNet's own graph, written as a graph, gives the UNet's bytes: tiles, probabilities and all.
TEST_F(GraphModel, AUNetAsAGraphGivesItsBytes) {
  const UNetConfig config{.depth = 2, .base = 16, .channels = 3, .norm = Conv::Norm::kAfterRelu};
  ModelConfig unet;
  unet.unet = config;
  unet.preprocessing.channels = 3;
  unet.classes = {{"a", {}}, {"b", {}}};
  const std::string as_unet = (scratch_.path() / "unet.safetensors").string();
  test::save_network(as_unet, unet, weights_);
  NetworkGraph network{build_unet(config, true),
                       {3},
                       {{"classes", NetworkOutput::Kind::kMask},
                        {"confidence", NetworkOutput::Kind::kProbabilities}}};
  const std::string as_graph = save(network, 1, {"a", "b"});
  constexpr std::int64_t kHeight = 150, kWidth = 131;
  const std::vector<float> pixels = picture(kHeight, kWidth);
  for (const int tile : {0, 92}) {
    const SessionOptions options{.device = "cpu", .tile = tile, .probabilities = true};
    Session a = Session::open(as_unet, options), b = Session::open(as_graph, options);
    const ImageView image{pixels.data(), kHeight, kWidth, 3, ImageView::Type::kF32};
    const Segmentation first = a.segment(image), second = b.segment(image);
    EXPECT_EQ(a.plan(kHeight, kWidth).tiles, b.plan(kHeight, kWidth).tiles);
    EXPECT_EQ(first.mask, second.mask);
    EXPECT_EQ(first.probabilities, second.probabilities);
  }
}

TEST_F(GraphModel, ItsConfigurationComesBack) {
  save(test::resnet_like());
  const ModelConfig config = model_config_from_json(json::parse(metadata()), "m");
  EXPECT_STREQ(config.architecture(), "graph");
  EXPECT_EQ(config.graph->multiple, 8);
  EXPECT_EQ(to_json(config).dump(), metadata());
}

TEST_F(GraphModel, ContradictionsAreNamed) {
  save(test::resnet_like());
  const json good = json::parse(metadata());
  const auto error = [&](const std::function<void(json&)>& change) {
    json bad = good;
    change(bad);
    return error_of([&] { model_config_from_json(bad, "m"); });
  };
  EXPECT_THAT(error([](json& m) { m["sizes"]["multiple"] = 0; }), HasSubstr("sizes.multiple"));
  EXPECT_THAT(error([](json& m) { m["sizes"]["least"] = 0; }), HasSubstr("unknown key"));
  EXPECT_THAT(error([](json& m) { m["graph"]["inputs"][0]["channels"] = 2; }),
              HasSubstr("expected 1 (grey) or 3 (RGB)"));
  EXPECT_THAT(error([](json& m) { m["preprocessing"]["channels"] = 1; }),
              HasSubstr("preprocessing makes 1"));
  EXPECT_THAT(error([](json& m) { m["classes"].erase(0); }), HasSubstr("expected a list of 3"));
  EXPECT_THAT(error([](json& m) { m["graph"]["outputs"][0]["kind"] = "mask"; }),
              HasSubstr("activation"));
  EXPECT_THAT(error([](json& m) {
                m["graph"]["outputs"][0] = {{"name", "m"}, {"value", "head"}, {"kind", "mask"}};
              }),
              HasSubstr("a mask is u8 (n, h, w), 'head' is f32"));
  EXPECT_THAT(error([](json& m) { m["graph"]["outputs"][0]["value"] = "stem"; }),
              HasSubstr("at the image's resolution"));
  EXPECT_THAT(error([](json& m) { m["graph"]["nodes"].back()["weights"]["wieght"] = "x"; }),
              AllOf(HasSubstr("node 'head'"), HasSubstr("no weight \"wieght\"")));
  EXPECT_THAT(error([](json& m) {
                m["graph"]["inputs"].push_back({{"name", "second"}, {"channels", 1}});
              }),
              HasSubstr("one image is the input, found 2"));
}

TEST_F(GraphModel, AWrongWeightNamesItsTensor) {
  const std::string path = save(test::resnet_like());
  const std::string text = metadata();
  TensorViews views;
  for (const auto& [name, tensor] : weights_.all()) views[name] = tensor.view();
  const auto error = [&] {
    write_safetensors(path, views, {{"tessera", text}});
    return error_of([&] { Session::open(path, {.device = "cpu"}); });
  };
  const Tensor wide = test::random({3, 9, 1, 1}, 1);
  const TensorView kept = views["classifier.weight"];
  views["classifier.weight"] = wide.view();
  EXPECT_THAT(error(), HasSubstr("classifier.weight"));
  views["classifier.weight"] = kept;
  views["odd"] = wide.view();
  EXPECT_THAT(error(), HasSubstr("odd"));
  views.erase("odd");
  views.erase("stem/weight");
  EXPECT_THAT(error(), HasSubstr("stem/weight"));
}

}  // namespace
}  // namespace tessera
