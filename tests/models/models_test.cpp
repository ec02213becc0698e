// Whole networks against goldens that PyTorch made (tools/golden/make_model_goldens.py), and the
// two pipelines through the public Session.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "engine/passes/passes.h"
#include "models/model_file.h"
#include "models/segmenter.h"
#include "models/session.h"
#include "tests/support/golden.h"
#include "tests/support/network.h"
#include "tests/support/paths.h"
#include "tests/support/sanitizers.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using test::Tensor;
using testing::HasSubstr;

const fs::path kSource = test::source_dir();
const fs::path kGoldens = kSource / "tests/golden/models";
const fs::path kDemo = kSource / "models/demo";

WeightSource source_of(Weights& weights) {
  return [&](const std::string& name, const Shape& shape) { return weights.take(name, shape); };
}

ModelConfig config_of(const Weights& weights) {
  return model_config_from_json(nlohmann::json::parse(*weights.metadata("tessera")),
                                weights.file());
}

class UNetGolden : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Columns, UNetGolden,
                         testing::Values("unet_paper", "unet_tutorial", "unet_tf", "unet_same",
                                         "unet_bilinear"));

TEST_P(UNetGolden, ReferenceAndCpuGivePyTorchsProbabilities) {
  Weights weights = Weights::open(kGoldens / (std::string(GetParam()) + ".safetensors"));
  const UNetConfig config = *config_of(weights).unet;
  const Graph graph = build_unet(config, true);
  int cases = 0;
  for (const std::string suffix : {"", "2"}) {
    if (!weights.contains("golden/input" + suffix)) continue;
    ++cases;
    const Tensor input = test::copy_of(weights.take_any_shape("golden/input" + suffix));
    const Tensor expected = test::copy_of(weights.take_any_shape("golden/output" + suffix));
    // Shapes: the sizes of the paper's arithmetic are those of the goldens.
    EXPECT_EQ(unet_output_size(config, input.type().shape[1]), expected.type().shape[1]);
    EXPECT_EQ(unet_output_size(config, input.type().shape[2]), expected.type().shape[2]);
    // The reference accumulates in double and rounds each map to f32, 2^-24 relative, over at most
    // 23 layers of gain about one.
    test::expect_close(test::run_graph_reference(graph, source_of(weights), {input})[1], expected,
                       {1e-6, 0});
    for (const bool winograd : {false, true}) {
      Executor executor(optimise_for_cpu(graph, test::types({input}), DType::kF32, winograd),
                        source_of(weights), test::types({input}), open_cpu_device(2));
      test::expect_close(test::run_executor(executor, {input})[1], expected, {1e-5, 0});
    }
  }
  EXPECT_GE(cases, 1);
  EXPECT_NO_THROW(weights.check_all_used());
}

class HanGolden : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Columns, HanGolden,
                         testing::Values("han_tutorial", "han_tutorial_hard_sigmoid", "han_paper",
                                         "han_keras_gru"));

TEST_P(HanGolden, ReferenceAndCpuGivePyTorchsAnswers) {
  Weights weights = Weights::open(kGoldens / (std::string(GetParam()) + ".safetensors"));
  const HanConfig config = *config_of(weights).han;
  const Graph graph = build_han(config);
  const auto golden = [&](const char* name) {
    return test::copy_of(weights.take_any_shape(std::string("golden/") + name));
  };
  std::vector<Tensor> inputs{golden("input")};
  if (config.masked) {
    inputs.push_back(golden("sentence_lengths"));
    inputs.push_back(golden("document_lengths"));
  }
  const std::vector<Tensor> expected{golden("output"), golden("word_attention"),
                                     golden("sentence_attention")};
  const auto by_reference = test::run_graph_reference(graph, source_of(weights), inputs);
  Executor executor(optimise_for_cpu(graph, test::types(inputs), DType::kF32), source_of(weights),
                    test::types(inputs), open_cpu_device(2));
  const auto by_cpu = test::run_executor(executor, inputs);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    SCOPED_TRACE(graph.values[graph.outputs[i]]);
    test::expect_close(by_reference[i], expected[i], {1e-6, 0});
    test::expect_close(by_cpu[i], expected[i], {5e-6, 0});
  }
  EXPECT_NO_THROW(weights.check_all_used());
}

