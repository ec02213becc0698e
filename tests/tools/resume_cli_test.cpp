// Batches that end too early and go on with --resume: to the bytes of one that was left alone, and
// with nothing kept that was made from another image, text, model or option.
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <thread>
#include <utility>

#include "engine/files/digest.h"
#include "models/export/export.h"
#include "models/image/image_io.h"
#include "tests/support/cli.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using namespace test;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class Resume : public Cli {
 protected:
  // A model whose weights differ in one byte; of the same size.
  static void change_model(const std::string& path) {
    std::string bytes = read_text(path);
    bytes[bytes.size() - 200] ^= 0x10;
    write_bytes(path, bytes);
  }

  std::map<std::string, std::string> contents(const std::string& folder) const {
    std::map<std::string, std::string> found;
    for (const std::string& name : files_in(folder)) {
      if (name != "summary.json") found[name] = read_text(at(folder) / name);
    }
    return found;
  }
};

// ---- segment -----------------------------------------------------------------------------------

TEST_F(Resume, DoesOnlyWhatIsMissing) {
  for (const char* name : {"in/a.png", "in/b.png", "in/c.png"}) make_image(name);
  ASSERT_EQ(run(segment({"in", "--instances"})).code, 0);
  const json before = json::parse(read_text(at("out/summary.json")));
  const auto kept = fs::last_write_time(at("out/a.mask.png"));
  fs::remove(at("out/b.mask.png"));
  fs::remove(at("out/c.overlay.png"));
  const Result result = run(segment({"in", "--instances", "--resume"}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.err, "");  // what is missing is no surprise
  EXPECT_EQ(fs::last_write_time(at("out/a.mask.png")), kept);
  EXPECT_TRUE(fs::exists(at("out/b.mask.png")));
  EXPECT_TRUE(fs::exists(at("out/c.overlay.png")));
  const json after = json::parse(read_text(at("out/summary.json")));
  ASSERT_EQ(after["images"].size(), 3U);
  EXPECT_TRUE(after["images"][0].contains("resumed"));
  EXPECT_FALSE(after["images"][1].contains("resumed"));
  for (std::size_t i = 0; i < 3; ++i) {
    for (const char* key : {"input", "files", "pages", "height", "classes", "instances"})
      EXPECT_EQ(after["images"][i][key], before["images"][i][key]) << key;
  }
}

TEST_F(Resume, DoesWhatAnotherModelOrOptionHasMadeAgain) {
  make_image("in/a.png");
  make_image("in/b.png");
  ASSERT_EQ(run(segment({"in", "--instances"})).code, 0);
  ASSERT_EQ(run(segment({"in", "--instances", "-o", "same"})).code, 0);
  EXPECT_EQ(run(segment({"in", "--instances", "--resume", "--threads", "1", "--tile", "48"})).err,
            "");  // which change no byte
  const Result area = run(segment({"in", "--instances", "--resume", "--min-area", "7"}));
  EXPECT_EQ(area.err, "done again: 2 images (2 for other options)\n");
  // Without objects, now.
  EXPECT_EQ(run(segment({"in", "--resume", "--min-area", "9"})).err,
            "done again: 2 images (2 for other options)\n"
            "2 files of an earlier run lie beside new results: 'out/a.instances.tif' and 1 more\n");
  change_model(unet_);
  const Result model = run(segment({"in", "--instances", "--resume", "-o", "same"}));
  EXPECT_EQ(model.code, 0);
  EXPECT_EQ(model.err, "done again: 2 images (2 for another model)\n");
  ASSERT_EQ(run(segment({"in", "--instances", "-o", "fresh"})).code, 0);
  EXPECT_EQ(contents("same"), contents("fresh"));
  EXPECT_EQ(run(segment({"in", "--instances", "--resume", "-o", "same"})).err, "");
}

TEST_F(Resume, DoesAnotherImageUnderTheSameNameAgain) {
  for (const char* name : {"in/a.png", "in/b.png", "in/c.png"}) make_image(name);
  ASSERT_EQ(run(segment({"in"})).code, 0);
  make_image("in/a.png", 31, 41);  // of another size in bytes, or of later times
  fs::last_write_time(at("in/b.png"), fs::file_time_type::clock::now() + std::chrono::hours(1));
  const Result result = run(segment({"in", "--resume"}));
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.err, "done again: 1 image (1 for another image)\n");
  EXPECT_THAT(result.out, AllOf(HasSubstr("b.png: done before"), HasSubstr("c.png: done before")));
  EXPECT_EQ(ImageReader(at("out/a.mask.png")).read().height, 31);
  EXPECT_EQ(run(segment({"in", "--resume"})).err, "");
}

