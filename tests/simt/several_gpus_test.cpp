// Several GPUs, which are the emulator's, in one process: lists are divided among them to the bytes
// of one, and where one fails another does its work.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>

#include <algorithm>

#include "emulator/emulator.h"
#include "engine/device/device.h"
#include "models/session.h"
#include "tests/support/cli.h"
#include "tests/support/error.h"

namespace tessera::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

// With the small models of Cli.
class SeveralGpus : public Cli {
 protected:
  SeveralGpus() {
    for (std::size_t i = 0; i < 6; ++i) {
      std::vector<std::uint8_t>& pixels = pixels_.emplace_back(24 * 24);
      for (std::size_t p = 0; p < pixels.size(); ++p)
        pixels[p] = static_cast<std::uint8_t>(p * (37 + i));
    }
    for (const std::vector<std::uint8_t>& pixels : pixels_)
      views_.push_back({pixels.data(), 24, 24});
  }
  ~SeveralGpus() override {
    simt::device() = {};
    cudaSetDevice(0);  // of this thread
  }

  std::vector<std::vector<std::uint8_t>> pixels_;
  std::vector<ImageView> views_;
};

TEST_F(SeveralGpus, DivideAListAndGiveTheBytesOfOne) {
  simt::device().count = 3;
  EXPECT_THAT(device_names("cuda:all"), testing::ElementsAre("cuda:0", "cuda:1", "cuda:2"));
  std::vector<std::size_t> before;
  for (int i = 0; i < 3; ++i) before.push_back(simt::allocated_bytes(i));
  Session one = Session::open(unet_, {.device = "cuda:0"});
  const std::vector<Segmentation> expected = one.segment(views_);
  {
    const Model two = Model::open(unet_, {.device = "cuda:1,2"});
    EXPECT_THAT(two.device(), AllOf(HasSubstr("cuda:1 ("), HasSubstr(", cuda:2 (")));
    std::vector<std::int64_t> heard;
    const std::vector<Segmentation> answers =
        two.segment(views_, [&](std::int64_t done, std::int64_t all) {
          heard.push_back(done);
          EXPECT_EQ(all, 6);
        });
    ASSERT_EQ(answers.size(), views_.size());
    for (std::size_t i = 0; i < views_.size(); ++i)
      EXPECT_EQ(answers[i].mask, expected[i].mask) << i;
    EXPECT_TRUE(std::ranges::is_sorted(heard));
    ASSERT_FALSE(heard.empty());
    EXPECT_EQ(heard.back(), 6);
    EXPECT_GT(simt::allocated_bytes(1), before[1]);
    EXPECT_GT(simt::allocated_bytes(2), before[2]);
    const auto stop = [](std::int64_t, std::int64_t) { fail("enough"); };
    EXPECT_THAT(test::error_of([&] { two.segment(views_, stop); }), HasSubstr("enough"));
    views_.push_back({pixels_[0].data(), 12, 48});
    EXPECT_THAT(test::error_of([&] { two.segment(views_); }), HasSubstr("images of one size"));
  }
  for (int i = 1; i < 3; ++i)
    EXPECT_EQ(simt::allocated_bytes(i), before[static_cast<std::size_t>(i)]);

  const Model classifier = Model::open(han_, {.device = "cuda:all"});
  // Each GPU pads its part to its own longest document.
  const std::vector<std::string_view> texts{"The film was great.",
                                            "",
                                            "Dull.",
                                            "Great. The film was dull. Was.",
                                            "The.",
                                            "The film, the film was the great film. Dull!"};
  const std::vector<Classification> alone =
      Session::open(han_, {.device = "cuda:0"}).classify(texts);
  const std::vector<Classification> divided = classifier.classify(texts);
  ASSERT_EQ(divided.size(), texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(divided[i].probabilities, alone[i].probabilities) << i;
    EXPECT_EQ(divided[i].error, alone[i].error) << i;
    ASSERT_EQ(divided[i].sentences.size(), alone[i].sentences.size()) << i;
    for (std::size_t k = 0; k < alone[i].sentences.size(); ++k) {
      EXPECT_EQ(divided[i].sentences[k].weight, alone[i].sentences[k].weight) << i;
      for (std::size_t w = 0; w < alone[i].sentences[k].words.size(); ++w)
        EXPECT_EQ(divided[i].sentences[k].words[w].weight, alone[i].sentences[k].words[w].weight);
    }
  }
}

TEST_F(SeveralGpus, WhereOneFailsAnotherDoesItsWork) {
  simt::device().count = 3;
  const std::vector<Segmentation> expected =
      Session::open(unet_, {.device = "cuda:0"}).segment(views_);
  std::vector<std::string> notes;
  SessionOptions options{.device = "cuda:all"};
  options.on_note = [&](std::string_view line) { notes.emplace_back(line); };
  const Model model = Model::open(unet_, options);
  const auto expect_answers = [&] {
    const std::vector<Segmentation> answers = model.segment(views_);
    ASSERT_EQ(answers.size(), views_.size());
    for (std::size_t i = 0; i < views_.size(); ++i)
      EXPECT_EQ(answers[i].mask, expected[i].mask) << i;
  };
  const Session before = Session::open(unet_, options);
  expect_answers();
  simt::device().lost = 1;
  expect_answers();
  ASSERT_EQ(notes.size(), 1U);
  EXPECT_THAT(notes[0], AllOf(StartsWith("going on with cuda:"), HasSubstr("IllegalAddress")));
  EXPECT_THAT(model.device(),
              AllOf(HasSubstr("cuda:0"), testing::Not(HasSubstr("cuda:1")), HasSubstr("cuda:2")));
  // A clone of one that has not met the fault yet.
  const Session clone = before.clone();
  EXPECT_THAT(clone.device(), testing::Not(StartsWith("cuda:1")));
  EXPECT_EQ(before.devices().size(), 2U);

  // A full memory is the request's fault.
  simt::device().fail_allocation = 1;
  std::vector<std::uint8_t> larger(96 * 96);
  EXPECT_THAT(test::error_of([&] {
                model.segment({larger.data(), 96, 96});
              }),
              HasSubstr("MemoryAllocation"));
  EXPECT_THAT(model.device(), AllOf(HasSubstr("cuda:0"), HasSubstr("cuda:2")));
  simt::device().fail_allocation = 0;
  expect_answers();

  simt::device().lost = 0;
  expect_answers();
  EXPECT_THAT(model.device(), StartsWith("cuda:2"));
  simt::device().lost = 2;
  EXPECT_THAT(test::error_of([&] { model.segment(views_); }), HasSubstr("IllegalAddress"));
}

TEST_F(SeveralGpus, ClonesTakeThemInTurn) {
  simt::device().count = 2;
  Session first = Session::open(unet_, {.device = "cuda:all"});
  const Session second = first.clone(), third = first.clone();
  EXPECT_EQ(first.devices().size(), 2U);
  EXPECT_THAT(first.device(), StartsWith("cuda:0"));
  EXPECT_THAT(second.device(), StartsWith("cuda:1"));
  EXPECT_THAT(third.device(), StartsWith("cuda:0"));
}

}  // namespace
}  // namespace tessera::test
