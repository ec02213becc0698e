// `tessera eval` as a user meets it: its figures are those of the masks that `segment` writes and
// of the labels that `classify` prints.
#include <cmath>
#include <cstdlib>

#include "models/image/image_io.h"
#include "models/training/confusion_matrix.h"
#include "models/training/segmentation_metrics.h"
#include "tests/support/cli.h"
#include "tests/support/paths.h"

namespace tessera {
namespace {

using namespace test;
using testing::AllOf;
using testing::HasSubstr;
using Bytes = std::vector<std::uint8_t>;

class Eval : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    for (int i = 0; i < 3; ++i) {
      const std::string name = "data/images/" + std::to_string(i) + ".png";
      make_image(name, 30 + i, 41);
      Bytes mask;
      for (int p = 0; p < (30 + i) * 41; ++p) mask.push_back(p % 41 < 15 + i ? 1 : 0);
      fs::create_directories(at("data/masks"));
      write_png(at("data/masks/" + std::to_string(i) + ".png"), {30 + i, 41, 1, mask});
    }
  }

  Result eval(std::vector<std::string> arguments, const std::string& model) {
    arguments.insert(arguments.begin(), {"eval", "-m", model});
    return run(arguments);
  }
  Result eval(std::vector<std::string> arguments) { return eval(std::move(arguments), unet_); }

  static Bytes ids(const fs::path& path) {
    return std::get<Bytes>(ImageReader(path).read().pixels);
  }
};

