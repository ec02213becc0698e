// Model folders of nnU-Net v2 against PyTorch's answers (tools/golden/make_nnunet_goldens.py), and
// folders that contradict themselves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "engine/files/json_text.h"
#include "models/import/import.h"
#include "models/import/numpy_file.h"
#include "models/session.h"
#include "tests/support/error.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::error_of;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;

constexpr const char* kPlain = "nnUNetTrainer__nnUNetPlans__2d";

fs::path golden(const std::string& name) {
  return test::source_dir() / "tests/golden/import/nnunet" / name;
}

struct NnunetFolder {
  const char *data, *trainer;
  std::vector<std::string> classes;
};
void PrintTo(const NnunetFolder& folder, std::ostream* out) {
  *out << folder.data;
}

class NnunetFolders : public testing::TestWithParam<NnunetFolder> {};

INSTANTIATE_TEST_SUITE_P(
    Schemes, NnunetFolders,
    testing::Values(NnunetFolder{"Dataset001_Cells", kPlain, {"background", "cell", "border"}},
                    NnunetFolder{"Dataset002_Roads",
                                 "nnUNetTrainer__nnUNetResEncUNetMPlans__2d",
                                 {"background", "road"}},
                    NnunetFolder{"Dataset003_Organs", kPlain, {"background", "liver", "spleen"}},
                    NnunetFolder{"Dataset004_Grains", kPlain, {"background", "grain"}}),
    [](const auto& param) { return std::string(param.param.data); });

TEST_P(NnunetFolders, GivePyTorchsAnswers) {
  const fs::path data = golden(GetParam().data);
  SessionOptions options;
  options.device = "cpu";
  options.probabilities = true;
  Session session = Session::open((data / GetParam().trainer).string(), options);
  std::vector<std::string> classes;
  for (const ClassInfo& one : session.classes()) classes.push_back(one.name);
  EXPECT_EQ(classes, GetParam().classes);

  const NumpyArray image = read_numpy(data / "image.npy");
  const auto& shape = image.tensor.shape;
  ImageView view;
  view.pixels = image.tensor.bytes.data();
  view.height = shape[0];
  view.width = shape[1];
  view.channels = shape[2];
  view.type =
      image.tensor.type == StoredTensor::Type::kU8 ? ImageView::Type::kU8 : ImageView::Type::kF32;
  const Segmentation answer = session.segment(view);
  const FloatTensor expected = read_floats(read_numpy(data / "probabilities.npy").tensor);
  ASSERT_EQ(answer.probabilities.size(), expected.values.size());
  // Ten convolutions and norms in f32.
  for (std::size_t i = 0; i < expected.values.size(); ++i)
    ASSERT_TRUE(std::abs(answer.probabilities[i] - expected.values[i]) <= 1e-5)
        << i << ": " << answer.probabilities[i] << ", " << expected.values[i];
}

TEST(Nnunet, ALoneCheckpointCarriesItsPlans) {
  const fs::path folder = golden("Dataset003_Organs") / kPlain;
  const test::TempFolder scratch;
  fs::copy(folder / "fold_0/checkpoint_final.pth", scratch.path() / "lone.pth");
  const Imported lone = import_model(scratch.path() / "lone.pth");
  const Imported whole = import_model(folder);
  EXPECT_EQ(lone.config.preprocessing.steps, whole.config.preprocessing.steps);
  EXPECT_EQ(lone.config.preprocessing.steps.size(), 2u);
  EXPECT_EQ(lone.config.classes.at(2).name, "spleen");
  EXPECT_THAT(lone.notes, Contains(HasSubstr("not resampled")));
}

// A folder whose plans or data set `change` has changed.
class NnunetChanged : public testing::Test {
 protected:
  NnunetChanged() {
    fs::copy(golden("Dataset001_Cells") / kPlain, folder_, fs::copy_options::recursive);
  }
  template <class Change>
  void change(const char* name, const Change& change) {
    std::ifstream file(folder_ / name);
    json value = json::parse(file);
    change(value);
    std::ofstream(folder_ / name) << value.dump();
  }
  template <class Change>
  void change_plans(const Change& how) {
    change("plans.json", [&](json& plans) { how(plans["configurations"]["2d"]); });
  }
  std::string error() const {
    return error_of([&] { import_model(folder_); });
  }

  const test::TempFolder scratch_;
  const fs::path folder_ = scratch_.path() / kPlain;
};

TEST_F(NnunetChanged, SeveralFoldsAreSaid) {
  fs::copy(folder_ / "fold_0", folder_ / "fold_1", fs::copy_options::recursive);
  EXPECT_THAT(import_model(folder_).notes, Contains(HasSubstr("fold_0 of fold_0, fold_1")));
  fs::copy(folder_ / "fold_0", folder_ / "fold_all", fs::copy_options::recursive);
  EXPECT_THAT(import_model(folder_).notes, Contains(HasSubstr("fold_all of")));
  for (const char* fold : {"fold_0", "fold_1", "fold_all"}) fs::remove_all(folder_ / fold);
  EXPECT_THAT(error(), HasSubstr("no fold has a checkpoint"));
}

TEST_F(NnunetChanged, PlansOfAnotherNetworkAreRefused) {
  change_plans([](json& plans) { plans["architecture"]["arch_kwargs"]["strides"][1] = {2, 1}; });
  EXPECT_THAT(error(), AllOf(HasSubstr("strides"), HasSubstr("do not belong together")));
  change_plans([](json& plans) { plans["patch_size"] = {8, 32, 32}; });
  EXPECT_THAT(error(), HasSubstr("only 2-D"));
  change_plans([](json& plans) { plans = {{"inherits_from", "2d"}}; });
  EXPECT_THAT(error(), HasSubstr("inherits from itself"));
}

TEST_F(NnunetChanged, NormalisationThatIsNotDoneHereIsRefused) {
  change_plans([](json& plans) { plans["use_mask_for_norm"] = {true}; });
  EXPECT_THAT(error(), HasSubstr("use_mask_for_norm"));
  change_plans([](json& plans) { plans["normalization_schemes"] = {"Other"}; });
  EXPECT_THAT(error(), HasSubstr("'Other'"));
  change_plans([](json& plans) { plans["normalization_schemes"] = json::array(); });
  EXPECT_THAT(error(), HasSubstr("0 channels"));
  change_plans([](json& plans) { plans["normalization_schemes"] = {"CTNormalization"}; });
  change("plans.json", [](json& plans) {
    plans["foreground_intensity_properties_per_channel"]["0"]["std"] = "x";
  });
  EXPECT_THAT(error(), HasSubstr("'std'"));
}

TEST_F(NnunetChanged, LabelsThatTheNetworkHasNotAreRefused) {
  change("dataset.json", [](json& data) { data["labels"]["ignore"] = 3; });
  EXPECT_EQ(import_model(folder_).config.classes.at(2).name, "border");
  change("dataset.json", [](json& data) { data["labels"]["more"] = 3; });
  EXPECT_THAT(error(), AllOf(HasSubstr("'more'"), HasSubstr("from 0 to 2")));
  change("dataset.json", [](json& data) { data["labels"]["more"] = {1, 2}; });
  EXPECT_THAT(error(), HasSubstr("region"));
  std::ofstream(folder_ / "dataset.json") << "{";
  EXPECT_THAT(error(), HasSubstr("dataset.json"));
}

}  // namespace
}  // namespace tessera