TEST_F(Resume, StrictReadsEveryByte) {
  const std::string header = "P5 4 5 255\n";
  write_bytes(at("in/a.pgm"), header + std::string(20, 'x'));
  ASSERT_EQ(run(segment({"in"})).code, 0);
  const fs::path path = at("out/tessera.journal");
  const std::string journal = read_text(path);
  EXPECT_EQ(run(segment({"in", "--resume=strict"})).err, "");
  EXPECT_EQ(read_text(path), journal);  // nothing new was to be noted
  // Another image of the size and times that the journal knows, which takes a forged journal.
  write_bytes(at("in/a.pgm"), header + std::string(20, 'y'));
  struct stat status {};
  ASSERT_EQ(::stat(at("in/a.pgm").c_str(), &status), 0);
  const auto nanoseconds = [](const timespec& time) {
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  };
  constexpr std::size_t kCheck = 9, kPrefix = 42;  // "CHECK " and "CHECK KEY "
  const std::string line = journal.substr(journal.find('\n') + 1);
  json record = json::parse(line.substr(kPrefix));
  ASSERT_EQ(record.at("source").at("size"), header.size() + 20);
  record["source"]["modified"] = nanoseconds(status.st_mtim);
  record["source"]["changed"] = nanoseconds(status.st_ctim);
  const std::string forged = line.substr(kCheck, kPrefix - kCheck) + record.dump();
  write_bytes(path, digest_of(forged).substr(0, kCheck - 1) + ' ' + forged + '\n');
  EXPECT_EQ(run(segment({"in", "--resume"})).err, "");
  EXPECT_EQ(run(segment({"in", "--resume=strict"})).err,
            "done again: 1 image (1 for another image)\n");
  EXPECT_EQ(run(segment({"in", "--resume=strict"})).err, "");
  expect_error(run(segment({"in", "--resume=often"})), 2, "--resume");
}

TEST_F(Resume, TellsTheStandardInputByItsBytes) {
  make_image("a.png");
  make_image("b.png", 33, 20);
  ASSERT_EQ(run(segment({"-"}), at("a.png")).code, 0);
  EXPECT_THAT(run(segment({"-", "--resume"}), at("a.png")).out, HasSubstr("done before"));
  const Result other = run(segment({"-", "--resume"}), at("b.png"));
  EXPECT_EQ(other.err, "done again: 1 image (1 for another image)\n");
  EXPECT_EQ(ImageReader(at("out/stdin.mask.png")).read().height, 33);
}

TEST_F(Resume, DoesADamagedResultAgainAndKeepsAMaskThatWasCorrected) {
  for (const char* name : {"in/a.png", "in/b.png", "in/c.png"}) make_image(name);
  ASSERT_EQ(run(segment({"in"})).code, 0);
  const auto whole = contents("out");
  write_bytes(at("out/a.mask.png"), "");
  write_bytes(at("out/b.overlay.png"), "torn");
  const Result result = run(segment({"in", "--resume"}));
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.err, "done again: 2 images (1 for a changed result, 1 for a damaged result)\n");
  EXPECT_EQ(contents("out"), whole);
  // Somebody's work on a mask is not thrown away.
  const Image corrected{30, 41, 1, std::vector<std::uint8_t>(30 * 41, 1)};
  write_png(at("out/c.mask.png"), corrected);
  EXPECT_EQ(run(segment({"in", "--resume"})).err, "");
  EXPECT_EQ(ImageReader(at("out/c.mask.png")).read().pixels, corrected.pixels);
  const json summary = json::parse(read_text(at("out/summary.json")));
  EXPECT_EQ(summary["images"][2]["classes"][1]["pixels"], 30 * 41);
}

