// Every test on the emulator gets streams whose work is done late or, in the check build, in an
// order that its name decides; what a test leaves undone is done, and looked at, when it ends.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "emulator/emulator.h"

namespace tessera::test {
namespace {

// The same on every machine, as std::hash need not be.
unsigned seed_of(const std::string& name) {
  unsigned hash = 2166136261u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  return hash;
}

class StreamOrder : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo& test) override {
    simt::Config& config = simt::config();
    if (simt::kChecked && std::getenv("SIMT_STREAMS") == nullptr)
      config.streams = simt::Async::kRandom;
    config.stream_seed =
        seed_of(std::string(test.test_suite_name()) + "." + test.name()) + config.seed;
  }
  void OnTestEnd(const testing::TestInfo&) override {
    if (simt::device().count_error != 0) return;
    try {
      EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << "work that no test waited for";
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
  }
};

const bool listens = [] {
  testing::UnitTest::GetInstance()->listeners().Append(new StreamOrder);
  return true;
}();

}  // namespace
}  // namespace tessera::test
