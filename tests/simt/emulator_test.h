// A test that may change how the emulator works: what it was before comes back, and nothing that
// the test found or broke is left for the next.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "emulator/emulator.h"

namespace tessera::test {

class EmulatorTest : public testing::Test {
 protected:
  void TearDown() override {
    simt::config() = before_;
    simt::device() = {};
    simt::take_findings();
    cudaGetLastError();
  }

 private:
  simt::Config before_ = simt::config();
};

}  // namespace tessera::test