TEST_F(Resume, DoesNotTrustWhatNoJournalKnows) {
  make_image("in/a.png");
  ASSERT_EQ(run(segment({"in"})).code, 0);
  // Two lines: that the image is begun, and what its result was made from.
  const fs::path path = at("out/tessera.journal");
  const std::string journal = read_text(path), record = journal.substr(journal.find('\n') + 1);
  ASSERT_EQ(lines_of(record), 1U);
  const std::string half = record.substr(0, record.size() / 2), foreign("\0\xff\n\n{}\n", 7);
  std::string changed = record;
  changed[changed.rfind("size") + 6] ^= 1;
  for (const std::string& text : {std::string(), foreign, half, foreign + half, changed}) {
    write_bytes(path, text);
    EXPECT_EQ(run(segment({"in", "--resume"})).err,
              "done again: 1 image (1 for an unknown origin)\n");
  }
  // The one line that is whole is enough, wherever it stands.
  write_bytes(path, foreign + half + "\n" + record + half);
  EXPECT_EQ(run(segment({"in", "--resume"})).err, "");
  // Begun and not ended is what a killed run leaves.
  write_bytes(path, journal + journal.substr(0, journal.find('\n') + 1));
  const Result begun = run(segment({"in", "--resume"}));
  EXPECT_EQ(begun.err, "");
  EXPECT_THAT(begun.out, Not(HasSubstr("done before")));
}

TEST_F(Resume, AModelIsAllOfItsFilesAndChoices) {
  make_image("in/a.png");
  ModelFile file = ModelFile::open(unet_);
  export_onnx(file, at("net.onnx"), 0);  // its weights lie in a second file
  ASSERT_TRUE(fs::exists(at("net.onnx.data")));
  const auto segmented = [&](std::vector<std::string> more) {
    std::vector<std::string> words{"segment", path("in"),       "-m",      path("net.onnx"),
                                   "-o",      path("out_onnx"), "--resume"};
    words.insert(words.end(), more.begin(), more.end());
    const Result result = run(words);
    EXPECT_EQ(result.code, 0) << result.err;
    return result.err;
  };
  const std::string again = "done again: 1 image (1 for another model)\n";
  segmented({});
  EXPECT_THAT(segmented({}), Not(HasSubstr("again")));
  change_model(path("net.onnx.data"));
  EXPECT_THAT(segmented({}), HasSubstr(again));
  EXPECT_THAT(segmented({}), Not(HasSubstr("again")));
  EXPECT_THAT(segmented({"--set", "scale=none"}), HasSubstr(again));
  // The same model by another name is the same.
  fs::rename(at("net.onnx"), at("other.onnx"));
  fs::create_symlink(at("other.onnx"), at("net.onnx"));
  EXPECT_THAT(segmented({"--set", "scale=none"}), Not(HasSubstr("again")));
}

TEST_F(Resume, ShardsShareOneJournal) {
  for (int i = 0; i < 12; ++i) make_image("in/" + std::to_string(i) + ".png", 40, 40);
  std::vector<pid_t> children;
  for (const char* shard : {"1/3", "2/3", "3/3"})
    children.push_back(start(segment({"in", "--shard", shard}), "/dev/null", {}));
  for (const pid_t child : children) EXPECT_EQ(finish(child).code, 0);
  const Result result = run(segment({"in", "--resume"}));
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(lines_of(result.out), 12U);
  EXPECT_THAT(result.out, Not(HasSubstr(" s -> ")));  // each was done before
}

// ---- classify ----------------------------------------------------------------------------------

class ResumeClassify : public Resume {
 protected:
  static std::string text_of(int i) { return "good\tgreat film " + std::to_string(i) + " the.\n"; }
  std::string fresh(const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"c.tsv", "-o", "fresh"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    EXPECT_EQ(run(classify(arguments)).code, 0);
    return read_text(at("fresh"));
  }
};

