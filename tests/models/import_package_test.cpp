// Packages of bioimage.io: what PyTorch computed for them (tools/golden/make_package_goldens.py),
// the real ones where they are at hand, and those that were made to harm.
#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <sstream>

#include "engine/files/safetensors.h"
#include "models/image/image_rows.h"
#include "models/image/pixel_steps.h"
#include "models/import/bioimage_description.h"
#include "models/import/import.h"
#include "models/import/sha256.h"
#include "models/import/yaml_text.h"
#include "models/session.h"
#include "tests/support/error.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace tessera::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

fs::path golden(const std::string& name) {
  return source_dir() / "tests/golden/package" / name;
}

// What the package's own tensors say of what was imported.
double own_difference(const Imported& imported) {
  EXPECT_NE(imported.example, nullptr);
  if (imported.example == nullptr) return INFINITY;
  const Difference difference = imported.run_example(open_cpu_device(2));
  return difference.largest / difference.scale;
}

std::string guess_of(const Imported& imported, const std::string& name) {
  for (const Guess& guess : imported.guesses)
    if (guess.name == name) return guess.value;
  return "";
}

TEST(Package, OfFormat5GivesWhatItsTensorsSayWhateverWeightsAreTaken) {
  for (const std::string weights : {"", "onnx", "pytorch_state_dict"}) {
    ImportOptions options;
    if (!weights.empty()) options.choices["weights"] = weights;
    const Imported imported = import_model(golden("nuclei.zip"), options);
    EXPECT_LE(own_difference(imported), 1e-5) << weights;
    EXPECT_EQ(imported.example->answer, Example::Answer::kProbabilities);
    EXPECT_EQ(guess_of(imported, "weights"), weights.empty() ? "onnx" : weights);
    EXPECT_EQ(imported.config.classes.at(1).name, "nucleus");
    EXPECT_EQ(imported.config.graph->multiple, 4);
    ASSERT_EQ(imported.config.preprocessing.steps.size(), 1U);
    EXPECT_EQ(imported.config.preprocessing.steps[0].kind, PixelStep::Kind::kPercentiles);
  }
}

TEST(Package, OfFormat4GivesWhatItsTensorsSay) {
  const Imported imported = import_model(golden("colours"));
  EXPECT_LE(own_difference(imported), 1e-5);
  EXPECT_TRUE(imported.config.preprocessing.steps.at(0).per_channel);
  // The activation is that of the class, which the package tells.
  EXPECT_EQ(imported.config.graph->network.outputs[0].activation, Head::Output::kSigmoid);
  EXPECT_EQ(guess_of(imported, "output"), "");
}

TEST(Package, SegmentsByItsPathAsItsModelFileDoes) {
  const TempFolder folder;
  const fs::path file = folder.path() / "model.safetensors";
  const Imported imported = import_model(golden("nuclei.zip"));
  save_model(file, imported.config, imported.tensors, std::nullopt);
  std::vector<std::uint8_t> pixels(37 * 41);
  for (std::size_t i = 0; i < pixels.size(); ++i)
    pixels[i] = static_cast<std::uint8_t>(i * 7 % 251);
  std::vector<Segmentation> made;
  for (const fs::path& path : {golden("nuclei.zip"), file})
    made.push_back(Session::open(path.string()).segment({pixels.data(), 37, 41}));
  EXPECT_EQ(made[0].mask, made[1].mask);
  // Percentiles are of the whole image.
  Session session = Session::open(file.string());
  const SegmentationWindow window = session.window(37, 41, 0, 0, 37, 41);
  EXPECT_THAT(error_of([&] {
                session.segment_window({pixels.data(), 37, 41}, window);
              }),
              HasSubstr("segment the image as a whole"));
}

