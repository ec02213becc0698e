// Where the program writes, and what it takes for an input: outputs that are no files of their own,
// folders with links, loops and results in them, images that share a name.
#include <sys/stat.h>

#include <algorithm>
#include <regex>
#include <sstream>
#include <utility>

#include "models/image/image_io.h"
#include "models/image/png.h"
#include "tests/support/cli.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using namespace test;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class Outputs : public Cli {
 protected:
  // Runs a command line of the shell in the test's folder; $tessera is the program.
  Result shell(const std::string& line) {
    return finish(start_words({"/bin/sh", "-c", line}, "/dev/null",
                              {{"tessera", program().string()}, {"unet", unet_}, {"han", han_}}));
  }
};

// ---- outputs that are no files of their own ----------------------------------------------------

TEST_F(Outputs, AnOpenFileIsAppendedToWhateverItsName) {
  write_bytes(at("a.txt"), "great");
  const std::string answer = run(classify({"a.txt"})).out;
  ASSERT_EQ(lines_of(answer), 1U);
  const std::vector<std::pair<std::string, std::string>> names{
      {"/dev/stdout", ">>"},    {"/dev/fd/1", ">>"},        {"/proc/self/fd/1", ">>"},
      {"/dev/stderr", "2>>"},   {"/proc/self/fd/2", "2>>"}, {"/dev/fd/7", "7>>"},
      {"link-to-stdout", ">>"},
  };
  fs::create_symlink("/dev/stdout", at("link-to-stdout"));
  for (const auto& [name, redirection] : names) {
    write_bytes(at("log"), "before\n");
    const Result result =
        shell("$tessera classify -q a.txt -m $han -o " + name + " " + redirection + " log");
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(read_text(at("log")), "before\n" + answer) << name;
    EXPECT_FALSE(fs::exists(at("log.journal")));
  }
  // At the position that the shell's commands share, not at the beginning.
  const Result shared =
      shell("{ echo first; $tessera classify a.txt -m $han -o /dev/stdout; echo last; } > log");
  EXPECT_EQ(shared.code, 0) << shared.err;
  EXPECT_EQ(read_text(at("log")), "first\n" + answer + "last\n");
  const Result piped = shell("$tessera classify a.txt -m $han -o /dev/stdout | cat > log");
  EXPECT_EQ(read_text(at("log")), answer) << piped.err;
}

TEST_F(Outputs, AModelNeedsAFileOfItsOwn) {
  write_bytes(at("train.tsv"), "good\tgreat film\nbad\tdull film\n");
  for (const char* name : {"/dev/stdout", "/dev/null", "/proc/self/fd/1"}) {
    const Result result =
        shell(std::string("$tessera train han train.tsv --epochs 1 -o ") + name + " > log");
    EXPECT_EQ(result.code, 2) << name;
    EXPECT_THAT(result.err, HasSubstr("name a file"));
    EXPECT_EQ(read_text(at("log")), "");
    EXPECT_FALSE(fs::exists(std::string(name) + ".run"));
  }
}

TEST_F(Outputs, AnInputIsNeverReplaced) {
  fs::create_directories(at("texts"));
  const std::string texts = "good\tgreat film\nbad\tdull film\n";
  write_bytes(at("texts/a.tsv"), texts);
  fs::create_symlink("a.tsv", at("texts/link.tsv"));
  const auto expect_refused = [&](std::vector<std::string> words, const std::string& option) {
    expect_error(run(words), 2, option);
    EXPECT_EQ(read_text(at("texts/a.tsv")), texts);
    EXPECT_FALSE(fs::exists(at("texts/a.tsv.journal")));
  };
  expect_refused(classify({"texts/a.tsv", "-o", "texts/a.tsv"}),
                 "-o texts/a.tsv: this file is read");
  expect_refused(classify({"texts/a.tsv", "-o", path("texts/link.tsv")}), "read too");
  expect_refused(classify({"texts/link.tsv", "--html", "texts/a.tsv"}), "--html");
  expect_refused(classify({"texts", "-o", "texts/a.tsv"}), "-o");
  expect_refused(classify({"texts/*.tsv", "-o", "texts/a.tsv"}), "-o");
  expect_refused({"train", "han", "texts/a.tsv", "-o", "texts/a.tsv", "--epochs", "1"}, "-o");
  const std::string model = read_text(han_);
  expect_refused(classify({"texts/a.tsv", "-o", han_}), "-o");
  EXPECT_EQ(read_text(han_), model);
  for (const char* one : {"new.tsv", "./new.tsv"})
    expect_refused(classify({"texts/a.tsv", "-o", "new.tsv", "--html", one}), "same file");
  EXPECT_FALSE(fs::exists(at("new.tsv")));
  // The results of an earlier run are no texts, nor do they keep a later one from replacing them.
  fs::remove(at("texts/link.tsv"));
  for (int i = 0; i < 2; ++i) {
    const Result result = run(classify({"texts", "-o", "texts/labels.tsv"}));
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(lines_of(read_text(at("texts/labels.tsv"))), 3U);
  }
}

