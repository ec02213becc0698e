// Packages of bioimage.io, and layers held against a framework's, by the program.
#include "tests/support/cli.h"

namespace tessera::test {
namespace {

using testing::HasSubstr;

std::string golden(const std::string& name) {
  return (source_dir() / "tests/golden/package" / name).string();
}

class PackageCli : public Cli {
 protected:
  // The golden folder with another step before the network, which therefore computes something
  // else.
  std::string wrong_package() {
    fs::copy(golden("colours"), at("wrong"), fs::copy_options::recursive);
    std::string yaml = read_text(at("wrong/rdf.yaml"));
    const std::string step =
        "zero_mean_unit_variance\n        kwargs: {mode: per_sample, axes: yx}";
    yaml.replace(yaml.find(step), step.size(), "clip\n        kwargs: {min: 0, max: 60}");
    write_bytes(at("wrong/rdf.yaml"), yaml);
    return path("wrong");
  }
};

TEST_F(PackageCli, ImportTriesThePackagesOwnTensors) {
  const Result result = run({"import", golden("nuclei.zip"), "-o", path("nuclei.safetensors")});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("largest error"));
  EXPECT_THAT(result.out, HasSubstr("--set weights=onnx"));
  EXPECT_TRUE(fs::exists(at("nuclei.safetensors")));
}

TEST_F(PackageCli, ImportRefusesWhatComputesOtherwiseUnlessToldNotTo) {
  const std::string package = wrong_package();
  expect_error(run({"import", package, "-o", path("model.safetensors"), "--tolerance", "1e-9x"}), 2,
               "tolerance");
  const Result refused = run({"import", package, "-o", path("model.safetensors")});
  EXPECT_EQ(refused.code, 1) << refused.out;
  EXPECT_THAT(refused.err, HasSubstr("does not give what its own test tensors say"));
  EXPECT_FALSE(fs::exists(at("model.safetensors")));
  EXPECT_EQ(run({"import", package, "-o", path("model.safetensors"), "--tolerance", "10"}).code, 0);
  EXPECT_TRUE(fs::exists(at("model.safetensors")));
  EXPECT_EQ(run({"verify", package}).code, 1);
}

TEST_F(PackageCli, FoldersAndArchivesRunWhereModelsDo) {
  make_image("in/cells.png");
  for (const std::string name : {"nuclei.zip", "colours"}) {
    const Result segmented = run({"segment", "-m", golden(name), path("in"), "-o", path("out")});
    EXPECT_EQ(segmented.code, 0) << segmented.err;
    EXPECT_THAT(files_in("out"), testing::Contains(HasSubstr("cells")));
    const Result verified = run({"verify", golden(name)});
    EXPECT_EQ(verified.code, 0) << verified.err;
    EXPECT_THAT(verified.out, HasSubstr("agrees"));
    fs::remove_all(at("out"));
  }
  // Arrays have the package's axes.
  const Result computed = run(
      {"run", golden("colours"), "--input", golden("colours/in.npy"), "--output", path("out.npy")});
  EXPECT_EQ(computed.code, 0) << computed.err;
  EXPECT_THAT(computed.out, HasSubstr("(1, 2, 16, 24)"));
}

TEST_F(PackageCli, VerifyNamesLayers) {
  const std::string model = golden("milesial.pth");
  const Result agrees = run({"verify", model, "--activations", golden("milesial.npz")});
  EXPECT_EQ(agrees.code, 0) << agrees.out << agrees.err;
  EXPECT_THAT(agrees.out, HasSubstr("layers agree"));
  const Result same = run({"verify", model, "--against", model});
  EXPECT_EQ(same.code, 0) << same.out << same.err;
  EXPECT_EQ(
      run({"verify", model, "--activations", golden("milesial.npz"), "--tolerance", "0"}).code, 1);
  expect_error(run({"verify", model}), 2, "--activations");
  expect_error(run({"verify", model, "--against", model, "--activations", model}), 2, "exclude");
  const Result no_arrays = run({"verify", model, "--activations", model});
  EXPECT_EQ(no_arrays.code, 1);
  EXPECT_THAT(no_arrays.err, HasSubstr("no array"));
}

}  // namespace
}  // namespace tessera::test
