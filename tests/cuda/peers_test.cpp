// Layers beside cuDNN and cuBLASLt: a third oracle on a GPU, skipped where there is none or where
// the libraries are missing. Under the emulator the libraries are those of tests/simt/peers, which
// follow the documentation in plain loops, and hold what we ask of the real ones.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>

#include "engine/graph/graph.h"
#include "tests/support/cuda_check.h"
#include "tests/support/error.h"
#include "tests/support/network.h"
#include "tools/peers/peers.h"

namespace tessera::test {
namespace {

using ::testing::HasSubstr;

bool is_emulated() {
  cudaDeviceProp properties{};
  return cudaGetDeviceProperties(&properties, 0) == cudaSuccess &&
         std::string_view(properties.name).find("emulat") != std::string_view::npos;
}

// TESSERA_LIBRARIES says where the real ones lie, if not in the usual places.
std::string folder_of_peers() {
  if (is_emulated())
    return (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "fake_peers").string();
  const char* named = std::getenv("TESSERA_LIBRARIES");
  return named != nullptr ? named : "";
}

class CudaPeers : public CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (IsSkipped()) return;
    try {
      open(Precision::kFp32);
    } catch (const Error& error) {
      if (is_emulated()) throw;
      GTEST_SKIP() << error.what();
    }
  }

  void open(Precision precision) {
    peers_ =
        std::make_unique<Peers>(precision, PeerOptions{folder_of_peers(), /*trial_seconds=*/0.2,
                                                       /*batch_seconds=*/is_emulated() ? 0 : 2e-3});
  }

  // Both answers are of sums of `terms` products: they may differ by so many roundings of either
  // side, of the arithmetic and of the type in which the answers are kept.
  PeerRow check(const Op& op, const std::vector<TensorType>& inputs, double bound) {
    const Node node{"node", op, {}, {}};
    RandomWeights weights;
    std::vector<TensorView> views;
    for (const Parameter& p : std::visit([&](const auto& o) { return parameters(o, inputs); }, op))
      views.push_back(weights(p.name, p.shape));
    PeerRow row = peers_->compare(node, inputs, views);
    EXPECT_NE(row.peer, "") << row.note;
    EXPECT_GT(row.largest_value, 0);
    EXPECT_TRUE(row.largest_difference <= bound * row.largest_value)
        << row.largest_difference << " of " << row.largest_value << ", " << row.peer << ", "
        << row.way;
    return row;
  }

  std::unique_ptr<Peers> peers_;
};

// Of the largest value: f32 sums of a few hundred products; products in tf32, which cuDNN rounds in
// its own way; answers kept in 16 bits, and biases with them.
constexpr double kF32 = 1e-5, kTf32 = 4e-3, kBf16 = 2e-2;

TEST_F(CudaPeers, Convolutions) {
  const std::vector<TensorType> x{{DType::kF32, {2, 9, 12, 8}}};
  Conv op{.c_out = 12, .window = square(3, 1), .relu = true};
  const PeerRow row = check(op, x, kF32);
  EXPECT_THAT(row.peer, HasSubstr("cuDNN"));
  EXPECT_EQ(row.note, "");
  EXPECT_GT(row.cost.flops, 0);
  op.window = {.kernel = {3, 2}, .stride = {2, 1}, .dilation = {1, 2}, .pads = {0, 1, 2, 0}};
  check(op, x, kF32);
  op.groups = 4;
  check(op, x, kF32);
  op = {.c_out = 12, .window = square(1), .bias = false};
  check(op, x, kF32);
  op = {.c_out = 12, .window = square(3), .relu = true, .norm = Conv::Norm::kBeforeRelu};
  check(op, x, kF32);
  op.norm = Conv::Norm::kAfterRelu;
  check(op, x, kF32);
}

TEST_F(CudaPeers, WhatIsFused) {
  Conv op{.c_out = 16, .window = square(3, 1)};
  op.epilogue.activation = Activation{.kind = Activation::Kind::kLeakyRelu, .slope = 0.1};
  op.epilogue.residual = true;
  check(op, {{DType::kF32, {1, 8, 8, 8}}, {DType::kF32, {1, 8, 8, 16}}}, kF32);
  op = {.c_out = 16, .window = square(3), .relu = true, .concat = CropConcat{}, .pool = true};
  const PeerRow row =
      check(op, {{DType::kF32, {1, 14, 15, 8}}, {DType::kF32, {1, 10, 10, 4}}}, kF32);
  EXPECT_EQ(row.note, "without joining the maps; without the pool");
}

TEST_F(CudaPeers, Tf32) {
  open(Precision::kTf32);
  check(Conv{.c_out = 16, .window = square(3), .relu = true}, {{DType::kF32, {1, 8, 8, 8}}}, kTf32);
  check(Linear{.units = 20}, {{DType::kF32, {7, 32}}}, kTf32);
}