TEST(Package, OfTheZooGivesWhatItsTensorsSay) {
  const fs::path zoo = shared_dir() / "models/bioimageio";
  if (!fs::exists(zoo)) GTEST_SKIP() << zoo << " is not there";
  for (const char* name : {"unet2d_nuclei_broad", "unet2d_nuclei_broad/v0_4_0.bioimageio.yaml",
                           "unet2d_nuclei_broad/v0_4_9.bioimageio.yaml", "unet2d_fixed_shape"})
    EXPECT_LE(own_difference(import_model(zoo / name)), 1e-4) << name;
  const fs::path invalid =
      zoo / "unet2d_nuclei_broad/invalid_v0_4_0_duplicate_tensor_names.bioimageio.yaml";
  EXPECT_THAT(error_of([&] { import_model(invalid); }), HasSubstr("both called 'data'"));
  const fs::path elsewhere = zoo / "unet2d_nuclei_broad/expand_output_shape.bioimageio.yaml";
  EXPECT_THAT(error_of([&] { import_model(elsewhere); }), HasSubstr("lies in the net"));
}

// ---- the steps ---------------------------------------------------------------------------------

Image grey(std::vector<float> values) {
  return {1, static_cast<std::int64_t>(values.size()), 1, std::move(values)};
}

std::vector<float> normalised(const Image& image, const char* steps) {
  Preprocessing preprocessing{.channels = image.channels, .scale = Scale::kNone};
  preprocessing.steps = pixel_steps_from_json(json::parse(steps), image.channels);
  std::vector<float> out(static_cast<std::size_t>(image.samples()));
  normalise(image, preprocessing_from_json(to_json(preprocessing)), out);
  return out;
}

TEST(PixelSteps, AreTheFormulasOfBioimageio) {
  using testing::ElementsAre;
  using testing::FloatNear;
  // numpy.percentile of 0, 1, 2, 3, 10 at 10 and 90 is 0.4 and 7.2.
  const auto scaled = normalised(grey({3, 0, 10, 1, 2}),
                                 R"([{"step": "percentiles", "low": 10, "high": 90, "eps": 0}])");
  EXPECT_THAT(scaled, ElementsAre(FloatNear(2.6f / 6.8f, 1e-6f), FloatNear(-0.4f / 6.8f, 1e-6f),
                                  FloatNear(9.6f / 6.8f, 1e-6f), FloatNear(0.6f / 6.8f, 1e-6f),
                                  FloatNear(1.6f / 6.8f, 1e-6f)));
  EXPECT_THAT(normalised(grey({1, 3}), R"([{"step": "standardize", "eps": 1}])"),
              ElementsAre(-0.5f, 0.5f));
  EXPECT_THAT(normalised(grey({1, 3}), R"([{"step": "divide", "mean": [2], "std": [-0.5]},
                                           {"step": "clip", "low": -1, "high": 5}])"),
              ElementsAre(2.0f, -1.0f));
  const Image colours{1, 2, 3, std::vector<float>{1, 10, 5, 3, 30, 5}};
  EXPECT_THAT(normalised(colours, R"([{"step": "standardize", "per_channel": true, "eps": 1}])"),
              ElementsAre(-0.5f, -10.0f / 11, 0.0f, 0.5f, 10.0f / 11, 0.0f));
}

TEST(PixelSteps, AreTheSameByRows) {
  Image image{6, 5, 3, std::vector<std::uint8_t>(90)};
  auto& pixels = std::get<std::vector<std::uint8_t>>(image.pixels);
  for (std::size_t i = 0; i < pixels.size(); ++i)
    pixels[i] = static_cast<std::uint8_t>(i * i % 251);
  Preprocessing preprocessing{.channels = 3};
  preprocessing.steps = pixel_steps_from_json(
      json::parse(R"([{"step": "percentiles", "per_channel": true, "low": 1, "high": 98},
                      {"step": "clip", "low": 0, "high": 1}, {"step": "standardize"}])"),
      3);
  std::vector<float> whole(90), rows(90);
  normalise(image, preprocessing, whole);
  const RowNormaliser normaliser(image, preprocessing);
  for (const auto& [begin, end] : {std::pair{0, 1}, {1, 4}, {4, 6}})
    normaliser.rows(begin, end,
                    std::span(rows).subspan(static_cast<std::size_t>(begin * 15),
                                            static_cast<std::size_t>((end - begin) * 15)));
  EXPECT_EQ(rows, whole);
}

