// `tessera train` as a user runs it: a recipe, the data pass, an interrupted run and what it says
// about wrong options.
#include <csignal>

#include <array>
#include <chrono>
#include <thread>

#include "tests/support/cli.h"

namespace tessera::test {
namespace {

using ::testing::HasSubstr;

class TrainCli : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    std::string text;
    for (int i = 0; i < 40; ++i)
      text += i % 2 == 0 ? "good\tA lovely film. I saw it.\n" : "bad\tAn awful film. I left.\n";
    write_bytes(at("train.tsv"), text);
    write_bytes(at("small.json"),
                R"({"network": "han", "options": {"units": 3, "attention": 3, "features": 4,
                    "batch": 8, "epochs": 3, "rate": 0.02, "dropout": 0}})");
  }

  std::vector<std::string> train(std::vector<std::string> more) const {
    std::vector<std::string> arguments{"train", "han", at("train.tsv").string(), "--recipe",
                                       at("small.json").string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
};

TEST_F(TrainCli, AModelThatClassifies) {
  const std::string model = at("m.safetensors").string();
  const Result trained = run(train({"-o", model, "--epochs", "12"}));
  EXPECT_EQ(trained.code, 0) << trained.err;
  EXPECT_THAT(trained.out, HasSubstr("60 steps"));  // 36 documents in 5 batches; 4 are held out
  EXPECT_EQ(files_in("m.safetensors.run"),
            (std::vector<std::string>{"best.safetensors", "last.safetensors", "learning_curves.svg",
                                      "metrics.jsonl"}));
  const Result evaluated = run({"eval", at("train.tsv").string(), "-m", model});
  EXPECT_THAT(evaluated.out, HasSubstr("accuracy 1.0000")) << evaluated.err;
}

// Long enough to be caught in the middle; each validation leaves a checkpoint.
class TrainCliInterrupted : public TrainCli {
 protected:
  std::vector<std::string> long_run(const std::string& folder, std::vector<std::string> more,
                                    const char* epochs = "60") {
    fs::create_directories(at(folder));
    more.insert(more.end(), {"-o", (at(folder) / "m.safetensors").string(), "--epochs", epochs});
    return train(std::move(more));
  }

  // Sends the signal as soon as so many validations are logged.
  Result stop_after(std::size_t validations, int signal, std::vector<std::string> arguments) {
    const pid_t child = start(arguments, "/dev/null", {});
    const fs::path log = at("parts/m.safetensors.run/metrics.jsonl");
    while (lines_of(read_text(log)) < validations && ::waitpid(child, nullptr, WNOHANG) == 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ::kill(child, signal);
    return finish(child);
  }
};

TEST_F(TrainCliInterrupted, AKilledRunGoesOnToTheSameBytes) {
  const Result whole = run(long_run("whole", {}));
  ASSERT_EQ(whole.code, 0) << whole.err;
  EXPECT_EQ(stop_after(2, SIGKILL, long_run("parts", {})).code, 137);
  EXPECT_EQ(stop_after(7, SIGKILL, long_run("parts", {"--resume"})).code, 137);
  const Result interrupted = stop_after(15, SIGINT, long_run("parts", {"--resume"}));
  EXPECT_EQ(interrupted.code, 130) << interrupted.err;
  EXPECT_THAT(interrupted.err, HasSubstr("interrupted at step "));
  EXPECT_THAT(interrupted.err, HasSubstr("go on with --resume"));
  // A model is given away: of the paths here it has the names alone.
  EXPECT_THAT(read_text(at("whole/m.safetensors")), testing::Not(HasSubstr(at("").string())));
  const Result ended = run(long_run("parts", {"--resume"}));
  ASSERT_EQ(ended.code, 0) << ended.err;
  for (const char* name : {"m.safetensors", "m.safetensors.run/best.safetensors",
                           "m.safetensors.run/last.safetensors"}) {
    EXPECT_TRUE(read_text(at("whole") / name) == read_text(at("parts") / name)) << name;
  }
}

TEST_F(TrainCliInterrupted, ARunKilledAtAnyMomentGoesOnToTheSameBytes) {
  const double seconds = time_of(long_run("whole", {}, "20"));
  kill_until_done(
      [&] {
        std::vector<std::string> more;
        if (fs::exists(at("parts/m.safetensors.run/last.safetensors"))) more = {"--resume"};
        return long_run("parts", std::move(more), "20");
      },
      seconds);
  EXPECT_EQ(files_in("parts"), files_in("whole"));  // and no temporary is left
  for (const std::string& name : files_in("whole")) {
    if (!name.ends_with(".safetensors")) continue;
    EXPECT_TRUE(read_text(at("whole") / name) == read_text(at("parts") / name)) << name;
  }
}

TEST_F(TrainCli, QuietSaysNothing) {
  const Result quiet = run(train({"-o", "m.safetensors", "--steps", "2", "-q"}));
  EXPECT_EQ(quiet.code, 0);
  EXPECT_EQ(quiet.out + quiet.err, "");
  const Result machine = run(train({"-o", "n.safetensors", "--steps", "2", "-q", "--json"}));
  EXPECT_EQ(json::parse(machine.out).at("step"), 2);
  EXPECT_EQ(machine.err, "");
}

TEST_F(TrainCli, TheBestByAnotherFigure) {
  for (const std::string figure : {"loss", "accuracy", "mean_f1"}) {
    const std::string model = at(figure + ".safetensors").string();
    const Result trained = run(train({"-o", model, "--best", figure, "--json"}));
    ASSERT_EQ(trained.code, 0) << trained.err;
    EXPECT_TRUE(json::parse(trained.out)["validation_" + figure].is_number()) << trained.out;
  }
  expect_error(run(train({"-o", at("m.safetensors").string(), "--best", "mean_iou"})), 2,
               "--best");  // a UNet's
}

TEST_F(TrainCli, TheDataPassAlone) {
  const Result checked = run(train({"-o", at("m.safetensors").string(), "--check"}));
  EXPECT_EQ(checked.code, 0) << checked.err;
  EXPECT_THAT(checked.err, HasSubstr("36 training and 4 validation documents"));
  EXPECT_FALSE(fs::exists(at("m.safetensors")));
}

TEST_F(TrainCli, WrongUsage) {
  const std::string model = at("m.safetensors").string();
  expect_error(run(train({"-o", model, "--epochs", "0"})), 2, "--epochs: expected a whole number");
  expect_error(run(train({"-q", "-o", model, "--resume"})), 1, "nothing to resume");
  expect_error(
      run({"train", "unet", at("").string(), "-o", model, "--recipe", at("small.json").string()}),
      2, "is not for 'tessera train unet'");
  write_bytes(at("small.json"), R"({"options": {"epochz": 3}})");
  expect_error(run(train({"-o", model})), 2, "has the option 'epochz'");
}

// Squares on a dark ground, four of 25 pixels and one of 4, whose masks hold ids of objects.
class TrainUNetCli : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    for (const int i : {0, 1, 2, 3}) write_pair(i, 0);
  }

  void write_pair(int i, int added) {
    constexpr std::int64_t kSide = 24;
    std::vector<std::uint8_t> grey(kSide * kSide, static_cast<std::uint8_t>(30 + added)),
        mask(grey.size());
    std::uint8_t id = 0;
    for (const auto& [y0, x0, side] :
         {std::array{1, 1, 5}, {1, 15, 5}, {15, 2, 5}, {15, 15, 5}, {9, 9, 2}}) {
      ++id;
      for (std::int64_t p = 0; p < side * side; ++p) {
        const auto at = static_cast<std::size_t>((y0 + p / side) * kSide + x0 + p % side);
        grey[at] = static_cast<std::uint8_t>(180 + i);
        mask[at] = id;
      }
    }
    fs::create_directories(at("data/images"));
    fs::create_directories(at("data/masks"));
    write_png(at("data/images") / (std::to_string(i) + ".png"), {kSide, kSide, 1, grey});
    write_png(at("data/masks") / (std::to_string(i) + "_mask.png"), {kSide, kSide, 1, mask});
  }

  std::vector<std::string> train(std::vector<std::string> more) const {
    std::vector<std::string> arguments{
        "train",  "unet", "data",    "--depth", "1",        "--base", "4",
        "--tile", "24",   "--batch", "2",       "--device", "cpu",    "--no-augmentation"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
};

TEST_F(TrainUNetCli, TheModelRemembersItsMasks) {
  const std::string model = path("m.safetensors");
  const Result trained = run(train({"-o", model, "--epochs", "60", "--rate", "0.02", "--classes",
                                    "ground,square", "--min-area", "7"}));
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_THAT(trained.err,
              HasSubstr("masks are read as objects: the values 0, 1, 2, 3, 4, 5 in 4 masks"));
  EXPECT_THAT(run({"info", model}).out, HasSubstr("format objects, min_area 7"));
  const Result evaluated = run({"eval", "data", "-m", model, "--json"});
  ASSERT_EQ(evaluated.code, 0) << evaluated.err;
  EXPECT_THAT(evaluated.err, HasSubstr("objects, as in the model's training"));
  const json figures = json::parse(evaluated.out);
  EXPECT_EQ(figures["mask_format"], "objects");
  EXPECT_EQ(figures["objects"]["truth"], 20);
  EXPECT_EQ(figures["objects"]["predicted"], 16) << evaluated.out;  // without the specks
  const Result told = run({"eval", "data", "-m", model, "--json", "--min-area", "1"});
  EXPECT_EQ(json::parse(told.out)["objects"]["predicted"], 20) << told.out;
  const Result segmented =
      run({"segment", "data/images", "-m", model, "-o", "out", "--instances", "--json"});
  ASSERT_EQ(segmented.code, 0) << segmented.err;
  EXPECT_EQ(json::parse(segmented.out)["images"][0]["instances"].size(), 4U) << segmented.out;
}

TEST_F(TrainUNetCli, OtherPixelsAreAnotherRun) {
  const std::vector<std::string> first{"-o", "m.safetensors", "--steps", "2", "--classes", "a,b"};
  ASSERT_EQ(run(train(first)).code, 0);
  std::vector<std::string> again{"-o",        "m.safetensors", "--steps", "4",
                                 "--classes", "a,b",           "--resume"};
  write_pair(2, 1);
  const Result refused = run(train(again));
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("pixels_digest"));
  write_pair(2, 0);
  EXPECT_EQ(run(train(again)).code, 0);
}

TEST_F(TrainUNetCli, SaysWhatNeedsAValidation) {
  const std::vector<std::string> none{"-o", "m.safetensors", "--validation", "none"};
  for (const auto& [option, value] :
       {std::pair{"--best", "mean_iou"}, {"--best", "loss"}, {"--early-stop", "3"}}) {
    std::vector<std::string> more = none;
    more.insert(more.end(), {option, value, "--classes", "a,b"});
    const Result refused = run(train(more));
    EXPECT_EQ(refused.code, 2) << refused.err;
    EXPECT_THAT(refused.err, testing::AllOf(HasSubstr(std::string(option) + " needs a validation"),
                                            HasSubstr("--validation")));
  }
  EXPECT_FALSE(fs::exists(at("m.safetensors")));
}

TEST_F(TrainUNetCli, ATileThatNoMachineHolds) {
  std::vector<std::string> arguments = train({"-o", "m.safetensors", "--classes", "a,b"});
  *std::ranges::find(arguments, "24") = "60000";
  const Result refused = run(arguments);
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err,
              testing::AllOf(HasSubstr("a batch of 2 needs"), HasSubstr("of memory are free"),
                             HasSubstr("a smaller --tile")));
  EXPECT_FALSE(fs::exists(at("m.safetensors.run/metrics.jsonl")));
}