TEST_F(CudaPeers, SixteenBits) {
  open(Precision::kBf16);
  Conv op{.c_out = 16, .window = square(3), .relu = true, .dtype = DType::kBF16};
  check(op, {{DType::kBF16, {1, 10, 10, 16}}}, kBf16);
  EXPECT_EQ(check(op, {{DType::kF32, {1, 10, 10, 1}}}, kBf16).note, "x is bf16");
  check(ConvTranspose{.c_out = 16, .dtype = DType::kBF16}, {{DType::kBF16, {1, 5, 6, 16}}}, kBf16);
  check(Linear{.units = 20}, {{DType::kF32, {7, 32}}}, kBf16);
}

TEST_F(CudaPeers, Products) {
  EXPECT_THAT(check(Linear{.units = 20}, {{DType::kF32, {3, 7, 24}}}, kF32).peer,
              HasSubstr("cuBLASLt"));
  check(Linear{.units = 20, .bias = false}, {{DType::kF32, {7, 24}}}, kF32);
  const PeerRow row =
      check(ConvTranspose{.c_out = 8, .relu = true}, {{DType::kF32, {2, 5, 6, 16}}}, kF32);
  EXPECT_EQ(row.note, "without the shuffle of pixels");
}

TEST_F(CudaPeers, RecurrentLayers) {
  const std::vector<TensorType> x{{DType::kF32, {5, 7, 12}}, {DType::kI32, {5}}};
  BiRnn op{.cell = BiRnn::Cell::kLstm, .units = 10};
  check(op, x, kF32);
  op.cell = BiRnn::Cell::kGru;
  check(op, x, kF32);
  op.masked = false;
  check(op, {x[0]}, kF32);
  op.embedding = Embedding{.words = 30, .features = 12};
  EXPECT_EQ(check(op, {{DType::kI32, {4, 6}}}, kF32).note, "without the look-up of words");
}

TEST_F(CudaPeers, WhatThePeerLacks) {
  const auto note = [&](const Op& op, const std::vector<TensorType>& x) {
    RandomWeights weights;
    std::vector<TensorView> views;
    for (const Parameter& p : std::visit([&](const auto& o) { return parameters(o, x); }, op))
      views.push_back(weights(p.name, p.shape));
    const PeerRow row = peers_->compare({"node", op, {}, {}}, x, views);
    EXPECT_EQ(row.peer, "");
    EXPECT_GT(row.seconds, 0);
    return row.note;
  };
  const std::vector<TensorType> map{{DType::kF32, {1, 8, 8, 8}}},
      steps{{DType::kF32, {2, 5, 8}}, {DType::kI32, {2}}};
  EXPECT_EQ(note(MaxPool{}, map), "neither library computes it in one call");
  Conv op{.c_out = 8, .window = square(1)};
  op.epilogue.activation = Activation{.kind = Activation::Kind::kPrelu};
  EXPECT_EQ(note(op, map), "its activation is not ReLU");
  EXPECT_THAT(note(BiRnn{.cell = BiRnn::Cell::kGru, .units = 6, .reset_after = false}, steps),
              HasSubstr("reset gate"));
  EXPECT_THAT(note(BiRnn{.units = 6, .gate = BiRnn::Gate::kHardSigmoid}, steps),
              HasSubstr("hard sigmoid"));
}

// Of the fakes' ways one rounds its inputs, one has no plan, one fails when it runs: each says so,
// and the one that works is taken.
TEST_F(CudaPeers, TheFastestWayThatRuns) {
  if (!is_emulated()) GTEST_SKIP() << "of the fake libraries";
  const PeerRow row =
      check(Conv{.c_out = 8, .window = square(3)}, {{DType::kF32, {1, 6, 6, 8}}}, kF32);
  ASSERT_EQ(row.tried.size(), 4u);
  EXPECT_EQ(row.tried[0].refused, "it rounds its inputs");
  EXPECT_EQ(row.tried[1].refused,
            "cuDNN: plan: CUDNN_STATUS_NOT_SUPPORTED: the engine has no kernel for this");
  EXPECT_THAT(row.tried[2].refused, HasSubstr("the launch failed"));
  EXPECT_EQ(row.tried[3].refused, "");
  EXPECT_EQ(row.way, "engine 1");
  EXPECT_EQ(check(Linear{.units = 4}, {{DType::kF32, {7, 8}}}, kF32).way, "algorithm 21, choice 2");
}

TEST(Peers, ALibraryThatIsMissingIsNamedWithItsPackage) {
  EXPECT_THAT(error_of([] { Peers(Precision::kFp32, {"/nowhere:/tmp"}); }),
              HasSubstr("cuDNN (libcudnn.so.9) is not on this machine, neither in /nowhere:/tmp; "
                        "pip install nvidia-cudnn-cu13"));
}

}  // namespace
}  // namespace tessera::test
