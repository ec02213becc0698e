// Runs the program as a user does: by its path, in a folder of its own, with two small models, and
// keeps exit code, stdout and stderr.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "engine/files/safetensors.h"
#include "engine/graph/graph.h"
#include "models/image/image.h"
#include "models/image/png.h"
#include "models/networks/han.h"
#include "models/networks/unet.h"
#include "tests/support/paths.h"

namespace tessera::test {

namespace fs = std::filesystem;
using nlohmann::json;

inline std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void write_bytes(const fs::path& path, std::string_view bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

// A model file with small made-up weights for every parameter of `graph`.
inline void write_model(const fs::path& path, const Graph& graph,
                        const std::vector<TensorType>& inputs, const json& config,
                        std::string_view vocabulary) {
  const std::vector<TensorType> types = infer_types(graph, inputs);
  std::mt19937 random(5);
  std::map<std::string, std::vector<float>> values;
  std::map<std::string, TensorView> tensors;
  for (const Node& node : graph.nodes) {
    for (const Parameter& p : parameters_of(node, input_types(node, types))) {
      std::vector<float>& memory = values[weight_name(node, p.name)];
      memory.resize(static_cast<std::size_t>(p.shape.elements()));
      for (float& value : memory) value = static_cast<float>(random() % 2001) * 1e-3f - 1.0f;
      tensors[weight_name(node, p.name)] = {memory.data(), {DType::kF32, p.shape}};
    }
  }
  std::string words(vocabulary);
  if (!words.empty()) {
    tensors["vocabulary"] = {words.data(), {DType::kU8, {static_cast<std::int64_t>(words.size())}}};
  }
  write_safetensors(path, tensors, {{"tessera", config.dump()}});
}

struct Result {
  int code = -1;  // exit code, or 128 + the signal
  std::string out, err;
};

class Cli : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() /
              (std::string("tessera_cli_") + std::to_string(::getpid()) + "_" +
               testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    unet_ = (folder_ / "models/unet.safetensors").string();
    han_ = (folder_ / "models/han.safetensors").string();
    fs::create_directories(folder_ / "models");

    UNetConfig unet;
    unet.depth = 1;
    unet.base = 4;
    write_model(unet_, build_unet(unet, false), {{DType::kF32, {1, 20, 20, 1}}},
                {{"format", 1},
                 {"architecture", "unet"},
                 {"unet", to_json(unet)},
                 {"classes", {{{"name", "ground"}}, {{"name", "cell"}}}}},
                "");
    HanConfig han;
    han.words = 7;
    han.features = 6;
    han.units = 5;
    han.attention = 4;
    han.max_sentences = 3;
    han.max_words = 6;
    write_model(han_, build_han(han),
                {{DType::kI32, {1, 3, 6}}, {DType::kI32, {1, 3}}, {DType::kI32, {1}}},
                {{"format", 1},
                 {"architecture", "han"},
                 {"han", to_json(han)},
                 {"classes", {{{"name", "bad"}}, {{"name", "good"}}}}},
                "the\nfilm\nwas\ngreat\ndull\n");
  }
  void TearDown() override {
    std::error_code ignored;
    fs::permissions(folder_, fs::perms::owner_all, ignored);
    fs::remove_all(folder_, ignored);
  }

  // Grey pixels that differ everywhere, the same for each size.
  static Image texture(std::int64_t height, std::int64_t width) {
    std::mt19937 random(3);
    std::vector<std::uint8_t> pixels(static_cast<std::size_t>(height * width));
    for (std::size_t i = 0; i < pixels.size(); ++i)
      pixels[i] = static_cast<std::uint8_t>(random() % 64 + i / 37 % 96 + i / 4001 % 90);
    return {height, width, 1, std::move(pixels)};
  }

  fs::path at(const std::string& name) const { return folder_ / name; }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  // Starts the program in the test's folder; `standard_input` is a file.
  pid_t start(const std::vector<std::string>& arguments, const fs::path& standard_input,
              const std::map<std::string, std::string>& environment) {
    std::vector<std::string> words{program()};
    words.insert(words.end(), arguments.begin(), arguments.end());
    return start_words(std::move(words), standard_input, environment);
  }
  // Any program, by its path.
  pid_t start_words(std::vector<std::string> words, const fs::path& standard_input,
                    const std::map<std::string, std::string>& environment) {
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    const pid_t child = ::fork();
    if (child != 0) return child;
    const auto redirect = [](const fs::path& file, int flags, int to) {
      const int descriptor = ::open(file.c_str(), flags, 0666);
      if (descriptor < 0 || ::dup2(descriptor, to) < 0) ::_exit(99);
    };
    redirect(standard_input, O_RDONLY, STDIN_FILENO);
    redirect(at("stdout"), O_WRONLY | O_CREAT | O_TRUNC, STDOUT_FILENO);
    redirect(at("stderr"), O_WRONLY | O_CREAT | O_TRUNC, STDERR_FILENO);
    if (::chdir(folder_.c_str()) != 0) ::_exit(99);
    // Every machine gives the same lines: whether a GPU is found is asked by one test alone.
    ::setenv("TESSERA_DEVICE", "cpu", 1);
    for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
    ::execv(argv[0], argv.data());
    ::_exit(99);
  }

  Result finish(pid_t child) {
    int status = 0;
    ::waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
            read_text(at("stdout")), read_text(at("stderr"))};
  }