TEST(PixelSteps, RefuseWhatCannotBe) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"step": "divide"})", "expected a list"},
      {R"([{"step": "blur"}])", "expected standardize"},
      {R"([{"step": "divide", "mean": [0], "std": [0]}])", "has a 0"},
      {R"([{"step": "divide", "mean": [0, 0, 0], "std": [1]}])", "expected a finite number"},
      {R"([{"step": "percentiles", "low": 5, "high": 5}])", "the first one to be smaller"},
      {R"([{"step": "percentiles", "low": 5, "high": 101}])", "within 0 and 100"},
      {R"([{"step": "clip", "low": 0, "high": 1, "eps": 1}])", "eps"},
  };
  for (const auto& [text, part] : cases)
    EXPECT_THAT(error_of([text = text] { pixel_steps_from_json(json::parse(text), 1); }),
                HasSubstr(part));
}

// ---- YAML --------------------------------------------------------------------------------------

TEST(Yaml, IsReadByTheCoreSchema) {
  EXPECT_EQ(parse_yaml("a: [1, 0.5, true, ~, 'true', y, 1e3, -.inf, 0x10]\nb: &x {c: d}\ne: *x"),
            json({{"a",
                   {1, 0.5, true, nullptr, "true", "y", 1000.0,
                    -std::numeric_limits<double>::infinity(), "0x10"}},
                  {"b", {{"c", "d"}}},
                  {"e", {{"c", "d"}}}}));
}

TEST(Yaml, BombsAreRefused) {
  std::string laughs = "a: &a [x, x, x, x, x, x, x, x, x, x]\n";
  for (char name = 'b'; name < 'k'; ++name) {
    const std::string alias = std::string("*") + static_cast<char>(name - 1);
    laughs += fmt::format("{0}: &{0} [{1},{1},{1},{1},{1},{1},{1},{1},{1},{1}]\n", name, alias);
  }
  EXPECT_THAT(error_of([&] { parse_yaml(laughs); }), HasSubstr("counting what aliases repeat"));
  const std::string text =
      "a: &a " + std::string(500000, 'x') + "\nb: [*a, *a, *a, *a, *a, *a, *a, *a, *a]";
  EXPECT_THAT(error_of([&] { parse_yaml(text); }), HasSubstr("counting what aliases repeat"));
  EXPECT_THAT(error_of([] { parse_yaml(std::string(5000, '[')); }), HasSubstr("deeper than"));
  EXPECT_THAT(error_of([] { parse_yaml(std::string(2 << 20, ' ')); }), HasSubstr("at most"));
  EXPECT_THAT(error_of([] { parse_yaml("a: &a [*a]"); }), HasSubstr("within what it repeats"));
  EXPECT_THAT(error_of([] { parse_yaml("a: 1\na: 2"); }), HasSubstr("twice"));
  EXPECT_THAT(error_of([] { parse_yaml("a: [1, 2"); }), HasSubstr("no YAML"));
}