TEST_F(Eval, CountsThePixelsThatSegmentWrites) {
  ASSERT_EQ(run(segment({"data/images", "-o", "out", "-q"})).code, 0);
  ConfusionMatrix expected(2);
  for (const char* name : {"0", "1", "2"}) {
    expected.add(ids(at(std::string("data/masks/") + name + ".png")),
                 ids(at(std::string("out/") + name + ".mask.png")), 255);
  }
  const Result result = eval({"data", "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  const json figures = json::parse(result.out);
  EXPECT_EQ(figures["pixels"]["matrix"][0][0], expected.at(0, 0));
  EXPECT_EQ(figures["pixels"]["matrix"][1][0], expected.at(1, 0));
  EXPECT_DOUBLE_EQ(figures["pixels"]["accuracy"], expected.accuracy());
  EXPECT_DOUBLE_EQ(figures["pixel_error"], 1 - expected.accuracy());
  EXPECT_EQ(figures["pixels"]["classes"][1]["name"], "cell");
  EXPECT_EQ(figures["images"].size(), 3U);
  EXPECT_TRUE(figures["failed"].empty());
  EXPECT_FALSE(figures.contains("objects"));

  const Result table = eval({"data", "--per-image"});
  ASSERT_EQ(table.code, 0) << table.err;
  EXPECT_THAT(table.out, AllOf(HasSubstr("2: accuracy"), HasSubstr("ground"), HasSubstr("IoU"),
                               HasSubstr("3 images, pixel accuracy")));
}

TEST_F(Eval, TakesFoldersListsAndHeldOutImages) {
  EXPECT_EQ(eval({"--images", "data/images", "--masks", "data/masks"}).code, 0);
  write_bytes(at("list.tsv"), "data/images/1.png\tdata/masks/1.png\n");
  const Result list = eval({"list.tsv", "--json"});
  ASSERT_EQ(list.code, 0) << list.err;
  EXPECT_EQ(json::parse(list.out)["images"][0]["name"], "data/images/1");
  const Result held_out = eval({"data", "--json", "--validation", "names:0..1"});
  ASSERT_EQ(held_out.code, 0) << held_out.err;
  EXPECT_EQ(json::parse(held_out.out)["images"].size(), 2U);
}

TEST_F(Eval, CountsObjectsAndMembranes) {
  const Result result =
      eval({"data", "--json", "--mask-format", "objects", "--membrane", "ground"});
  ASSERT_EQ(result.code, 0) << result.err;
  const json figures = json::parse(result.out);
  EXPECT_EQ(figures["objects"]["truth"], 3);
  EXPECT_TRUE(figures["images"][0].contains("objects"));
  EXPECT_EQ(figures["membranes"]["thresholds"].size(), 9U);
  const double best = figures["membranes"]["rand_f_score"]["value"];
  for (const json& one : figures["membranes"]["thresholds"]) EXPECT_LE(one["rand_f_score"], best);
  EXPECT_EQ(eval({"data", "--objects", "--min-area", "0"}).code, 0);
  const Result table = eval({"data", "--objects", "--membrane", "0"});
  ASSERT_EQ(table.code, 0) << table.err;
  EXPECT_THAT(table.out, AllOf(HasSubstr("objects: "), HasSubstr("F1"),
                               HasSubstr("Rand F-score, thinned"), HasSubstr("warping: ")));
}

TEST_F(Eval, ReportsBadPairsAndDoesTheOthers) {
  write_bytes(at("data/images/broken.png"), "no image");
  write_png(at("data/masks/broken.png"), {5, 5, 1, Bytes(25)});
  make_image("data/images/lonely.png");
  write_png(at("data/masks/1.png"), {9, 9, 1, Bytes(81)});
  const Result result = eval({"data", "--json"});
  EXPECT_EQ(result.code, 3) << result.err;
  EXPECT_THAT(result.err, AllOf(HasSubstr("3 of 5 images failed"), HasSubstr("broken.png"),
                                HasSubstr("lonely.png"), HasSubstr("9 x 9")));
  EXPECT_EQ(json::parse(result.out)["failed"].size(), 3U);
}

TEST_F(Eval, SaysWhatIsWrong) {
  expect_error(eval({}), 2, "no data");
  // Said before a device is looked for, which would be a line of its own.
  expect_error(run({"eval", "-m", unet_, "data", "--images", "data/images"}, "/dev/null",
                   {{"TESSERA_DEVICE", "auto"}}),
               2, "--masks");
  expect_error(eval({"data", "--mask-format", "binaries"}), 2, "--mask-format");
  expect_error(eval({"data", "--mask-format", "values:0,1,2"}), 2, "3 classes");
  expect_error(eval({"data", "--membrane", "wall"}), 2, "ground, cell");
  expect_error(eval({"data"}, han_), 1, "no documents");
  expect_error(eval({"data", "--objects"}, han_), 2, "classifies documents");
  expect_error(eval({"data", "--validation", "0.1"}, han_), 2, "--validation");
  expect_error(run({"eval", "some.tsv"}), 2, "-m");
  expect_error(eval({"gone"}), 1, "gone");
  expect_error(eval({"data", "--mask-format", "values:7,8", "--validation", "names:0"}), 1,
               "0 (780 pixels)");
  expect_error(eval({"data", "--validation", "every:1"}), 2, "--validation: 'every:1'");
  expect_error(eval({"data", "--validation", "list:gone"}), 2,
               "--validation: gone: cannot be opened");
}

TEST_F(Eval, CountsTheLabelsThatClassifyPrints) {
  const std::vector<std::pair<std::string, std::string>> documents = {
      {"good", "The film was great."}, {"bad", "Dull."},        {"good", "Great film. Great."},
      {"bad", "The film was dull."},   {"good", "A great one"}, {"bad", "was was was"}};
  std::string tsv;
  for (const auto& [label, text] : documents) tsv += label + "\t" + text + "\n";
  write_bytes(at("test.tsv"), tsv);
  const Result labels = run(classify({"test.tsv", "--json"}));
  ASSERT_EQ(labels.code, 0) << labels.err;
  std::istringstream lines(labels.out);
  ConfusionMatrix expected(2);
  double loss = 0;
  for (const auto& [label, text] : documents) {
    std::string line;
    std::getline(lines, line);
    const json answer = json::parse(line);
    expected.add(label == "good" ? 1 : 0, answer["label"] == "good" ? 1 : 0);
    for (const json& one : answer["probabilities"]) {
      if (one["label"] == label) loss -= std::log(one["probability"].get<double>());
    }
  }
  const Result result = eval({"test.tsv", "--json"}, han_);
  ASSERT_EQ(result.code, 0) << result.err;
  const json figures = json::parse(result.out);
  EXPECT_DOUBLE_EQ(figures["accuracy"], expected.accuracy());
  EXPECT_NEAR(figures["loss"].get<double>(), loss / 6, 1e-6);
  EXPECT_EQ(figures["documents"]["matrix"][1][0], expected.at(1, 0));
  EXPECT_EQ(figures["documents"]["classes"][0]["truth"], 3);
  const Result table = eval({"test.tsv"}, han_);
  ASSERT_EQ(table.code, 0) << table.err;
  EXPECT_THAT(table.out, AllOf(HasSubstr("confusion"), HasSubstr("of 6 right, loss")));
}

TEST_F(Eval, ReportsDocumentsWithoutAKnownLabel) {
  write_bytes(
      at("test.jsonl"),
      "{\"text\": \"great\", \"label\": \"good\"}\n{\"text\": \"dull\"}\n"
      "{\"text\": \"dull\", \"label\": \"poor\"}\n{\"text\": \"film\", \"label\": \"poor\"}\n");
  const Result result = eval({"test.jsonl"}, han_);
  EXPECT_EQ(result.code, 3) << result.err;
  EXPECT_THAT(result.err, AllOf(HasSubstr("test.jsonl:2"), HasSubstr("no label"),
                                HasSubstr("'poor'"), HasSubstr("2 documents")));
  EXPECT_THAT(result.out, HasSubstr("of 1 right"));
  write_bytes(at("a.txt"), "great");
  expect_error(eval({"a.txt"}, han_), 1, "a text has no label");
}

// The PyTorch model's own figures on the images that its training left out.
TEST_F(Eval, TheBundledModelReachesItsFigures) {
  const fs::path data = shared_dir() / "data/isbi2012/train";
  if (!fs::exists(data)) GTEST_SKIP() << "no real data at " << data;
  const Result result = eval(
      {"--images", (data / "image").string(), "--masks", (data / "label").string(), "--mask-format",
       "binary", "--validation", "names:24", "--membrane", "membrane", "--json", "--device", "cpu"},
      source_dir() / "models/demo/unet_isbi.safetensors");
  ASSERT_EQ(result.code, 0) << result.err;
  const json figures = json::parse(result.out);
  EXPECT_GT(figures["pixels"]["accuracy"], 0.88);
  EXPECT_GT(figures["pixels"]["classes"][0]["iou"], 0.58);
  EXPECT_GT(figures["membranes"]["rand_f_score_thinned"]["value"], 0.5);
  EXPECT_LT(figures["membranes"]["warping_error"]["value"], 0.02);
}

}  // namespace
}  // namespace tessera
