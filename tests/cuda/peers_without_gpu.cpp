// The real cuDNN and cuBLASLt of this machine, without a GPU: every function that we call is there,
// and cuDNN's own heuristics name fair engines, with plans, for each convolution of a network on an
// H100 that it is given a description of. Skipped where the libraries are missing.
#include <gtest/gtest.h>

#include "engine/passes/passes.h"
#include "kernels/error.h"
#include "models/networks/published_images.h"
#include "models/networks/unet.h"
#include "tests/support/network.h"
#include "tools/peers/cublaslt.h"
#include "tools/peers/cudnn_conv.h"

namespace tessera::test {
namespace {

// cuDNN's own names; the values are those that CUDA reports of an H100 SXM.
constexpr const char* kH100 = R"({"maxGridSize": [2147483647, 65535, 65535],
  "maxBlockSize": [1024, 1024, 64], "regsPerBlock": 65536, "multiProcessorCount": 132,
  "warpSize": 32, "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448,
  "reservedSharedMemoryPerBlock": 1024, "maxRegistersPerSM": 65536, "maxCtasPerSM": 32,
  "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "pciDeviceId": 0, "isTccDriver": 0,
  "supportCoopLaunch": 1, "totalGlobalMem": 85028765696, "smClockRateKHz": 1980000,
  "memClockRateKHz": 2619000, "l2CacheSize": 52428800, "cudaDeviceId": 0, "deviceVer": 900,
  "driverVer": 13000, "deviceName": "NVIDIA H100 80GB HBM3"})";

TEST(PeersWithoutGpu, EnginesOfEveryConvolutionOnAnH100) {
  std::unique_ptr<Cudnn> cudnn;
  try {
    cudnn = std::make_unique<Cudnn>("");
    cudnn->use_description(kH100);
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();  // missing, or older than 9.8
  }
  struct Case {
    Graph graph;
    TensorType image;
    int convolutions;
  };
  // Crops, concatenations and pools; then strides, residual sums and norms.
  const Case cases[] = {{build_unet({}, false), {DType::kF32, {1, 572, 572, 1}}, 18},
                        {segmentation_graph(resnet_unet({3, 4, 6, 3}, 64, 2).network, false),
                         {DType::kF32, {1, 512, 512, 3}},
                         47}};
  for (const auto& [plain, image, count] : cases) {
    for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
      const Graph graph = optimise_for_cuda(plain, {&image, 1}, storage_of(precision));
      const std::vector<TensorType> types = infer_types(graph, {&image, 1});
      int convolutions = 0;
      for (const Node& node : graph.nodes) {
        const auto* op = std::get_if<Conv>(&node.op);
        if (op == nullptr) continue;
        ++convolutions;
        SCOPED_TRACE(fmt::format("{} in {}", node.name, name_of(precision)));
        std::vector<TensorView> inputs;
        for (const ValueId value : node.inputs) inputs.emplace_back(nullptr, types[value]);
        const CudnnConvGraph made = cudnn_graph(*cudnn, *op, inputs, {});
        int fair = 0;
        for (const CudnnEngine& engine : made.graph.engines()) {
          if (!engine.objection(precision).empty()) continue;
          if (++fair > 1) continue;
          EXPECT_NO_THROW(made.graph.plan(engine));
        }
        EXPECT_GT(fair, 0);
      }
      EXPECT_EQ(convolutions, count);
    }
  }
}

TEST(PeersWithoutGpu, CublasLtHasEveryFunction) {
  try {
    EXPECT_GT(CublasLt("").cublasLtGetVersion(), 120000u);
  } catch (const Error& error) {
    const std::string why = error.what();
    EXPECT_EQ(why.find("too old"), std::string::npos) << why;
    GTEST_SKIP() << why;
  }
}

}  // namespace
}  // namespace tessera::test