  Result run(const std::vector<std::string>& arguments,
             const fs::path& standard_input = "/dev/null",
             const std::map<std::string, std::string>& environment = {}) {
    return finish(start(arguments, standard_input, environment));
  }

  // Seconds of a run that must succeed.
  double time_of(const std::vector<std::string>& arguments) {
    const auto begin = std::chrono::steady_clock::now();
    const Result result = run(arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

  // Starts what `next` says and kills it at some moment of the `seconds` that it takes: a handful
  // of times, or as often as TESSERA_KILL_POINTS says (a hundred at night). Then one more is let
  // run.
  void kill_until_done(const std::function<std::vector<std::string>()>& next, double seconds) {
    const char* text = std::getenv("TESSERA_KILL_POINTS");
    const int points = text != nullptr ? std::atoi(text) : 4;
    std::mt19937 random(11);
    int killed = 0;
    for (int point = 0; point < points; ++point) {
      const pid_t child = start(next(), "/dev/null", {});
      std::this_thread::sleep_for(std::chrono::duration<double>(
          std::uniform_real_distribution<double>(0, seconds)(random)));
      ::kill(child, SIGKILL);
      const Result result = finish(child);
      EXPECT_TRUE(result.code == 128 + SIGKILL || result.code == 0) << result.code << result.err;
      killed += result.code != 0 ? 1 : 0;
    }
    EXPECT_GT(killed, 0);
    const Result last = run(next());
    EXPECT_EQ(last.code, 0) << last.err;
  }

  // An 8-bit grey image with a bright disc.
  void make_image(const std::string& name, std::int64_t height = 30, std::int64_t width = 41) {
    fs::create_directories(at(name).parent_path());
    write_png(at(name), picture(height, width));
  }

  static Image picture(std::int64_t height, std::int64_t width) {
    std::vector<std::uint8_t> pixels;
    for (std::int64_t y = 0; y < height; ++y) {
      for (std::int64_t x = 0; x < width; ++x) {
        const std::int64_t dy = y - height / 2, dx = x - width / 2;
        pixels.push_back(dy * dy + dx * dx < 80 ? 230 : static_cast<std::uint8_t>(x % 60));
      }
    }
    return {height, width, 1, pixels};
  }

  // Names below a folder, sorted, without the journals that --resume goes by.
  std::vector<std::string> files_in(const std::string& name) const {
    std::vector<std::string> names;
    if (!fs::exists(at(name))) return names;
    for (const auto& entry : fs::recursive_directory_iterator(at(name))) {
      if (entry.is_regular_file() && entry.path().extension() != ".journal")
        names.push_back(entry.path().lexically_relative(at(name)).string());
    }
    std::ranges::sort(names);
    return names;
  }

  std::vector<std::string> segment(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"segment", "-m", unet_});
    return arguments;
  }
  std::vector<std::string> classify(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"classify", "-m", han_});
    return arguments;
  }

  fs::path folder_;
  std::string unet_, han_;
};

inline std::size_t lines_of(const std::string& text) {
  return static_cast<std::size_t>(std::ranges::count(text, '\n'));
}

// One line on stderr that starts as every error does.
inline void expect_error(const Result& result, int code, const std::string& part) {
  EXPECT_EQ(result.code, code) << result.out << result.err;
  EXPECT_THAT(result.err,
              testing::AllOf(testing::StartsWith("tessera: "), testing::HasSubstr(part)));
  EXPECT_EQ(lines_of(result.err), 1U) << result.err;
}

}  // namespace tessera::test
