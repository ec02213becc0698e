// Checkpoints of PyTorch (tools/golden/make_pytorch_goldens.py): however a network was saved, the
// model file has the same bytes.
#include "models/import/pytorch.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <iterator>

#include "models/import/import.h"
#include "tests/support/error.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace tessera {
namespace {

using test::error_of;
using testing::AllOf;
using testing::HasSubstr;

std::filesystem::path golden(const std::string& name) {
  return test::source_dir() / "tests/golden/import/pytorch" / name;
}

std::string content_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

// The model file that an import makes, without the name of the file that it came from.
std::string imported_bytes(const std::filesystem::path& path, const ImportOptions& options = {}) {
  Imported imported = import_model(path, options);
  imported.config.provenance["imported"].erase("file");
  const test::TempFolder scratch;
  const std::filesystem::path out = scratch.path() / "model.safetensors";
  save_model(out, imported.config, imported.tensors, imported.vocabulary);
  return content_of(out);
}

// A file of torch.save before 1.6 without storages: pickles of the magic number, the protocol, the
// machine, then the object and the storages' keys.
std::string in_a_row(const std::string& pickle) {
  const std::string magic("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15);
  return magic + "\x80\x02M\xe9\x03.\x80\x02}.\x80\x02" + pickle + "\x80\x02].";
}

class SavedInManyWays : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Files, SavedInManyWays,
                         testing::Values("module.pth", "compiled.bin", "lightning.ckpt", "whole.pt",
                                         "whole_legacy.pt", "legacy.pt", "channels_last.pt",
                                         "bf16.pt", "f64.pt", "shared.pt", "scripted.ts",
                                         "deflated.zip", "command.pt"),
                         [](const auto& param) {
                           std::string name = param.param;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

TEST_P(SavedInManyWays, GivesTheSameBytes) {
  const std::string expected = imported_bytes(golden("unet_bare.pt"));
  ASSERT_GT(expected.size(), 8000u);
  EXPECT_TRUE(imported_bytes(golden(std::string("unet_") + GetParam())) == expected);
}

ImportOptions with_key(const std::string& key) {
  ImportOptions options;
  options.key = key;
  return options;
}

TEST(PyTorch, OfSeveralNetworksTheUserNamesOne) {
  const std::filesystem::path two = golden("unet_two.pt");
  EXPECT_THAT(error_of([&] { import_model(two); }),
              AllOf(HasSubstr("--key"), HasSubstr("'ema/state_dict' (26 tensors)"),
                    HasSubstr("'raw' (26 tensors)")));
  const std::string expected = imported_bytes(golden("unet_bare.pt"));
  for (const char* key : {"ema/state_dict", "state_dict"})
    EXPECT_TRUE(imported_bytes(two, with_key(key)) == expected) << key;
  EXPECT_FALSE(imported_bytes(two, with_key("raw")) == expected);
  EXPECT_THAT(error_of([&] { import_model(two, with_key("rwa")); }), HasSubstr("'raw'"));
}

Contents read(const std::string& name, const std::string& key = "") {
  const MappedFile file = MappedFile::open(golden(name), "a golden file");
  const std::string path = golden(name).string();
  if (is_pytorch_pickles(file.bytes())) return read_pytorch_pickles(file, path, key);
  return read_pytorch_zip(file, ZipArchive::read(file.bytes(), path), path, key);
}

TEST(PyTorch, ModulesAndPlainValuesAreSaidBesideTheTensors) {
  const Contents bare = read("unet_bare.pt");
  EXPECT_EQ(bare.format, "PyTorch");
  EXPECT_EQ(bare.tensors.size(), 26u);
  EXPECT_EQ(bare.said["modules"]["enc.0.0"], 1);
  EXPECT_EQ(bare.said["modules"].size(), 32u);

  const Contents lightning = read("unet_lightning.ckpt");
  EXPECT_EQ(lightning.said["entries"]["global_step"], 7);
  EXPECT_EQ(lightning.said["entries"]["best"], 0.25);
  EXPECT_EQ(lightning.said["entries"]["hyper_parameters"]["state"]["name"], "unet");
  EXPECT_FALSE(lightning.said["entries"].contains("optimizer_states"));

  for (const char* name : {"unet_whole.pt", "unet_whole_legacy.pt"}) {
    const Contents whole = read(name);
    EXPECT_EQ(whole.said["objects"][""]["class"], "study.networks.PaperUNet") << name;
    const auto& conv = whole.said["objects"]["enc.0.0"];
    EXPECT_EQ(conv["class"], "torch.nn.modules.conv.Conv2d") << name;
    EXPECT_EQ(conv["attributes"]["kernel_size"], nlohmann::json({3, 3})) << name;
    EXPECT_EQ(whole.find("scratch"), nullptr) << "a buffer that is not persistent";
  }
  const Contents scripted = read("unet_scripted.ts");
  EXPECT_EQ(scripted.format, "PyTorch (TorchScript)");
  EXPECT_EQ(scripted.said["objects"]["up.0"]["class"], "torch.nn.modules.conv.ConvTranspose2d");
}

TEST(PyTorch, TensorsStayInTheFile) {
  const MappedFile file = MappedFile::open(golden("unet_shared.pt"), "a golden file");
  const Contents contents = read_pytorch_zip(file, ZipArchive::read(file.bytes(), "x"), "x", "");
  for (const StoredTensor& tensor : contents.tensors) {
    EXPECT_GE(tensor.bytes.data(), file.bytes().data());
    EXPECT_LE(tensor.bytes.data() + tensor.bytes.size(), file.bytes().data() + file.bytes().size());
  }
}

// Turned axes are taken by 16 elements: more than that, fewer, and a rest.
TEST(StoredTensors, AreReadInTheOrderOfAxes) {
  const std::vector<std::int64_t> shape{2, 3, 5, 37};
  std::vector<float> values(2 * 3 * 5 * 37);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const auto at = [&](const std::array<std::int64_t, 4>& index) {
    return values[static_cast<std::size_t>(((index[0] * 3 + index[1]) * 5 + index[2]) * 37 +
                                           index[3])];
  };
  std::array axes{0, 1, 2, 3};
  do {
    for (const bool strided : {false, true}) {
      StoredTensor tensor{
          "t", StoredTensor::Type::kF32, shape, {}, std::as_bytes(std::span(values))};
      // The same elements, with axes 1 and 3 exchanged in the file.
      if (strided) tensor.shape = {2, 37, 5, 3}, tensor.strides = {555, 1, 37, 185};
      const FloatTensor read = read_floats(tensor, axes);
      std::size_t i = 0;
      std::array<std::int64_t, 4> index{};
      const auto extent = [&](int axis) { return tensor.shape[static_cast<std::size_t>(axis)]; };
      for (std::int64_t a = 0; a < extent(axes[0]); ++a)
        for (std::int64_t b = 0; b < extent(axes[1]); ++b)
          for (std::int64_t c = 0; c < extent(axes[2]); ++c)
            for (std::int64_t d = 0; d < extent(axes[3]); ++d) {
              const std::array<std::int64_t, 4> moved{a, b, c, d};
              for (std::size_t k = 0; k < 4; ++k)
                index[static_cast<std::size_t>(axes[k])] = moved[k];
              if (strided) std::swap(index[1], index[3]);
              ASSERT_EQ(read.values[i++], at(index)) << a << b << c << d;
            }
    }
  } while (std::next_permutation(axes.begin(), axes.end()));
}

TEST(PyTorch, NothingThatAPickleNamesIsCalled) {
  EXPECT_EQ(read("unet_command.pt").said["entries"]["hook"]["class"], "posix.system");
  const test::TempFolder scratch;
  const std::filesystem::path trace = scratch.path() / "the-pickle-ran";
  std::ofstream(scratch.path() / "x.pt", std::ios::binary)
      << in_a_row(fmt::format("}}S'hook'\ncposix\nsystem\n(S'touch {}'\ntRs.", trace.string()));
  EXPECT_THAT(error_of([&] { import_model(scratch.path() / "x.pt"); }),
              HasSubstr("a dict with 'hook'"));
  EXPECT_FALSE(std::filesystem::exists(trace));
}

TEST(PyTorch, ModulesAndDictsThatHoldThemselvesAreRefused) {
  const test::TempFolder scratch;
  const auto error_with = [&](const std::string& pickle) {
    std::ofstream(scratch.path() / "x.pt", std::ios::binary) << in_a_row(pickle);
    return error_of([&] { import_model(scratch.path() / "x.pt"); });
  };
  EXPECT_THAT(error_with("}p0\nS'a'\ng0\ns."), HasSubstr("expected a dict of tensors"));
  EXPECT_THAT(error_with("cnet\nNet\n)Rp0\n}(S'_parameters'\n}S'_modules'\n}S'inner'\ng0\nsub."),
              AllOf(HasSubstr("64 deep"), HasSubstr("state_dict()")));
}

// A golden file with one part of its bytes replaced by another of the same length.
class Damaged : public testing::Test {
 protected:
  std::string error_with(const std::string& name, const std::string& from, const std::string& to) {
    std::string bytes = content_of(golden(name));
    const std::size_t at = bytes.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    bytes.replace(at, from.size(), to);
    const std::filesystem::path path = scratch_.path() / name;
    std::ofstream(path, std::ios::binary) << bytes;
    return error_of([&] { import_model(path); });
  }
  test::TempFolder scratch_;
};

TEST_F(Damaged, FilesSayWhatIsWrong) {
  // Before 1.6 nothing is checked by a checksum.
  EXPECT_THAT(error_with("unet_legacy.pt", "FloatStorage", "QuintStorage"),
              HasSubstr("save it again"));
  EXPECT_THAT(error_with("unet_legacy.pt", "little_endianq\x02\x88", "little_endianq\x02\x89"),
              HasSubstr("save it again"));
  EXPECT_THAT(error_with("unet_legacy.pt", "_rebuild_tensor_v2", "_rebuild_sparse_v2"),
              HasSubstr(".to_dense()"));
  // The shape of the first convolution: 2 becomes 200.
  EXPECT_THAT(error_with("unet_legacy.pt", "(K\x02K\x01K\x03K\x03t", "(K\xc8K\x01K\x03K\x03t"),
              HasSubstr("but the file holds"));
  EXPECT_THAT(error_with("unet_bare.pt", "FloatStorage", "QuintStorage"), HasSubstr("checksum"));
}

TEST_F(Damaged, CutFilesAreRefused) {
  for (const char* name : {"unet_legacy.pt", "unet_bare.pt"}) {
    const std::string bytes = content_of(golden(name));
    for (std::size_t size = 16; size < bytes.size(); size += 97) {
      const std::filesystem::path path = scratch_.path() / "cut.pt";
      std::ofstream(path, std::ios::binary) << bytes.substr(0, size);
      EXPECT_FALSE(error_of([&] { import_model(path); }).empty()) << name << " at " << size;
    }
  }
}

TEST(RealModels, CheckpointsOfTheUNetOfIsbiGiveTheSameBytes) {
  const std::filesystem::path folder = test::shared_dir() / "models/unet_isbi";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
  const std::string expected = imported_bytes(folder / "unet_isbi_base16.safetensors");
  for (const char* name : {"unet_isbi_base16.pt", "unet_isbi_base16_legacy.pt"})
    EXPECT_TRUE(imported_bytes(folder / name) == expected) << name;
}

}  // namespace
}  // namespace tessera