TEST_F(ResumeClassify, KnowsATextWhereverItStands) {
  std::string lines;
  for (int i = 0; i < 12; ++i) lines += text_of(i);
  for (const std::vector<std::string>& style :
       {std::vector<std::string>{}, {"--json"}, {"--json", "--attention"}, {"--top-k", "2"}}) {
    std::vector<std::string> arguments{"c.tsv", "-o", "all"};
    arguments.insert(arguments.end(), style.begin(), style.end());
    write_bytes(at("c.tsv"), lines);
    ASSERT_EQ(run(classify(arguments)).code, 0);
    EXPECT_EQ(read_text(at("all")), fresh(style));
    // A line before all others, one left out, one changed: by names alone all would be wrong.
    std::string other = "bad\tdull dull.\n";
    for (int i = 0; i < 12; ++i) other += i == 3 ? "" : i == 7 ? "bad\tthe dull.\n" : text_of(i);
    write_bytes(at("c.tsv"), other);
    arguments.emplace_back("--resume");
    const Result result = run(classify(arguments));
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    EXPECT_EQ(read_text(at("all")), fresh(style));
    EXPECT_EQ(lines_of(read_text(at("all.journal"))), 14U);  // two texts were new
  }
}

TEST_F(ResumeClassify, DoesWhatAnotherModelOrStyleHasMadeAgain) {
  write_bytes(at("c.tsv"), text_of(1) + text_of(2));
  ASSERT_EQ(run(classify({"c.tsv", "-o", "all"})).code, 0);
  const Result style = run(classify({"c.tsv", "-o", "all", "--json", "--resume"}));
  EXPECT_EQ(style.err, "done again: 2 documents (2 for other options)\n");
  EXPECT_EQ(read_text(at("all")), fresh({"--json"}));
  change_model(han_);
  const Result model = run(classify({"c.tsv", "-o", "all", "--json", "--resume"}));
  EXPECT_EQ(model.err, "done again: 2 documents (2 for another model)\n");
  EXPECT_EQ(read_text(at("all")), fresh({"--json"}));
  fs::remove(at("all.journal"));
  const Result unknown = run(classify({"c.tsv", "-o", "all", "--json", "--resume"}));
  EXPECT_EQ(unknown.code, 0);
  EXPECT_THAT(unknown.err, HasSubstr("every document is done again: 'all.journal' is missing"));
  expect_error(run(classify({"c.tsv", "-o", "/dev/stdout", "--resume"})), 2, "/dev/stdout");
}

TEST_F(ResumeClassify, AnOutputMayHaveTheLongestName) {
  write_bytes(at("c.tsv"), text_of(1) + text_of(2));
  const std::string name(255, 'x');
  ASSERT_EQ(run(classify({"c.tsv", "-o", name})).code, 0);
  fs::remove(at(name));
  const Result result = run(classify({"c.tsv", "-o", name, "--resume"}));
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(read_text(at(name)), fresh({}));
}

// ---- ends --------------------------------------------------------------------------------------

class Killed : public Resume {
 protected:
  // Every start but the first resumes.
  void kill_until_done(std::vector<std::string> arguments, double seconds) {
    bool first = true;
    Cli::kill_until_done(
        [&] {
          if (!std::exchange(first, false) && arguments.back() != "--resume")
            arguments.emplace_back("--resume");
          return arguments;
        },
        seconds);
  }
};

TEST_F(Killed, ASegmentationEndsInTheBytesOfAnUndisturbedOne) {
  for (int i = 0; i < 12; ++i) make_image("in/" + std::to_string(i) + ".png", 90 + i, 110);
  const std::vector<std::string> more{"in", "--instances", "--probabilities"};
  std::vector<std::string> whole = segment(more), parts = segment(more);
  whole.insert(whole.end(), {"-o", "whole"});
  parts.insert(parts.end(), {"-o", "parts"});
  kill_until_done(parts, time_of(whole));
  EXPECT_EQ(contents("parts"), contents("whole"));  // and no temporary is left
  EXPECT_EQ(contents("parts").size(), 12U * 4);
}