// ---- configurations ----------------------------------------------------------------------------

TEST(UNetConfig, SizesThatRun) {
  const UNetConfig paper;
  EXPECT_EQ(unet_output_size(paper, 572), 388);
  EXPECT_EQ(unet_output_size(paper, 573), std::nullopt);
  EXPECT_EQ(unet_output_size(paper, 172), std::nullopt);
  EXPECT_EQ(unet_output_size(paper, 188), 4);
  EXPECT_EQ(unet_input_size(paper, 388), 572);
  EXPECT_EQ(unet_input_size(paper, 389), 588);
  EXPECT_EQ(unet_margin(paper), 92);
  const UNetConfig tutorial{.depth = 3};
  EXPECT_EQ(unet_output_size(tutorial, 284), 196);
  EXPECT_EQ(unet_output_size(tutorial, 92), 4);
  EXPECT_EQ(unet_output_size(tutorial, 84), std::nullopt);
  const UNetConfig same{.depth = 4, .padding = UNetConfig::Padding::kSame};
  EXPECT_EQ(unet_output_size(same, 101), 101);
  EXPECT_EQ(unet_output_size(same, 15), std::nullopt);
  EXPECT_EQ(unet_margin(same), 0);
}

TEST(UNetConfig, JsonRoundTripAndStrictness) {
  const UNetConfig config{.depth = 3,
                          .base = 20,
                          .norm = Conv::Norm::kAfterRelu,
                          .up = UNetConfig::Up::kTransposed3,
                          .skip_first = false,
                          .head = UNetConfig::HeadKind::kConv3};
  EXPECT_EQ(unet_config_from_json(to_json(config)), config);
  for (const char* bad : {R"({"dept": 4})", R"({"depth": 0})", R"({"depth": "4"})", R"([])",
                          R"({"padding": "full"})", R"({"classes": 1})", R"({"channels": 2})",
                          R"({"depth": 8, "base": 16384})", R"({"norm_eps": 0})"}) {
    EXPECT_THROW(unet_config_from_json(nlohmann::json::parse(bad)), Error) << bad;
  }
}

TEST(HanConfig, JsonRoundTripAndStrictness) {
  const HanConfig config{
      .words = 100, .cell = BiRnn::Cell::kLstm, .units = 150, .dense = 200, .masked = false};
  EXPECT_EQ(han_config_from_json(to_json(config)), config);
  for (const char* bad : {R"({})", R"({"words": 100, "cell": "rnn"})",
                          R"({"words": 100, "units": 0})", R"({"words": 100, "unit": 50})"}) {
    EXPECT_THROW(han_config_from_json(nlohmann::json::parse(bad)), Error) << bad;
  }
}

TEST(ModelFile, DeeplyNestedMetadataIsRefused) {
  const fs::path path = fs::temp_directory_path() / "tessera_nested.safetensors";
  const std::string deep = R"({"architecture": "unet", "unet": {}, "provenance": {"a": )" +
                           std::string(200000, '[') + std::string(200000, ']') + "}}";
  write_safetensors(path, {}, {{"tessera", deep}});
  EXPECT_THROW(ModelFile::open(path), Error);
  fs::remove(path);
}