// Small images run one a thread, large and damaged ones and pipes between them do not: files, lines
// and failures are the same for any number of threads, also within little memory.
TEST_F(Outputs, ManyImagesGiveTheSameForAnyNumberOfThreads) {
  const auto write = [&](const std::string& name, std::int64_t height, std::int64_t width) {
    std::vector<std::uint8_t> pixels(static_cast<std::size_t>(height * width));
    for (std::size_t i = 0; i < pixels.size(); ++i)
      pixels[i] = static_cast<std::uint8_t>(i * i % 253 + pixels.size() % 3);
    fs::create_directories(at("in"));
    write_png(at("in") / name, {height, width, 1, pixels});
  };
  for (int i = 0; i < 9; ++i) write(fmt::format("s{}.png", i), 30 + i, 40 - i);
  write("a_large.png", 1100, 1050);
  write("s3_thin.png", 1, 3000);
  write("z_large.png", 1030, 1040);
  write_bytes(at("in/s5_damaged.png"), "\x89PNG\r\n\x1a\nand no more");
  const auto answer = [&](const std::string& threads, const std::string& memory) {
    fs::remove_all(at("out"));
    std::vector<std::string> words = segment({"in", "--instances", "--threads", threads});
    if (!memory.empty()) words.insert(words.end(), {"--max-memory", memory});
    const Result result = run(words);
    EXPECT_EQ(result.code, 3) << result.err;
    std::string all = result.err;
    std::stringstream lines(result.out);
    for (std::string line; std::getline(lines, line);)
      all += std::regex_replace(line, std::regex("[0-9.]+ s -> "), "") + "\n";
    std::vector<std::string> names = files_in("out");
    std::ranges::sort(names);
    for (const std::string& name : names)
      if (name != "summary.json") all += name + read_text(at("out") / name);
    return all;
  };
  const std::string one = answer("1", "");
  for (const char* threads : {"2", "3", "8"}) EXPECT_EQ(answer(threads, ""), one) << threads;
  EXPECT_EQ(answer("3", "300M"), one);
  ASSERT_EQ(::mkfifo(at("pipe.png").c_str(), 0666), 0);
  const Result piped = shell(
      "cat in/a_large.png > pipe.png & $tessera segment pipe.png in/s0.png in/s1.png in/s2.png "
      "-m $unet -o piped --threads 2; code=$?; wait; exit $code");
  EXPECT_EQ(piped.code, 0) << piped.err;
  EXPECT_EQ(read_text(at("piped/pipe.mask.png")), read_text(at("out/a_large.mask.png")));
}

TEST_F(Outputs, APageIsAppendedToAnOpenFileAndWrittenToAPipe) {
  write_bytes(at("a.txt"), "great");
  ASSERT_EQ(run(classify({"a.txt", "--html", "page"})).code, 0);
  const std::string page = read_text(at("page"));
  write_bytes(at("log"), "before\n");
  ASSERT_EQ(shell("$tessera classify a.txt -m $han -o labels --html /dev/stdout >> log").code, 0);
  EXPECT_EQ(read_text(at("log")), "before\n" + page);
  ASSERT_EQ(::mkfifo(at("pipe").c_str(), 0666), 0);
  ASSERT_EQ(
      shell("cat pipe > log & $tessera classify a.txt -m $han -o labels --html pipe; wait").code,
      0);
  EXPECT_EQ(read_text(at("log")), page);
  EXPECT_TRUE(fs::is_fifo(at("pipe")));
}

