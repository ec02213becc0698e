// Sessions beside one another: clones share a model and answer alike.
#include "models/session.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/paths.h"
#include "tests/support/sanitizers.h"

namespace tessera {
namespace {

std::string demo(const std::string& name) {
  return test::source_dir() / "models/demo" / name;
}

std::vector<std::uint8_t> picture(std::int64_t height, std::int64_t width) {
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(height * width));
  for (std::size_t i = 0; i < pixels.size(); ++i)
    pixels[i] = static_cast<std::uint8_t>(i * i % 251 + i / static_cast<std::size_t>(width) % 5);
  return pixels;
}

TEST(SessionClones, OfImagesShareWeightsAndGiveTheSameBytes) {
  Session session = Session::open(demo("unet_isbi.safetensors"),
                                  {.device = "cpu", .threads = 2, .probabilities = true});
  const std::int64_t height = 40, width = 51;
  const std::vector<std::uint8_t> pixels = picture(height, width);
  const Segmentation expected = session.segment({pixels.data(), height, width});
  const std::uint64_t packed = session.plan(height, width).weights;

  constexpr std::size_t kClones = 3;
  std::vector<Session> clones;
  for (std::size_t i = 0; i < kClones; ++i) clones.push_back(session.clone(1));
  std::vector<Segmentation> answers(kClones);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kClones; ++i) {
    threads.emplace_back([&, i] {
      const std::vector<std::uint8_t> other = picture(33, 20 + static_cast<std::int64_t>(i));
      clones[i].segment({other.data(), 33, 20 + static_cast<std::int64_t>(i)});
      answers[i] = clones[i].segment({pixels.data(), height, width});
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < kClones; ++i) {
    EXPECT_EQ(answers[i].mask, expected.mask);
    EXPECT_EQ(answers[i].probabilities, expected.probabilities);
    EXPECT_EQ(clones[i].threads(), 1);
    EXPECT_EQ(clones[i].plan(height, width).weights, packed) << "packed once for all";
  }
}

// Seven images in batches of three, the last one smaller, whole and in tiles.
TEST(SessionBatches, GiveTheBytesOfEachAlone) {
  const std::int64_t height = 900, width = 17;
  std::vector<std::vector<std::uint8_t>> pixels;
  std::vector<ImageView> views;
  for (std::int64_t i = 0; i < 7; ++i) {
    pixels.push_back(picture(height + i, width));
    views.push_back({pixels.back().data() + i * width, height, width});
  }
  for (const int tile : {0, 720}) {
    SCOPED_TRACE(tile);
    SessionOptions options{.device = "cpu", .threads = 2, .tile = tile, .probabilities = true};
    Session single = Session::open(demo("unet_isbi.safetensors"), options);
    EXPECT_EQ(single.plan(height, width).batch, 1);
    options.batch = 3;
    Session session = Session::open(demo("unet_isbi.safetensors"), options);
    EXPECT_EQ(session.plan(height, width).batch, 3);
    std::vector<std::int64_t> told;
    const std::vector<Segmentation> answers =
        session.segment(views, [&](std::int64_t done, std::int64_t all) {
          EXPECT_EQ(all, 7);
          told.push_back(done);
        });
    EXPECT_EQ(told, (std::vector<std::int64_t>{3, 6, 7}));
    ASSERT_EQ(answers.size(), views.size());
    for (std::size_t i = 0; i < views.size(); ++i) {
      const Segmentation expected = single.segment(views[i]);
      EXPECT_EQ(answers[i].mask, expected.mask) << i;
      EXPECT_EQ(answers[i].probabilities, expected.probabilities) << i;
    }
  }
}

TEST(SessionBatches, AreAsLargeAsMemoryAllowsAndOfOneSize) {
  const std::vector<std::uint8_t> pixels = picture(64, 64);
  SessionOptions options{.device = "cpu", .threads = 1, .batch = 512};
  Session roomy = Session::open(demo("unet_isbi.safetensors"), options);
  const SegmentationPlan one = roomy.plan(64, 64);
  options.max_memory = one.peak + (std::uint64_t{128} << 20);  // another copy of the weights, too
  Session tight = Session::open(demo("unet_isbi.safetensors"), options);
  const std::int64_t batch = tight.plan(64, 64).batch;
  EXPECT_GT(batch, 1);
  EXPECT_LT(batch, one.batch);

  std::vector<ImageView> views(2, {pixels.data(), 64, 64});
  views[1].width = 63;
  EXPECT_THROW(roomy.segment(views), std::runtime_error);
  views[1] = {nullptr, 64, 64};
  EXPECT_THROW(roomy.segment(views), std::runtime_error);
  EXPECT_TRUE(roomy.segment(std::vector<ImageView>{}).empty());
  options.batch = -1;
  EXPECT_THROW(Session::open(demo("unet_isbi.safetensors"), options), std::runtime_error);
  options.batch = 1 << 30;
  EXPECT_THROW(Session::open(demo("unet_isbi.safetensors"), options), std::runtime_error);
}

TEST(SessionClones, OfDocumentsGiveTheSameBytes) {
  Session session = Session::open(demo("han_imdb.safetensors"), {.device = "cpu", .threads = 2});
  const std::string text = "A film to remember. The plot is dull, but the actors are great.";
  const Classification expected = session.classify(text);
  std::vector<Session> clones;
  for (int i = 0; i < 2; ++i) clones.push_back(session.clone());
  std::vector<Classification> answers(clones.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < clones.size(); ++i) {
    threads.emplace_back([&, i] {
      clones[i].classify(i == 0 ? "Another text. Of two sentences." : "One more!");
      answers[i] = clones[i].classify(text);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Classification& answer : answers)
    EXPECT_EQ(answer.probabilities, expected.probabilities);
  EXPECT_EQ(clones[0].threads(), 2);
}

TEST(Model, GivesManyThreadsTheBytesOfASession) {
  const std::string path = demo("unet_isbi.safetensors");
  Session session = Session::open(path, {.device = "cpu", .threads = 2});
  const Model model = Model::open(path, {.device = "cpu", .threads = 2});
  EXPECT_EQ(model.task(), Session::Task::kSegment);
  EXPECT_EQ(model.config_json(), session.config_json());
  struct Picture {
    std::int64_t height, width;
    std::vector<std::uint8_t> pixels = picture(height, width), mask = {};
  };
  std::vector<Picture> pictures{{40, 51}, {33, 20}, {64, 64}, {7, 90}};
  for (Picture& one : pictures)
    one.mask = session.segment({one.pixels.data(), one.height, one.width}).mask;
  std::vector<std::thread> threads;  // more than there are Sessions
  for (std::size_t thread = 0; thread < 5; ++thread) {
    threads.emplace_back([&, thread] {
      for (std::size_t i = 0; i < pictures.size(); ++i) {
        const Picture& one = pictures[(i + thread) % pictures.size()];
        EXPECT_EQ(model.segment({one.pixels.data(), one.height, one.width}).mask, one.mask);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THROW(model.classify("no image"), std::runtime_error);
  EXPECT_EQ(model.segment({pictures[0].pixels.data(), 40, 51}).mask, pictures[0].mask);
}

TEST(Model, OfDocumentsGivesManyThreadsTheBytesOfASession) {
  const std::string path = demo("han_imdb.safetensors");
  Session session = Session::open(path, {.device = "cpu", .threads = 2});
  const Model model = Model::open(path, {.device = "cpu", .threads = 2});
  const std::vector<std::string> texts{"A film to remember.",
                                       "The plot is dull. The actors are not.",
                                       "Worst of all! Never again, I thought. And yet."};
  std::vector<std::vector<float>> expected;
  for (const std::string& text : texts) expected.push_back(session.classify(text).probabilities);
  std::vector<std::thread> threads;
  for (std::size_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (std::size_t i = 0; i < texts.size(); ++i) {
        const std::size_t at = (i + thread) % texts.size();
        EXPECT_EQ(model.classify(texts[at]).probabilities, expected[at]);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// What a Model's Sessions have is divided: none takes tiles that leave the others no memory.
TEST(Model, DividesItsMemory) {
#if defined(TESSERA_THREAD_SANITIZER) || defined(TESSERA_ADDRESS_SANITIZER)
  GTEST_SKIP() << "the sanitizer's own memory counts as the process's, and grows";
#endif
  const std::string path = demo("unet_isbi.safetensors");
  const Session session = Session::open(path, {.device = "cpu", .threads = 4});
  const std::uint64_t alone = session.clone().plan(1500, 1500).peak;
  EXPECT_EQ(session.clone().plan(1500, 1500).tiles, 1);
  const Model model = Model::open(path, {.device = "cpu", .threads = 4, .max_memory = alone});
  EXPECT_GT(model.plan(1500, 1500).tiles, 1);
}

#if !defined(TESSERA_NO_THREADS_IN_A_CHILD)
TEST(SessionForks, AChildGoesOnWithItsParentsSession) {
  Session session = Session::open(demo("unet_isbi.safetensors"), {.device = "cpu", .threads = 2});
  const std::vector<std::uint8_t> pixels = picture(60, 60);
  const ImageView image{pixels.data(), 60, 60};
  const std::vector<std::uint8_t> expected = session.segment(image).mask;
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::alarm(60);  // a hang ends the child
    ::_exit(session.segment(image).mask == expected ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}
#endif

struct Cancelled {};

TEST(Session, ProgressThatThrowsEndsTheCallAlone) {
  Session session = Session::open(demo("unet_isbi.safetensors"),
                                  {.device = "cpu", .threads = 2, .tile = 320, .winograd = false});
  const std::int64_t height = 400, width = 410;
  const std::vector<std::uint8_t> pixels = picture(height, width);
  const Segmentation expected = session.segment({pixels.data(), height, width});
  std::int64_t calls = 0;
  EXPECT_THROW(session.segment({pixels.data(), height, width},
                               [&](std::int64_t done, std::int64_t all) {
                                 EXPECT_EQ(done, ++calls);
                                 EXPECT_GT(all, 2);
                                 if (done == 2) throw Cancelled();
                               }),
               Cancelled);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(session.segment({pixels.data(), height, width}).mask, expected.mask);
}

TEST(Model, ClassifyingEndsBetweenBatches) {
  const Model model = Model::open(demo("han_imdb.safetensors"), {.device = "cpu", .threads = 1});
  const std::string text = "A film to remember. The plot is dull, but the actors are great.";
  const std::vector<std::string_view> texts(5000, text);
  std::vector<std::int64_t> seen;
  const auto note = [&](std::int64_t done, std::int64_t all) {
    EXPECT_EQ(all, 5000);
    seen.push_back(done);
  };
  const std::vector<Classification> answers = model.classify(texts, note);
  ASSERT_GT(seen.size(), 1u);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_EQ(seen.back(), 5000);
  EXPECT_THROW(model.classify(texts, [](std::int64_t, std::int64_t) { throw Cancelled(); }),
               Cancelled);
  EXPECT_EQ(model.classify(text).probabilities, answers[4999].probabilities);
}

TEST(Objects, OfAMaskAreCountedAndMeasured) {
  const std::vector<std::uint8_t> mask{1, 0, 2, 2,   //
                                       0, 1, 0, 2,   //
                                       0, 0, 0, 0,   //
                                       1, 1, 1, 0};  //
  const Objects found = find_objects(mask.data(), 4, 4);
  EXPECT_EQ(found.labels,
            (std::vector<std::uint32_t>{1, 0, 2, 2, 0, 1, 0, 2, 0, 0, 0, 0, 3, 3, 3, 0}));
  ASSERT_EQ(found.objects.size(), 3u);
  const Object& last = found.objects[2];
  EXPECT_EQ(last.area, 3);
  EXPECT_EQ(last.class_id, 1);
  EXPECT_EQ((std::vector{last.x, last.y, last.width, last.height}),
            (std::vector<std::int64_t>{0, 3, 3, 1}));
  EXPECT_EQ(last.centroid_x, 1);
  EXPECT_EQ(last.centroid_y, 3);
  EXPECT_EQ(find_objects(mask.data(), 4, 4, {.connectivity = 4}).objects.size(), 4u);
  EXPECT_EQ(find_objects(mask.data(), 4, 4, {.min_area = 3}).objects.size(), 2u);
  EXPECT_THROW(find_objects(mask.data(), 4, 4, {.connectivity = 6}), std::runtime_error);
}

}  // namespace
}  // namespace tessera