TEST_F(Killed, AClassificationEndsInTheBytesOfAnUndisturbedOne) {
  std::string lines;
  for (int i = 0; i < 3000; ++i)
    lines += "good\tA great film " + std::to_string(i) + ". The film was dull.\n";
  write_bytes(at("c.tsv"), lines);
  const std::vector<std::string> style{"c.tsv", "--json", "--attention"};
  std::vector<std::string> whole = classify(style), parts = classify(style);
  whole.insert(whole.end(), {"-o", "whole/a.jsonl"});
  parts.insert(parts.end(), {"-o", "parts/a.jsonl"});
  fs::create_directories(at("whole"));
  fs::create_directories(at("parts"));
  kill_until_done(parts, time_of(whole));
  EXPECT_TRUE(contents("parts") == contents("whole"));
}

TEST_F(Killed, AClassificationGoesOnWithTheAnswersThatItHad) {
  std::string lines;
  for (int i = 0; i < 20'000; ++i)
    lines += "good\tA great film " + std::to_string(i) + ". The film was dull.\n";
  write_bytes(at("c.tsv"), lines);
  const pid_t child = start(classify({"c.tsv", "-o", "a.tsv"}), "/dev/null", {});
  while (lines_of(read_text(at("a.tsv.journal"))) < 200 && ::waitpid(child, nullptr, WNOHANG) == 0)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  ::kill(child, SIGKILL);
  EXPECT_EQ(finish(child).code, 137);
  const std::size_t before = lines_of(read_text(at("a.tsv.journal")));
  EXPECT_GE(before, 200U);
  EXPECT_LT(before, 20'000U);
  ASSERT_EQ(run(classify({"c.tsv", "-o", "a.tsv", "--resume"})).code, 0);
  // None was made twice, but for a line that the kill has torn.
  EXPECT_LE(lines_of(read_text(at("a.tsv.journal"))), 20'001U);
  EXPECT_EQ(lines_of(read_text(at("a.tsv"))), 20'001U);  // and the accuracy
}

// Stops a batch at some moment; returns what it said. The batch is too long to end by itself.
class Interrupted : public Resume {
 protected:
  Result stop_with(int signal) {
    constexpr int kImages = 40;
    for (int i = 0; i < kImages; ++i) make_image("in/" + std::to_string(i) + ".png", 400, 400);
    const pid_t child = start(segment({"in"}), "/dev/null", {});
    const auto masks = [&] {
      return std::ranges::count_if(
          files_in("out"), [](const std::string& name) { return name.ends_with(".mask.png"); });
    };
    while (masks() < 2 && ::waitpid(child, nullptr, WNOHANG) == 0)  // the first is in the journal
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ::kill(child, signal);
    return finish(child);
  }

  // Every file under a final name is whole.
  std::size_t count_whole_masks() {
    std::size_t masks = 0;
    for (const std::string& name : files_in("out")) {
      if (!name.ends_with(".png")) continue;
      EXPECT_EQ(ImageReader(at("out/" + name)).read().height, 400) << name;
      masks += name.ends_with(".mask.png") ? 1 : 0;
    }
    return masks;
  }
};

TEST_F(Interrupted, ControlCEndsAfterTheCurrentImage) {
  const Result result = stop_with(SIGINT);
  EXPECT_EQ(result.code, 130) << result.err;
  const std::size_t masks = count_whole_masks();
  EXPECT_GE(masks, 1U);
  EXPECT_LT(masks, 40U);
  const json summary = json::parse(read_text(at("out/summary.json")));
  EXPECT_EQ(summary["interrupted"], true);
  EXPECT_EQ(summary["images"].size(), masks);
  for (const std::string& name : files_in("out")) EXPECT_THAT(name, Not(HasSubstr(".tmp-")));
}

TEST_F(Interrupted, AKilledRunLeavesNoHalfFileAndResumes) {
  EXPECT_EQ(stop_with(SIGKILL).code, 137);
  EXPECT_LT(count_whole_masks(), 40U);
  const Result result = run(segment({"in", "--resume"}));
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("done before"));
  EXPECT_EQ(count_whole_masks(), 40U);
  for (const std::string& name : files_in("out")) EXPECT_THAT(name, Not(HasSubstr(".tmp-")));
}

}  // namespace
}  // namespace tessera
