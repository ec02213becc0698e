// `tessera train` as a user runs it: a recipe, the data pass, an interrupted run and what it says
// about wrong options.
#include <csignal>

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

}  // namespace
}  // namespace tessera::test
