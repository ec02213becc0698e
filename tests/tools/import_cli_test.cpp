// `tessera import`, and a foreign file where a model is asked for.
#include "models/import/foreign_safetensors.h"
#include "tests/support/cli.h"

namespace tessera {
namespace {

using namespace test;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class ImportCli : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    // A golden without what it holds for other tests, and a head of training that is too many.
    const fs::path golden = source_dir() / "tests/golden/import/nnunet_residual.safetensors";
    const MappedFile file = MappedFile::open(golden, "a golden file");
    std::map<std::string, FloatTensor> tensors;
    for (const StoredTensor& tensor : read_safetensors(file, "golden").tensors)
      if (!tensor.name.starts_with("golden/")) tensors[tensor.name] = read_floats(tensor);
    write_safetensors(at("foreign"), views_of(tensors), {{"format", "pt"}});
    make_image("a.png", 30, 41);
  }
};

TEST_F(ImportCli, WritesAModelFileAndSaysWhatItGuessed) {
  const Result result = run({"import", "foreign", "-o", "m.safetensors", "--set", "multiple=16"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("family   nnU-Net v2\n"), HasSubstr("3 classes"),
                    HasSubstr("--set multiple=16  chosen"), HasSubstr("--set input=standardize"),
                    HasSubstr("unused   4 tensor(s)"), HasSubstr("'decoder.seg_layers.0.bias'"),
                    HasSubstr("written  m.safetensors\n")));
  EXPECT_THAT(result.err, HasSubstr("foreign: the network alone"));
  const Result info = run({"info", "m.safetensors"});
  EXPECT_THAT(info.out, AllOf(HasSubstr("sizes that 16 divides"), HasSubstr("nnU-Net v2")))
      << info.err;
  // The file itself gives the same mask as the model made of it.
  ASSERT_EQ(run({"segment", "-m", "m.safetensors", "a.png", "-o", "a"}).code, 0);
  const Result foreign = run({"segment", "-m", "foreign", "a.png", "-o", "b"});
  ASSERT_EQ(foreign.code, 0) << foreign.err;
  EXPECT_EQ(read_text(at("a/a.mask.png")), read_text(at("b/a.mask.png")));
  EXPECT_GT(read_text(at("a/a.mask.png")).size(), 0U);
}

TEST_F(ImportCli, ADryRunWritesNothing) {
  const Result result = run({"import", "foreign", "--dry-run", "-o", "m.safetensors"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("family"), Not(HasSubstr("written"))));
  EXPECT_FALSE(fs::exists(at("m.safetensors")));
}

TEST_F(ImportCli, NeverReplacesWhatItReads) {
  const std::string foreign = read_text(at("foreign"));
  expect_error(run({"import", "foreign", "-o", "./foreign"}), 2, "-o ./foreign: this file is read");
  fs::create_directories(at("folder"));
  fs::copy(at("foreign"), at("folder/model.safetensors"));
  expect_error(run({"import", "folder", "-o", "folder/model.safetensors"}), 2, "read too");
  EXPECT_EQ(read_text(at("foreign")), foreign);
  EXPECT_EQ(read_text(at("folder/model.safetensors")), foreign);
}

TEST_F(ImportCli, ListsWhatIsKnown) {
  const Result result = run({"import", "--list"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("milesial/Pytorch-UNet "), HasSubstr("MONAI UNet ")));
}

TEST_F(ImportCli, WrongUsageIsNamed) {
  expect_error(run({"import"}), 2, "--list");
  expect_error(run({"import", "foreign"}), 2, "-o");
  expect_error(run({"import", "foreign", "--dry-run", "--set", "x"}), 2, "NAME=VALUE");
  expect_error(run({"import", "foreign", "--dry-run", "--set", "a=1", "--set", "a=2"}), 2, "twice");
  expect_error(run({"import", "foreign", "--dry-run", "--family", "no"}), 2, "--list");
  expect_error(run({"import", "foreign", "--dry-run", "--set", "depth=3"}), 1, "no such choice");
  expect_error(run({"import", "none", "--dry-run"}), 1, "none");
}

}  // namespace
}  // namespace tessera