TEST_F(TrainUNetCli, AModelTellsNoFolders) {
  fs::create_directories(at("private/runs"));
  write_bytes(at("private/names.txt"), "1\n");
  write_bytes(at("private/small.json"), R"({"network": "unet", "options": {"steps": 1}})");
  const std::vector<std::string> rule = {
      "--validation=list:" + path("private/names.txt"), "--recipe=" + path("private/small.json"),
      "--metrics=" + path("private/runs/one"), "-q", "--classes=a/b,b"};
  std::vector<std::string> more = rule;
  more.push_back("-o" + path("private/m.safetensors"));
  std::vector<std::string> arguments = train(more);
  arguments[2] = path("data") + "/";
  const Result trained = run(arguments);
  ASSERT_EQ(trained.code, 0) << trained.err;
  const json config = json::parse(run({"info", path("private/m.safetensors"), "--json"}).out);
  const json& provenance = config["provenance"];
  EXPECT_THAT(provenance.dump(), testing::Not(HasSubstr("private")));
  EXPECT_EQ(provenance["command"],
            "tessera train unet data --depth 1 --base 4 --tile 24 --batch 2 --device cpu "
            "--no-augmentation --validation=list:names.txt --recipe=small.json --metrics=one "
            "--classes=a/b,b -om.safetensors");
  EXPECT_EQ(provenance["data"], json::array({"data"}));
}

}  // namespace
}  // namespace tessera::test
