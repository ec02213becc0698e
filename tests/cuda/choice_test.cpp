// What a profile says of the kernel that a node gets: the line of choose_* that decided, first.
#include "engine/device/choice.h"

#include <gmock/gmock.h>

#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using CudaChoice = CudaTest;

TEST_F(CudaChoice, NamesTheKernelAndWhyNoOther) {
  const auto choice = [](Precision precision, const Op& op, std::vector<TensorType> inputs) {
    const std::shared_ptr<Device> device = open_cuda_device(kAnyGpu, precision);
    return choice_of(*device, Node{"node", op, {}, {}}, inputs);
  };
  const TensorType bf16{DType::kBF16, {1, 64, 64, 64}}, f32{DType::kF32, {1, 64, 64, 64}};
  Conv conv{.c_out = 64, .window = square(3, 1), .dtype = DType::kBF16};
  EXPECT_THAT(choice(Precision::kBf16, conv, {bf16}),
              AllOf(AnyOf(StartsWith("mma "), StartsWith("wgmma ")),  // by the GPU
                    HasSubstr("\nnot fma 128x64: ")));
  conv.window.stride = {2, 2};
  EXPECT_THAT(choice(Precision::kBf16, conv, {bf16}),
              AllOf(StartsWith("any mma 128x64"), HasSubstr("\nnot the tiles: ")));
  conv = {.c_out = 64, .window = square(3, 1)};
  EXPECT_THAT(choice(Precision::kFp32, conv, {f32}),
              AllOf(StartsWith("fma "), HasSubstr("would round f32 operands to tf32")));
  EXPECT_THAT(choice(Precision::kFp32, ConvTranspose{.c_out = 32}, {f32}),
              StartsWith("fma 128x64"));
  EXPECT_THAT(
      choice(Precision::kFp32, BiRnn{.units = 20, .masked = false}, {{DType::kF32, {4, 6, 10}}}),
      AllOf(StartsWith("fma fp32, "), HasSubstr("a block\nnot ")));
  EXPECT_THAT(choice(Precision::kBf16, Linear{.units = 20}, {{DType::kF32, {4, 10}}}),
              StartsWith("mma bf16, 16 rows a block\nnot 128 rows: "));
  EXPECT_EQ(choice(Precision::kFp32, MaxPool{}, {f32}), "its kernel");
  EXPECT_EQ(choice(Precision::kFp32, LayerNorm{}, {{DType::kF32, {4, 10}}}),
            "the host, between copies");
}

}  // namespace
}  // namespace tessera::test
