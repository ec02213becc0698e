// Ten optimiser steps of whole networks on the GPU against the same ten by PyTorch.
#include "tests/support/training_golden.h"
#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

class CudaTrainingGolden : public CudaTest, public testing::WithParamInterface<const char*> {};

INSTANTIATE_TEST_SUITE_P(Networks, CudaTrainingGolden, testing::ValuesIn(kTrainingGoldens),
                         [](const auto& network) { return std::string(network.param); });

// As on the CPU, whose sums are taken in another order: see tests/engine/training_golden_test.cpp.
constexpr TrainingDistance kBound{1e-5, 2e-5};

TEST_P(CudaTrainingGolden, TenStepsAreThoseOfPyTorch) {
  const TrainingGolden golden = load_training_golden(GetParam());
  const TrainingRun run = run_training(golden, open_cuda_device(0, Precision::kFp32));
  const TrainingDistance distance = check_training(golden, run, kBound);
  RecordProperty("loss", fmt::format("{:.2g}", distance.loss));
  RecordProperty("weight", fmt::format("{:.2g}", distance.weight));
}

}  // namespace
}  // namespace tessera::test