TEST(Sha256, IsThatOfTheStandard) {
  const std::string text = "abc";  // FIPS 180-2, appendix B.1
  EXPECT_EQ(sha256_of(std::as_bytes(std::span(text))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

// ---- packages that were made to harm -----------------------------------------------------------

// The golden folder with its description changed.
class ChangedPackage {
 public:
  ChangedPackage(const std::string& from, const std::string& to) {
    fs::copy(golden("colours"), folder_.path(), fs::copy_options::recursive);
    std::ifstream in(path());
    std::stringstream text;
    text << in.rdbuf();
    std::string yaml = text.str();
    const std::size_t at = yaml.find(from);
    EXPECT_NE(at, yaml.npos) << from;
    if (at != yaml.npos) yaml.replace(at, from.size(), to);
    std::ofstream(path()) << yaml;
  }
  fs::path path() const { return folder_.path() / "rdf.yaml"; }
  const fs::path& folder() const { return folder_.path(); }
  std::string error(const ImportOptions& options = {}) const {
    return error_of([&] { import_model(folder(), options); });
  }

 private:
  TempFolder folder_;
};

TEST(Package, IsRefusedForWhatIsWrong) {
  const std::string pre = "zero_mean_unit_variance\n        kwargs: {mode: per_sample, axes: yx}";
  const std::string end = "affinities\n";
  struct {
    std::string from, to, part;
  } const cases[] = {
      {"./weights.pt", "../weights.pt", "leads out of the package"},
      {"./weights.pt", "/etc/passwd", "leads out of the package"},
      {"./weights.pt", "missing.pt", "is not in the package"},
      {"./weights.pt", "rdf.yaml", "SHA-256"},
      {"test_inputs: [in.npy]", "test_inputs: [../in.npy]", "leads out of the package"},
      {"test_inputs: [in.npy]", "test_inputs: [none.npy]", "cannot open"},
      {"test_inputs: [in.npy]", "test_inputs: [rdf.yaml]", "no .npy file"},
      {"bcyx", "byxc", "the network reads 3"},
      {"&axes bcyx", "&axes bczyx", "expected one for each of the axes"},
      {"&axes bcyx", "&axes bcyy", "expected y and x"},
      {"0.4.9", "0.3.6", "expected 0.4 or 0.5"},
      {"type: model", "type: dataset", "expected a model"},
      {"affinities", "raw", "both called 'raw'"},
      {pre, "blur", "--set preprocessing=ignore"},
      {pre, "binarize\n        kwargs: {threshold: 3}", "--set preprocessing=ignore"},
      {"axes: yx", "axes: x", "expected y and x"},
      {"axes: yx", "axes: yz", "its axes are \"yz\""},
      {end, end + "    postprocessing: [{name: sigmoid}]\n", "follows another activation"},
      {end, end + "    postprocessing: [{name: binarize, kwargs: {threshold: 0.3}}]\n",
       "the threshold 0.3, expected 0.5"},
      {"final_activation: Sigmoid", "final_activation: Tanh", "expected Sigmoid or Softmax"},
      {"[1, 3, 16, 24]", "[1, 3, 0, 24]", "expected a whole number from 1"},
      {"pytorch_state_dict", "tensorflow_js", "bioimageio.core converts them"},
      {"sha256: ", "sha256: 12e5 #", "write it in quotes"},
      {"sha256: ", "sha256: \xff #", "UTF-8"},
  };
  for (const auto& [from, to, part] : cases)
    EXPECT_THAT(ChangedPackage(from, to).error(), HasSubstr(part)) << from << " -> " << to;
}

TEST(Package, OfAnotherDigestIsNamedWithBoth) {
  const ChangedPackage package("sha256: ", "sha256: " + std::string(64, 'f') + " #");
  const std::string error = package.error();
  EXPECT_THAT(error, HasSubstr(std::string(64, 'f')));
  EXPECT_THAT(error, HasSubstr("its SHA-256 is "));
}

TEST(Package, MayHaveNoDigest) {
  const ChangedPackage package("sha256: ", "digest: ");
  EXPECT_LE(own_difference(import_model(package.folder())), 1e-5);
}

TEST(Package, ThatComputesOtherwiseDiffersFromItsTensors) {
  // No means and deviations, which the network's own norms undo.
  const ChangedPackage package(
      "zero_mean_unit_variance\n        kwargs: {mode: per_sample, axes: yx}",
      "clip\n        kwargs: {min: 0, max: 60}");
  EXPECT_GT(own_difference(import_model(package.folder())), 1e-3);
}

TEST(Package, StepsMayBeIgnored) {
  const ChangedPackage package("zero_mean_unit_variance", "something_new");
  ImportOptions options;
  options.choices["preprocessing"] = "ignore";
  const Imported imported = import_model(package.folder(), options);
  EXPECT_EQ(imported.example, nullptr);
  EXPECT_EQ(guess_of(imported, "preprocessing"), "ignore");
}

TEST(Package, WeightsInTheNetAreNotFetchedButSafetensorsMayStandForThem) {
  const ChangedPackage package("./weights.pt", "http://example.com/w/weights.torch");
  EXPECT_THAT(package.error(), HasSubstr("nothing is fetched"));
  const Imported original = import_model(golden("colours"));
  write_safetensors(package.folder() / "weights.safetensors", original.tensors, {});
  const Imported imported = import_model(package.folder());
  EXPECT_LE(own_difference(imported), 1e-5);
  EXPECT_THAT(imported.notes, testing::Contains(HasSubstr("stands for it")));
}

TEST(Package, TestTensorOfAnotherShapeIsNamed) {
  const ChangedPackage package("test_outputs: [out.npy]", "test_outputs: [in.npy]");
  const Imported imported = import_model(package.folder());
  EXPECT_THAT(error_of([&] { own_difference(imported); }), HasSubstr("but of the image"));
}

}  // namespace
}  // namespace tessera::test
