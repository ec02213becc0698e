// The program's verbs on several GPUs, which are the emulator's: what one GPU gives, in its order,
// whatever becomes of the others.
#include "tools/program/program.h"

#include <cuda_runtime_api.h>

#include <iostream>
#include <regex>

#include "emulator/emulator.h"
#include "tests/support/cli.h"

namespace tessera::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class SimtProgram : public Cli {
 protected:
  ~SimtProgram() override {
    simt::device() = {};
    cudaSetDevice(0);  // of this thread
  }

  // In this process, on so many GPUs.
  Result run_on(int gpus, std::vector<std::string> arguments) {
    simt::device().count = gpus;
    CLI::App program("", "tessera");
    const std::vector<Verb> verbs{make_segment_verb(program), make_classify_verb(program),
                                  make_eval_verb(program)};
    Result result;
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    try {
      std::ranges::reverse(arguments);
      program.parse(std::move(arguments));
      for (const Verb& verb : verbs)
        if (verb.command->parsed()) result.code = verb.run();
    } catch (const std::exception& error) {
      std::cerr << error.what();
    }
    std::cout.flush();
    std::fflush(stdout);
    result.out = testing::internal::GetCapturedStdout();
    result.err = testing::internal::GetCapturedStderr();
    return result;
  }

  // Images of two sizes in runs of different lengths, 0.png on.
  void make_images(int count) {
    for (int i = 0; i < count; ++i) {
      Image image = picture(i % 7 < 5 ? 24 : 30, 26);
      auto& pixels = std::get<std::vector<std::uint8_t>>(image.pixels);
      for (std::size_t p = 0; p < pixels.size(); p += 3)
        pixels[p] = static_cast<std::uint8_t>(pixels[p] + 11 * i);
      fs::create_directories(at("in"));
      write_png(at(name_of(i)), image);
    }
  }
  static std::string name_of(int i) { return fmt::format("in/{:02}.png", i); }