// The first signal ends the wait for a writer that never comes.
TEST_F(Outputs, APipeThatNobodyWritesToEndsAtTheFirstSignal) {
  for (const char* name : {"pipe.png", "pipe.tsv"}) {
    ASSERT_EQ(::mkfifo(at(name).c_str(), 0666), 0);
    const bool is_image = std::string(name) == "pipe.png";
    const pid_t child =
        start(is_image ? segment({name, "-o", "out"}) : classify({name}), "/dev/null", {});
    // It waits once the pipe has a reader, and sleeps.
    int writer = -1;
    while ((writer = ::open(at(name).c_str(), O_WRONLY | O_NONBLOCK)) < 0 && errno == ENXIO)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ASSERT_GE(writer, 0);
    const auto sleeps = [&] {
      const std::string stat = read_text(fmt::format("/proc/{}/stat", child));
      return stat.find(") S ") != std::string::npos;
    };
    while (!sleeps()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ASSERT_EQ(::kill(child, SIGTERM), 0);
    const Result result = finish(child);
    ::close(writer);
    EXPECT_EQ(result.code, 128 + SIGTERM) << name;
    EXPECT_THAT(result.err, HasSubstr("interrupted after 0")) << name;
  }
}

TEST_F(Outputs, APipeThatNobodyReadsIsGivenUpAtTheFirstSignal) {
  write_bytes(at("a.txt"), "great");
  ASSERT_EQ(::mkfifo(at("pipe").c_str(), 0666), 0);
  const pid_t child = start(classify({"a.txt", "-o", "pipe"}), "/dev/null", {});
  const auto call = [&] { return read_text(fmt::format("/proc/{}/syscall", child)); };
  if (call().empty()) {
    ::kill(child, SIGKILL);
    finish(child);
    GTEST_SKIP() << "this system does not say what a process waits for";
  }
  for (std::string before = "none", now; before != now || !now.starts_with("257 ");) {  // openat
    before = std::exchange(now, call());
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  ASSERT_EQ(::kill(child, SIGTERM), 0);
  const Result result = finish(child);
  EXPECT_NE(result.code, 0);
  EXPECT_THAT(result.err, AllOf(HasSubstr("once more ends at once"), HasSubstr("pipe")));
}

TEST_F(Outputs, ALimitOfAFilesSizeIsLikeAFullDisk) {
  make_image("a.png", 300, 300);
  const pid_t child = start_words({"/bin/sh", "-c", "ulimit -f 1; exec \"$@\"", "sh", program(),
                                   "segment", "a.png", "-m", unet_, "-o", "out", "--probabilities"},
                                  "/dev/null", {});
  const Result result = finish(child);
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("ulimit -f"));
  for (const std::string& name : files_in("out")) EXPECT_THAT(name, Not(HasSubstr(".tmp-")));
}

TEST_F(Outputs, MasksOfTheUserBesideTheirImagesAreNotReplaced) {
  make_image("in/a.png");
  write_bytes(at("in/a.mask.png"), "drawn by hand");
  const Result refused = run(segment({"in", "-o", "in"}));
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("a.mask.png"), HasSubstr("another folder with -o")));
  EXPECT_EQ(read_text(at("in/a.mask.png")), "drawn by hand");
  fs::remove(at("in/a.mask.png"));
  for (int i = 0; i < 2; ++i)  // its own results are known by the journal
    EXPECT_EQ(run(segment({"in", "-o", "in"})).code, 0);
}

TEST_F(Outputs, ALinkStaysWhetherItsFileIsThereOrNot) {
  write_bytes(at("a.txt"), "great");
  const std::string answer = run(classify({"a.txt"})).out;
  fs::create_directories(at("far"));
  fs::create_symlink("far/labels", at("link"));
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(run(classify({"a.txt", "-o", "link"})).code, 0);
    EXPECT_TRUE(fs::is_symlink(at("link")));
    EXPECT_EQ(read_text(at("far/labels")), answer);
  }
}

TEST_F(Outputs, WhatCannotBeWrittenIsAnError) {
  write_bytes(at("a.txt"), "great");
  make_image("a.png");
  expect_error(run(segment({"a.png", "-o", "/proc/nowhere"})), 1, "/proc/nowhere");
  expect_error(run(segment({"a.png", "-o", "a.png"})), 1, "a.png");
  expect_error(run(classify({"a.txt", "-o", "gone/labels.tsv"})), 1, "gone/labels.tsv");
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full on this machine";
  expect_error(run(classify({"a.txt", "-o", "/dev/full"})), 1, "/dev/full");
  expect_error(run(classify({"a.txt", "--html", "/dev/full"})), 1, "/dev/full");
  EXPECT_TRUE(fs::is_character_file("/dev/full"));
}

// ---- names -------------------------------------------------------------------------------------

TEST_F(Outputs, ImagesThatShareANameKeepTheirEndings) {
  make_image("in/a.png", 20, 30);
  make_image("in/b.png");
  write_bytes(at("in/a.pgm"), "P5 4 5 255\n" + std::string(20, 'x'));
  const Result result = run(segment({"in", "--no-overlay"}));
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(files_in("out"),
              ElementsAre("a.pgm.mask.png", "a.png.mask.png", "b.mask.png", "summary.json"));
  EXPECT_EQ(ImageReader(at("out/a.png.mask.png")).read().height, 20);
  EXPECT_EQ(ImageReader(at("out/a.pgm.mask.png")).read().height, 5);
  // The order in which they are named changes nothing.
  ASSERT_EQ(run(segment({"in/b.png", "in/a.png", "in/a.pgm", "--no-overlay", "-o", "back"})).code,
            0);
  EXPECT_EQ(files_in("back"), files_in("out"));
}

