// The time of every technique that gives the bytes of the chosen one, for every layer of a network.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/device/device.h"
#include "engine/graph/graph.h"
#include "kernels/ops/conv/cuda.h"

namespace tessera::test {

struct SweepLayer {
  std::string name;
  Op op;
  std::vector<TensorType> inputs;
};

// The layers of a graph as a GPU runs it in this precision.
std::vector<SweepLayer> layers_of(const Graph& graph, Types inputs, Precision precision);

// The 3x3 convolutions with stride 1 of a U-Net with a ResNet-34 as its encoder, `side` x `side`.
std::vector<SweepLayer> resnet_unet_layers(std::int64_t batch, std::int64_t side,
                                           Precision precision);

struct SweepOptions {
  int batches = 5;                // of runs in a row; their median counts
  double batch_seconds = 0.5e-3;  // of a batch, about
  std::function<bool()> go_on = [] { return true; };
};

// One object for each layer and technique:
//   layer, kind, precision, input and output (shapes of the first)
//   technique, chosen; reason, if there is one against it
//   seconds, flops, bytes
//   same_bytes: whether the last image or document of its outputs is that of the first technique
// Layers that `go_on` leaves no time for are missing. Convolutions are added to `timings` too.
nlohmann::json sweep(const std::vector<SweepLayer>& layers, Precision precision,
                     const SweepOptions& options, std::vector<ConvTiming>& timings);

}  // namespace tessera::test