// What a UNet was trained with; a file from before that, or of other programs, has no such key and
// keeps its text.
TEST(ModelConfig, MasksTravelWithTheModel) {
  const nlohmann::json plain = {{"architecture", "unet"}, {"unet", {{"depth", 1}}}};
  const ModelConfig without = model_config_from_json(plain, "m");
  EXPECT_FALSE(without.masks.has_value());
  EXPECT_FALSE(to_json(without).contains("masks"));
  nlohmann::json with = plain;
  with["masks"] = {{"format", "values:9,4,ignore=7"}, {"min_area", 15}};
  const ModelConfig read = model_config_from_json(with, "m");
  ASSERT_TRUE(read.masks.has_value());
  EXPECT_EQ(read.masks->min_area, 15);
  EXPECT_EQ(read.masks->rules, MaskRules::parse("values:9,4,ignore=7", 2));
  EXPECT_EQ(to_json(read)["masks"], with["masks"]);
  for (const nlohmann::json& bad : {nlohmann::json{{"format", "pictures"}},
                                    {{"format", "values:1,2,3"}},
                                    {{"format", "ids"}, {"min_area", -1}},
                                    {{"format", "ids"}, {"area", 1}}}) {
    with["masks"] = bad;
    EXPECT_THROW(model_config_from_json(with, "m"), Error) << bad;
  }
}

TEST(ModelConfig, Contradictions) {
  for (const char* bad :
       {R"({"architecture": "resnet"})", R"({"architecture": "unet"})",
        R"({"architecture": "unet", "unet": {}, "preprocessing": {"channels": 3}})",
        R"({"architecture": "unet", "unet": {}, "classes": [{"name": "one"}]})",
        R"({"architecture": "unet", "unet": {}, "format": 2})",
        R"({"architecture": "unet", "unet": {}, "extra": 1})"}) {
    EXPECT_THROW(model_config_from_json(nlohmann::json::parse(bad), "file"), Error) << bad;
  }
}

// ---- Session -----------------------------------------------------------------------------------

std::vector<std::uint8_t> membranes(std::int64_t height, std::int64_t width) {
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(height * width));
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      const double wave =
          std::sin(static_cast<double>(x) / 9) * std::sin(static_cast<double>(y) / 11);
      pixels[static_cast<std::size_t>(y * width + x)] =
          static_cast<std::uint8_t>(std::abs(wave) < 0.15 ? 60 : 170);
    }
  }
  return pixels;
}

TEST(Session, MaskHasTheImagesSizeWhateverItIs) {
  Session session = Session::open(kDemo / "unet_isbi.safetensors", {.probabilities = true});
  EXPECT_EQ(session.task(), Session::Task::kSegment);
  for (const auto& [height, width] : {std::pair{1, 1}, {3, 200}, {97, 61}}) {
    const auto pixels = membranes(height, width);
    const Segmentation result = session.segment({pixels.data(), height, width});
    ASSERT_EQ(result.mask.size(), pixels.size());
    ASSERT_EQ(result.probabilities.size(), 2 * pixels.size());
    for (std::size_t i = 0; i < pixels.size(); ++i) {
      const float a = result.probabilities[2 * i], b = result.probabilities[2 * i + 1];
      ASSERT_TRUE(std::abs(a + b - 1) <= 1e-5f);
      ASSERT_EQ(result.mask[i], b > a ? 1 : 0);
    }
  }
}

TEST(Session, TiledEqualsUntiledToTheByte) {
  const auto pixels = membranes(910, 733);
  const ImageView image{pixels.data(), 910, 733};
  for (const char* precision : {"fp32", "bf16"}) {
    SCOPED_TRACE(precision);
    SessionOptions options{.precision = precision, .probabilities = true};
    Session whole = Session::open(kDemo / "unet_isbi.safetensors", options);
    EXPECT_EQ(whole.plan(910, 733).tiles, 1);
    options.tile = 700;
    Session tiled = Session::open(kDemo / "unet_isbi.safetensors", options);
    EXPECT_GT(tiled.plan(910, 733).tiles, 1);
    options.threads = 1;
    Session one_thread = Session::open(kDemo / "unet_isbi.safetensors", options);
    const Segmentation a = whole.segment(image), b = tiled.segment(image),
                       c = one_thread.segment(image);
    EXPECT_EQ(a.mask, b.mask);
    EXPECT_EQ(a.probabilities, b.probabilities);
    EXPECT_EQ(a.probabilities, c.probabilities);
  }
}