TEST_F(Outputs, ImagesOfOneNameAreListedAndTheOthersDone) {
  make_image("in/day1/a.png");
  make_image("in/day2/a.png");
  make_image("in/b.png");
  const Result result =
      run(segment({"in/day1/a.png", "in/day2/a.png", "in/b.png", "-o", "flat", "--no-overlay"}));
  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(result.err, AllOf(HasSubstr("tessera: in/day1/a.png: its results would have the name "
                                          "of those of 'in/day2/a.png'"),
                                HasSubstr("tessera: in/day2/a.png: ")));
  EXPECT_THAT(files_in("flat"), ElementsAre("b.mask.png", "summary.json"));
}

TEST_F(Outputs, ImagesWithTheLongestNamesAreDoneOrListed) {
  const std::string long_name(235, 'x'), too_long(251, 'y');
  make_image("in/" + long_name + ".png");
  make_image("in/" + too_long + ".png");
  const Result result = run(segment({"in", "--no-overlay"}));
  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(result.err, HasSubstr("File name too long"));
  EXPECT_TRUE(fs::exists(at("out/" + long_name + ".mask.png")));
}

TEST_F(Outputs, ANameThatLooksLikeAnOptionIsExplained) {
  make_image("-x.png");
  make_image("-q.png");
  for (const char* name : {"-x.png", "-q.png"}) {
    const Result bare = run(segment({name}));
    expect_error(bare, 2, "behind '--'");
    EXPECT_THAT(bare.err, HasSubstr("'./" + std::string(name) + "'"));
  }
  EXPECT_EQ(run(segment({"--no-overlay", "./-x.png"})).code, 0);
  EXPECT_EQ(run(segment({"--no-overlay", "--", "-q.png"})).code, 0);
  EXPECT_THAT(files_in("out"), ElementsAre("-q.mask.png", "-x.mask.png", "summary.json"));
  EXPECT_THAT(run(segment({"a.png", "--shrad", "1/2"})).err, Not(HasSubstr("behind '--'")));
}

// ---- folders -----------------------------------------------------------------------------------

TEST_F(Outputs, ResultsAreNotTakenForImages) {
  make_image("in/a.png");
  for (int i = 0; i < 3; ++i) ASSERT_EQ(run(segment({"in", "-o", "in"})).code, 0);
  // The shell's glob names results, too.
  ASSERT_EQ(shell("$tessera segment in/*.png -m $unet -o in").code, 0);
  ASSERT_EQ(run(segment({"in/*.png", "-o", "in"})).code, 0);
  EXPECT_THAT(files_in("in"), ElementsAre("a.mask.png", "a.overlay.png", "a.png", "summary.json"));
  // A folder of results below the images, whatever else lies there.
  make_image("in/masks/by_hand.png");
  for (const char* out : {"in/masks", "in/masks/", "./in/../in/masks"})
    ASSERT_EQ(run(segment({"in", "-o", out, "--no-overlay"})).code, 0);
  EXPECT_THAT(files_in("in/masks"),
              testing::IsSupersetOf({"a.mask.png", "by_hand.png", "summary.json"}));
  EXPECT_FALSE(fs::exists(at("in/masks/masks")));
  expect_error(run(segment({"in/a.mask.png", "-o", "in"})), 1, "is a result");
  EXPECT_EQ(run(segment({"in/a.mask.png", "-o", "elsewhere"})).code, 0);  // asked for
}

TEST_F(Outputs, LoopsAndDeadLinksAreListedAndTheOthersDone) {
  make_image("in/a.png");
  make_image("far/b.png");
  fs::create_directories(at("in/sub"));
  fs::create_symlink(at("far"), at("in/linked"));
  fs::create_symlink("..", at("in/sub/up"));
  fs::create_symlink("self.png", at("in/self.png"));
  fs::create_symlink("/nowhere/day3", at("in/day3"));
  const Result result = run(segment({"in", "--no-overlay"}));
  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(files_in("out"), ElementsAre("a.mask.png", "linked/b.mask.png", "summary.json"));
  EXPECT_THAT(result.err, AllOf(HasSubstr("3 of 5 images failed"),
                                HasSubstr("tessera: in/sub/up: leads in a circle"),
                                HasSubstr("tessera: in/self.png: cannot be read: Too many levels"),
                                HasSubstr("tessera: in/day3: is a link that leads nowhere")));
}

}  // namespace
}  // namespace tessera