  std::vector<std::string> segment_to(const std::string& output, const std::string& device,
                                      std::vector<std::string> more = {}) const {
    std::vector<std::string> words =
        segment({path("in"), "-o", path(output), "--device", device, "--precision", "fp32"});
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  // What is said of each image, without folders and seconds.
  static std::string untimed(const std::string& out) {
    return std::regex_replace(out, std::regex(", [0-9.]+ s -> .*"), "");
  }
  void expect_same_files(const std::string& one, const std::string& other) const {
    ASSERT_EQ(files_in(one), files_in(other));
    for (const std::string& name : files_in(one)) {
      if (name == "summary.json") continue;  // of seconds
      EXPECT_TRUE(read_text(at(one) / name) == read_text(at(other) / name)) << name;
    }
  }
  json summary_of(const std::string& folder) const {
    return json::parse(read_text(at(folder) / "summary.json"));
  }
};

TEST_F(SimtProgram, GpusDivideImagesAndGiveWhatEachByItselfGives) {
  constexpr int kCount = 14;
  make_images(kCount);
  write_bytes(at(name_of(9)), "no image");
  std::string alone;
  for (int i = 0; i < kCount; ++i) {
    const Result result = run_on(1, segment({path(name_of(i)), "-o", path("alone"), "--device",
                                             "cuda", "--precision", "fp32"}));
    EXPECT_EQ(result.code, i == 9 ? 1 : 0) << result.err;
    alone += untimed(result.out);
  }
  EXPECT_EQ(lines_of(alone), kCount - 1U);

  const std::pair<int, const char*> runs[] = {{1, "0"}, {2, "0"}, {2, "1"}, {3, "3"}};
  for (const auto& [gpus, batch] : runs) {
    const std::string folder = fmt::format("by-{}-{}", gpus, batch);
    SCOPED_TRACE(folder);
    const Result result = run_on(gpus, segment_to(folder, "cuda:all", {"--batch", batch}));
    EXPECT_EQ(result.code, 3);
    EXPECT_EQ(untimed(result.out), alone);
    EXPECT_THAT(result.err, HasSubstr("09.png"));
    expect_same_files("alone", folder);
    const json summary = summary_of(folder);
    for (int gpu = 0; gpu < gpus; ++gpu)
      EXPECT_THAT(summary.at("device"), HasSubstr(fmt::format("cuda:{} (", gpu)));
    ASSERT_EQ(summary.at("images").size(), kCount - 1U);
    EXPECT_EQ(summary.at("failed").size(), 1U);
    EXPECT_THAT(summary.at("images")[9].at("input"), HasSubstr("10.png"));
  }

  // What is there is kept, the rest is done.
  fs::remove(at("by-2-0/05.mask.png"));
  fs::remove(at("by-2-0/12.mask.png"));
  const Result resumed = run_on(2, segment_to("by-2-0", "cuda:all", {"--resume"}));
  EXPECT_EQ(resumed.code, 3);
  EXPECT_EQ(lines_of(resumed.out), kCount - 1U);
  const std::string without = std::regex_replace(resumed.out, std::regex("done before"), "");
  EXPECT_EQ((resumed.out.size() - without.size()) / std::string_view("done before").size(),
            kCount - 3U);
  expect_same_files("alone", "by-2-0");
}

TEST_F(SimtProgram, AGpuThatFailsAmongOthersLosesNothing) {
  make_images(16);
  const Result whole = run_on(1, segment_to("whole", "cuda:0"));
  EXPECT_EQ(whole.code, 0) << whole.err;
  for (const int launch : {1, 20, 60}) {
    SCOPED_TRACE(launch);
    simt::device().lose_after = launch;
    const std::string folder = fmt::format("lost-{}", launch);
    const Result result = run_on(2, segment_to(folder, "cuda:0,1"));
    EXPECT_EQ(simt::device().lose_after, 0);
    ASSERT_GE(simt::device().lost, 0);
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(untimed(result.out), untimed(whole.out));
    EXPECT_THAT(result.err,
                HasSubstr(fmt::format("going on with cuda:{} (", 1 - simt::device().lost)));
    expect_same_files("whole", folder);
    EXPECT_THAT(summary_of(folder).at("device"),
                Not(HasSubstr(fmt::format("cuda:{} (", simt::device().lost))));
    simt::device() = {};
  }
  // The only one: what was done before stays, each of the others is named.
  simt::device().lose_after = 60;
  const Result result = run_on(1, segment_to("half", "cuda:0"));
  EXPECT_EQ(simt::device().lost, 0);
  EXPECT_TRUE(result.code == 3 || result.code == 1) << result.code;
  const json summary = summary_of("half");
  EXPECT_EQ(summary.at("images").size() + summary.at("failed").size(), 16U);
  EXPECT_FALSE(summary.at("failed").empty());
  for (const json& failed : summary.at("failed"))
    EXPECT_THAT(failed.at("error"), HasSubstr("IllegalAddress"));
  for (const std::string& name : files_in("half"))
    if (name != "summary.json") {
      EXPECT_TRUE(read_text(at("half") / name) == read_text(at("whole") / name)) << name;
    }
}

TEST_F(SimtProgram, GpusDivideDocumentsAndGiveWhatOneGives) {
  std::string documents;
  const char* const words[] = {"great", "dull", "the film", "was", "unknown"};
  for (int i = 0; i < 60; ++i) {
    documents += fmt::format("good\tthe film {}.", i % 17 == 3 ? "" : words[i % 5]);
    for (int k = 0; k < i % 4; ++k) documents += fmt::format(" was {}.", words[(i + k) % 5]);
    documents += i == 30 ? "\ngood\t\n" : "\n";
  }
  write_bytes(at("in.tsv"), documents);
  const auto classify_on = [&](const std::string& device) {
    return classify({path("in.tsv"), "--json", "--attention", "--device", device});
  };
  const Result one = run_on(1, classify_on("cuda:0"));
  ASSERT_EQ(one.code, 3) << one.err;
  EXPECT_GE(lines_of(one.out), 60U);
  for (const int gpus : {2, 3}) {
    const Result several = run_on(gpus, classify_on("cuda:all"));
    EXPECT_EQ(several.code, 3) << several.err;
    EXPECT_TRUE(several.out == one.out);
    EXPECT_EQ(several.err, one.err);
  }
}

TEST_F(SimtProgram, WhatRunsOnOneGpuRefusesSeveral) {
  const Result result = run_on(2, {"eval", "-m", unet_, path("in"), "--device", "cuda:all"});
  EXPECT_THAT(result.err, AllOf(HasSubstr("several GPUs"), HasSubstr("name one")));
}

}  // namespace
}  // namespace tessera::test
