// Every tile over every layer. Under a plain test run small networks are swept, so that the sweep
// itself is tested; with TESSERA_SWEEP=FILE (tools/gpu_suite.sh) the real ones are, and FILE is
// what the choice of a tile takes its rates from (tools/bench/table.py).
#include <cuda_runtime_api.h>
#include <fmt/chrono.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <map>
#include <set>

#include "engine/files/atomic_file.h"
#include "kernels/ops/conv/cuda.h"
#include "models/networks/han.h"
#include "models/networks/published_images.h"
#include "models/networks/unet.h"
#include "tests/support/cuda_check.h"
#include "tests/support/cuda_sweep.h"

namespace tessera::test {
namespace {

using CudaSweep = CudaTest;
using nlohmann::json;

struct Network {
  std::string name;
  std::function<std::vector<SweepLayer>(std::int64_t batch, Precision)> layers;
};

Network unet(const UNetConfig& config, std::int64_t side) {
  return {fmt::format("U-Net {}", side), [=](std::int64_t batch, Precision precision) {
            const std::vector<TensorType> inputs{{DType::kF32, {batch, side, side, 1}}};
            return layers_of(build_unet(config, false), inputs, precision);
          }};
}

Network han(const std::string& name, const HanConfig& config) {
  return {name, [=](std::int64_t batch, Precision precision) {
            const std::int64_t sentences = config.max_sentences, words = config.max_words;
            std::vector<TensorType> inputs{{DType::kI32, {batch, sentences, words}}};
            if (config.masked) {
              inputs.push_back({DType::kI32, {batch, sentences}});
              inputs.push_back({DType::kI32, {batch}});
            }
            return layers_of(build_han(config), inputs, precision);
          }};
}

Network resnet(std::int64_t side) {
  return {fmt::format("ResNet34-U-Net {}", side), [=](std::int64_t batch, Precision precision) {
            return resnet_unet_layers(batch, side, precision);
          }};
}

Network nnunet(const std::vector<int>& widths, std::int64_t side) {
  return {fmt::format("nnU-Net {}", side), [=](std::int64_t batch, Precision precision) {
            const std::vector<TensorType> inputs{{DType::kF32, {batch, side, side, 1}}};
            return layers_of(plain_nnunet(1, widths, 2).network.graph, inputs, precision);
          }};
}

// The paper's networks and the tutorial's.
std::vector<Network> networks() {
  HanConfig tutorial;
  tutorial.words = 20000;
  tutorial.cell = BiRnn::Cell::kLstm;
  tutorial.units = 150;
  tutorial.dense = tutorial.attention = 200;
  tutorial.masked = false;
  tutorial.classes = 30;
  HanConfig paper;
  paper.words = 20000;
  UNetConfig same;
  same.padding = UNetConfig::Padding::kSame;
  return {unet({}, 572),
          han("HAN of the tutorial", tutorial),
          han("HAN of the paper", paper),
          resnet(512),
          unet(same, 512),
          nnunet({32, 64, 128, 256, 512, 512, 512, 512}, 512)};
}

std::vector<Network> small_networks() {
  UNetConfig config;
  config.depth = 1;
  config.base = 16;
  HanConfig document;
  document.words = 50;
  document.features = 12;
  document.units = 16;
  document.attention = 16;
  document.max_sentences = 2;
  document.max_words = 3;
  return {unet(config, 20), han("HAN", document), resnet(16), nnunet({8, 16}, 8)};
}

TEST_F(CudaSweep, TriesEveryTileOfAnArithmeticAndComparesTheirBytes) {
  const SweepOptions options{.batches = 1, .batch_seconds = 0};
  for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
    for (const Network& network : small_networks()) {
      SCOPED_TRACE(fmt::format("{} in {}", network.name, name_of(precision)));
      std::vector<SweepLayer> layers = network.layers(1, precision);
      if (network.name.starts_with("ResNet")) layers.resize(1);  // the others are wider still
      std::vector<ConvTiming> timings;
      const json rows = sweep(layers, precision, options, timings);
      const auto convolutions = std::count_if(rows.begin(), rows.end(), [](const json& row) {
        return row["kind"] == "conv" && row["technique"] != "its own";
      });
      EXPECT_EQ(timings.size(), static_cast<std::size_t>(convolutions));
      for (const ConvTiming& timing : timings) {
        EXPECT_GT(timing.products, 0);
        EXPECT_GT(timing.seconds, 0);
      }
      std::map<std::string, std::set<std::string>> techniques;
      std::map<std::string, int> chosen;
      for (const json& row : rows) {
        EXPECT_TRUE(row["same_bytes"]) << row;
        EXPECT_GT(row["seconds"], 0) << row;
        const std::string layer = row["layer"], technique = row["technique"];
        EXPECT_TRUE(techniques[layer].insert(technique).second) << row;
        chosen[layer] += row["chosen"].get<bool>();
        EXPECT_EQ(row.contains("reason"), !row["chosen"].get<bool>() && row["kind"] == "conv")
            << row;
      }
      EXPECT_EQ(techniques.size(), layers.size());
      for (const auto& [layer, count] : chosen) EXPECT_EQ(count, 1) << layer;
      if (network.name.starts_with("ResNet")) {
        const bool wgmma = traits_of(CudaRun()).capability == 90 && has_conv_wgmma();
        for (const auto& [layer, names] : techniques)
          EXPECT_EQ(names.size(), precision != Precision::kBf16 ? 2u : wgmma ? 24u : 4u) << layer;
      }
    }
  }
}

TEST_F(CudaSweep, EndsWhenItsTimeIsUp) {
  int asked = 0;
  const SweepOptions options{
      .batches = 1, .batch_seconds = 0, .go_on = [&] { return ++asked <= 2; }};
  std::vector<ConvTiming> timings;
  const std::vector<SweepLayer> all = small_networks()[0].layers(1, Precision::kFp32);
  ASSERT_GT(all.size(), 2u);
  const json rows = sweep(all, Precision::kFp32, options, timings);
  std::set<std::string> layers;
  for (const json& row : rows) layers.insert(row["layer"].get<std::string>());
  EXPECT_EQ(layers.size(), 2u);
}

// Most important first, and written after each, so that what is known stays if time runs out.
TEST_F(CudaSweep, OfTheNetworks) {
  const char* path = std::getenv("TESSERA_SWEEP");
  if (path == nullptr) GTEST_SKIP() << "takes minutes: TESSERA_SWEEP=FILE asks for it";
  const char* limit = std::getenv("TESSERA_SWEEP_SECONDS");
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::duration<double>(limit != nullptr ? std::atof(limit) : 1e9);
  const auto time_is_left = [&] { return std::chrono::steady_clock::now() < end; };
  cudaDeviceProp properties{};
  ASSERT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
  json report = {{"kind", "sweep"},
                 {"gpu", properties.name},
                 {"multiprocessors", properties.multiProcessorCount},
                 {"date", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)))},
                 {"complete", false},
                 {"rows", json::array()}};
  // Tensor cores by bf16, f32 units by fp32.
  std::vector<ConvTiming> of_rates;
  const auto save = [&] {
    const ConvRates rates = fit_conv_rates(of_rates);
    for (const ConvTile tile : kConvTiles) {
      const ConvRate& rate = rates[static_cast<std::size_t>(tile)];
      report["conv_rates"][std::string(name_of(tile))] = {{"full", rate.full},
                                                          {"alone", rate.alone}};
    }
    AtomicFile file(path);
    file.stream() << report.dump(1) << "\n";
    file.commit();
  };
  for (const Precision precision :
       {Precision::kBf16, Precision::kTf32, Precision::kFp32, Precision::kFp16}) {
    for (const std::int64_t batch : {1, 8, 32}) {
      for (const Network& network : networks()) {
        if (!time_is_left()) return save();
        std::vector<ConvTiming> timings;
        const SweepOptions options{.go_on = time_is_left};
        for (json& row : sweep(network.layers(batch, precision), precision, options, timings)) {
          row["network"] = network.name;
          row["batch"] = batch;
          EXPECT_TRUE(row["same_bytes"]) << row;
          report["rows"].push_back(std::move(row));
        }
        if (precision == Precision::kBf16 || precision == Precision::kFp32)
          of_rates.insert(of_rates.end(), timings.begin(), timings.end());
        save();
      }
    }
  }
  report["complete"] = true;
  save();
}

}  // namespace
}  // namespace tessera::test
