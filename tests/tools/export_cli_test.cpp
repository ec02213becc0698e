// `tessera export` as a user runs it.
#include "tests/support/cli.h"

namespace tessera::test {
namespace {

using ::testing::HasSubstr;

class ExportCli : public Cli {
 protected:
  // A class id for each pixel, as it lies in the mask's file.
  std::string mask(const std::string& model, const std::string& folder) {
    const Result result = run({"segment", "-m", path(model), path("scan.png"), "-o", folder});
    EXPECT_EQ(result.code, 0) << result.err;
    return read_text(at(folder) / "scan.mask.png");
  }
};

TEST_F(ExportCli, WhatWasExportedSegmentsTheSame) {
  make_image("scan.png", 70, 90);
  for (const char* file : {"out.onnx", "out.pth"}) {
    const Result result = run({"export", unet_, "-o", path(file)});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr(file));
    EXPECT_EQ(result.err, "");
  }
  EXPECT_THAT(read_text(at("out.py")), HasSubstr("class Network(nn.Module)"));
  const std::string expected = mask("models/unet.safetensors", "ours");
  EXPECT_FALSE(expected.empty());
  EXPECT_TRUE(mask("out.onnx", "onnx") == expected);
  EXPECT_TRUE(mask("out.pth", "torch") == expected);
}

TEST_F(ExportCli, AHanComesBackWithItsWords) {
  const Result result = run({"export", han_, "--to", "pytorch", "-o", path("han.state")});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(json::parse(read_text(at("han.words.json"))),
            json({{"the", 2}, {"film", 3}, {"was", 4}, {"great", 5}, {"dull", 6}}));
  const Result back = run({"import", path("han.state"), "--vocabulary", path("han.words.json"),
                           "-o", path("back.safetensors")});
  EXPECT_EQ(back.code, 0) << back.err;
  write_bytes(at("text.txt"), "The film was great. It was dull.");
  const Result ours = run(classify({path("text.txt"), "--json"}));
  const Result theirs =
      run({"classify", "-m", path("back.safetensors"), path("text.txt"), "--json"});
  EXPECT_EQ(ours.code, 0) << ours.err;
  EXPECT_EQ(theirs.out, ours.out);
}

TEST_F(ExportCli, SaysWhatItCannotDo) {
  expect_error(run({"export", unet_, "-o", path("model.bin")}), 2, "--to onnx");
  expect_error(run({"export", unet_, "-o", path("no/such/folder/m.onnx")}), 1, "no/such/folder");
  expect_error(run({"export", path("none.safetensors"), "-o", path("m.onnx")}), 1, "none");
}

}  // namespace
}  // namespace tessera::test
