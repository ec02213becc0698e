// A file of another program where a verb asks for a model: what is guessed is said, and overruled
// by the same options everywhere.
#include "models/session.h"
#include "tests/support/cli.h"

namespace tessera {
namespace {

using namespace test;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

class ForeignCli : public Cli {
 protected:
  static std::string golden(const std::string& name) {
    return (source_dir() / "tests/golden/import/pytorch" / name).string();
  }
};

TEST_F(ForeignCli, SegmentSaysWhatItTookForGranted) {
  make_image("a.png", 44, 44);
  const std::string unet = golden("unet_bare.pt");
  const Result guessed = run({"segment", "-m", unet, "a.png", "-o", "a"});
  ASSERT_EQ(guessed.code, 0) << guessed.err;
  EXPECT_THAT(guessed.err, AllOf(HasSubstr("unet_bare.pt: read as "), HasSubstr("input=unit"),
                                 HasSubstr("--set NAME=VALUE")));
  const Result chosen =
      run({"segment", "-m", unet, "a.png", "-o", "b", "--set", "input=none", "--probabilities"});
  ASSERT_EQ(chosen.code, 0) << chosen.err;
  EXPECT_THAT(chosen.err, Not(HasSubstr("input=")));
  EXPECT_THAT(run({"info", unet, "--set", "input=symmetric", "--json"}).out,
              HasSubstr("\"imported\""));
  expect_error(run({"segment", "-m", unet, "a.png", "-o", "c", "--family", "no"}), 2, "--list");
  expect_error(run({"segment", "-m", unet, "a.png", "-o", "c", "--set", "x"}), 2, "NAME=VALUE");
  expect_error(run({"segment", "a.png", "-o", "c", "--key", "ema"}), 1, "no file of another");
}

TEST_F(ForeignCli, AVocabularyCanBeGivenWithTheModel) {
  std::ofstream(at("texts.txt")) << "alpha beta gamma.\n";
  const std::string han = golden("han_uvipen.pt");
  expect_error(run({"classify", "-m", han, "texts.txt"}), 1, "--vocabulary");
  const Result result =
      run({"classify", "-m", han, "texts.txt", "--vocabulary", golden("glove.txt")});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("han_uvipen.pt: read as uvipen/"));
}

TEST(ForeignSession, HearsTheGuessesAndTakesChoices) {
  const std::string unet = (source_dir() / "tests/golden/import/pytorch/unet_two.pt").string();
  std::vector<std::string> notes;
  SessionOptions options{.device = "cpu"};
  options.on_note = [&](std::string_view line) { notes.emplace_back(line); };
  options.foreign = {.key = "raw", .choices = {{"input", "none"}}};
  const Session session = Session::open(unet, options);
  EXPECT_THAT(notes, Contains(AllOf(HasSubstr("read as"), Not(HasSubstr("input=")))));
  EXPECT_THAT(session.config_json(), HasSubstr("\"scale\": \"none\""));
}

}  // namespace
}  // namespace tessera