TEST(Session, ATileThatIsTooSmallIsToldTheLeastThatRuns) {
  const auto least = [](int tile) -> std::string {
    try {
      Session::open(kDemo / "unet_isbi.safetensors", {.tile = tile}).plan(1500, 1500);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  };
  const std::string message = least(40);
  const std::size_t at = message.find("use ");
  ASSERT_NE(at, std::string::npos) << message;
  const int said = std::stoi(message.substr(at + 4));
  EXPECT_THAT(least(said - 1), HasSubstr(message.substr(at)));
  EXPECT_EQ(least(said), "");
}

TEST(Session, MaxMemoryPicksTheTile) {
  Session free = Session::open(kDemo / "unet_isbi.safetensors");
  const SegmentationPlan whole = free.plan(1500, 1500);
  EXPECT_EQ(whole.tiles, 1);
  Session tight =
      Session::open(kDemo / "unet_isbi.safetensors", {.max_memory = whole.peak - whole.arena / 2});
  const SegmentationPlan tiled = tight.plan(1500, 1500);
  EXPECT_GT(tiled.tiles, 1);
  EXPECT_LE(tiled.peak, whole.peak - whole.arena / 2);
  Session impossible = Session::open(kDemo / "unet_isbi.safetensors", {.max_memory = 1 << 20});
  EXPECT_THROW(impossible.plan(1500, 1500), std::runtime_error);
}

TEST(Session, AChosenTileThatMemoryHasNoRoomForIsToldOneThatFits) {
#if defined(TESSERA_THREAD_SANITIZER)
  GTEST_SKIP() << "the sanitizer's own memory counts as the process's, and grows";
#endif
  Session free = Session::open(kDemo / "unet_isbi.safetensors");
  const SegmentationPlan whole = free.plan(1500, 1500);
  EXPECT_EQ(whole.work, 1);
  const int side = static_cast<int>(whole.tile_height);
  SessionOptions options{.max_memory = whole.peak - whole.arena / 2, .tile = side};
  const auto message = [&]() -> std::string {
    try {
      Session::open(kDemo / "unet_isbi.safetensors", options).plan(1500, 1500);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  };
  const std::string found = message();
  const std::size_t at = found.find("--tile ");
  ASSERT_NE(at, std::string::npos) << found;
  EXPECT_THAT(found, HasSubstr(fmt::format("tiles of {0} x {0} pixels need", side)));
  options.tile = std::stoi(found.substr(at + 7));
  EXPECT_LT(options.tile, side);
  options.max_memory += whole.arena / 4;  // what the allocator keeps of the sessions that are gone
  EXPECT_EQ(message(), "");
}

TEST(Session, RefusesWhatItCannotDo) {
  Session unet = Session::open(kDemo / "unet_isbi.safetensors");
  Session han = Session::open(kDemo / "han_imdb.safetensors");
  const std::uint8_t pixel = 0;
  EXPECT_THROW(unet.classify("text"), std::runtime_error);
  EXPECT_THROW(han.segment({&pixel, 1, 1}), std::runtime_error);
  EXPECT_THROW(unet.segment({&pixel, 0, 1}), std::runtime_error);
  EXPECT_THROW(unet.segment({nullptr, 1, 1}), std::runtime_error);
  EXPECT_THROW(unet.plan(std::int64_t{1} << 40, std::int64_t{1} << 40), std::runtime_error);
  EXPECT_THROW(han.classify(" ... "), std::runtime_error);
  EXPECT_THROW(Session::open(kDemo / "absent.safetensors"), std::runtime_error);
  // The demo model standardizes, so that a range has no place in it.
  EXPECT_THROW(Session::open(kDemo / "unet_isbi.safetensors", {.range = "0,5"}),
               std::runtime_error);
  EXPECT_THROW(Session::open(kDemo / "han_imdb.safetensors", {.range = "0,5"}), std::runtime_error);
  EXPECT_THROW(Session::open(kDemo / "unet_isbi.safetensors", {.device = "tpu"}),
               std::runtime_error);
  EXPECT_THROW(Session::open(kDemo / "unet_isbi.safetensors", {.precision = "int1"}),
               std::runtime_error);
}

TEST(Session, AttentionPointsIntoTheOriginalText) {
  Session session = Session::open(kDemo / "han_imdb.safetensors");
  const std::string text =
      "\"A WONDERFUL film!\" I loved it.  Caf\xc3\xa9 scenes were superb, the ending brilliant.";
  const Classification answer = session.classify(text);
  EXPECT_EQ(session.classes()[answer.label].name, "positive");
  float sentences = 0;
  for (const AttendedSentence& sentence : answer.sentences) {
    ASSERT_LE(sentence.end, text.size());
    sentences += sentence.weight;
    float words = 0;
    for (const AttendedWord& word : sentence.words) {
      ASSERT_LT(word.begin, word.end);
      ASSERT_GE(word.begin, sentence.begin);
      ASSERT_LE(word.end, sentence.end);
      words += word.weight;
    }
    EXPECT_TRUE(std::abs(words - 1) <= 1e-4f);
  }
  EXPECT_TRUE(std::abs(sentences - 1) <= 1e-4f);
  const AttendedSentence& first = answer.sentences.front();
  EXPECT_EQ(text.substr(first.words[1].begin, first.words[1].end - first.words[1].begin),
            "WONDERFUL");
}

TEST(Session, ADocumentAloneGivesItsBytesInABatch) {
  Session session = Session::open(kDemo / "han_imdb.safetensors");
  const std::vector<std::string_view> texts{
      "Dull. Dull. Dull. The worst film of the year, and the longest.", "", "Great fun!",
      "I did not expect to like it. I did. The actors are splendid. So is the music. Go see it."};
  const std::vector<Classification> batch = session.classify(texts);
  ASSERT_EQ(batch.size(), 4u);
  EXPECT_THAT(batch[1].error, HasSubstr("no words"));
  for (const std::size_t i : {0u, 2u, 3u}) {
    const Classification alone = session.classify(texts[i]);
    EXPECT_EQ(alone.probabilities, batch[i].probabilities);
    for (std::size_t s = 0; s < alone.sentences.size(); ++s) {
      EXPECT_EQ(alone.sentences[s].weight, batch[i].sentences[s].weight);
      for (std::size_t w = 0; w < alone.sentences[s].words.size(); ++w)
        EXPECT_EQ(alone.sentences[s].words[w].weight, batch[i].sentences[s].words[w].weight);
    }
  }
}

// ---- real weights and data, where present ------------------------------------------------------

fs::path shared() {
  const char* chosen = std::getenv("TESSERA_SHARED");
  return chosen != nullptr ? fs::path(chosen) : kSource / "../shared";
}

// Weights under the names that PyTorch's modules gave them: parts of ours, and theirs.
using Renames = std::vector<std::pair<std::string, std::string>>;
WeightSource renamed(Weights& weights, const Renames& renames) {
  return [&weights, renames](const std::string& ours, const Shape& shape) {
    std::string theirs = ours;
    for (const auto& [part, replacement] : renames) {
      if (const std::size_t at = theirs.find(part); at != std::string::npos)
        theirs.replace(at, part.size(), replacement);
    }
    return weights.take(theirs, shape);
  };
}

TEST(RealModels, UNetOfIsbiAgreesWithPyTorch) {
  const fs::path folder = shared() / "models/unet_isbi";
  if (!fs::exists(folder)) GTEST_SKIP() << folder << " is not here";
  Weights weights = Weights::open(folder / "unet_isbi_base16.safetensors");
  Weights golden = Weights::open(folder / "unet_isbi_base16.reference.safetensors");
  Renames renames{{"bottom/", "down4/"}, {"head/conv/", "out."}};
  for (int i = 0; i <= 4; ++i) {
    for (const auto& [ours, theirs] : {std::pair{"down", "enc"}, {"up", "dec"}}) {
      renames.emplace_back(fmt::format("{}{}/conv1/", ours, i), fmt::format("{}.{}.0.", theirs, i));
      renames.emplace_back(fmt::format("{}{}/conv2/", ours, i), fmt::format("{}.{}.2.", theirs, i));
    }
    renames.emplace_back(fmt::format("up{}/upsample/", i), fmt::format("up.{}.", i));
  }
  const Tensor input = test::copy_of(golden.take_any_shape("input_nchw"));
  const std::vector<float> expected =
      test::copy_of(golden.take_any_shape("probabilities_nchw")).values();
  // One channel: NCHW and NHWC are the same bytes.
  const Tensor image = Tensor::of({1, 572, 572, 1}, input.values());
  const UNetConfig config{.depth = 4, .base = 16, .skip_first = true};
  // f32 differs in the order of sums, through 23 convolutions; bf16 rounds each map to 2^-9.
  for (const auto& [precision, bound] : {std::pair{DType::kF32, 1e-4}, {DType::kBF16, 0.05}}) {
    Executor executor(optimise_for_cpu(build_unet(config, true), test::types({image}), precision),
                      renamed(weights, renames), test::types({image}), open_cpu_device(2));
    const std::vector<float> result = test::run_executor(executor, {image})[1].values();
    const std::size_t pixels = expected.size() / 2;
    ASSERT_EQ(result.size(), expected.size());
    for (std::size_t i = 0; i < pixels; ++i) {
      const double difference = std::abs(static_cast<double>(expected[i]) - result[2 * i]);
      ASSERT_TRUE(!(difference > bound)) << "pixel " << i << ": " << difference;
    }
  }
}

TEST(RealModels, HanOfImdbAgreesWithPyTorch) {
  const fs::path folder = shared() / "models/han_imdb";
  if (!fs::exists(folder)) GTEST_SKIP() << folder << " is not here";
  Weights weights = Weights::open(folder / "han_imdb_gru50.safetensors");
  Weights golden = Weights::open(folder / "han_imdb_gru50.reference.safetensors");
  const Renames renames{{"/rnn/", "_gru."},
                        {"_ih", "_ih_l0"},
                        {"_hh", "_hh_l0"},
                        {"/attention/context", "_attention.u"},
                        {"/attention/", "_attention.W."},
                        {"embedding/", "embedding."},
                        {"output/", "output."}};
  const Tensor ids = test::copy_of(golden.take_any_shape("ids"));
  const Shape shape = ids.type().shape;
  const Shape table = weights.take_any_shape("embedding.weight").shape();
  const HanConfig config{.words = static_cast<int>(table[0]),
                         .features = static_cast<int>(table[1]),
                         .cell = BiRnn::Cell::kGru,
                         .units = 50,
                         .dense = 0,
                         .attention = 100,
                         .masked = true,
                         .eps = 0,
                         .classes = 2,
                         .max_sentences = static_cast<int>(shape[1]),
                         .max_words = static_cast<int>(shape[2])};
  std::vector<std::int32_t> words, sentences;
  for (std::int64_t d = 0; d < shape[0]; ++d) {
    sentences.push_back(0);
    for (std::int64_t s = 0; s < shape[1]; ++s) {
      const auto* row = ids.view().as<std::int32_t>() + (d * shape[1] + s) * shape[2];
      words.push_back(static_cast<std::int32_t>(
          std::count_if(row, row + shape[2], [](std::int32_t id) { return id != 0; })));
      sentences.back() += words.back() > 0;
    }
  }
  const std::vector<Tensor> inputs{ids, Tensor::of_ids({shape[0], shape[1]}, words),
                                   Tensor::of_ids({shape[0]}, sentences)};
  Executor executor(optimise_for_cpu(build_han(config), test::types(inputs), DType::kF32),
                    renamed(weights, renames), test::types(inputs), open_cpu_device(2));
  const std::vector<Tensor> result = test::run_executor(executor, inputs);
  // Sums of up to 100 products in another order, over 40 and 20 steps of a recurrence.
  constexpr test::Bound kBound{1e-5, 0};
  const char* const names[] = {"probabilities", "word_attention", "sentence_attention"};
  for (std::size_t i = 0; i < 3; ++i) {
    SCOPED_TRACE(names[i]);
    test::expect_close(result[i], test::copy_of(golden.take_any_shape(names[i])), kBound);
  }
}

}  // namespace
}  // namespace tessera
