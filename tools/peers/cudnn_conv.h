// A convolution with its epilogue as one graph of cuDNN's, before it has memory.
#pragma once

#include <functional>
#include <vector>

#include "kernels/ops/conv/conv.h"
#include "tools/peers/cudnn.h"

namespace tessera {

struct CudnnConvGraph {
  // One tensor of `graph.stored()` but the last, which is y.
  struct Operand {
    DType type;
    std::function<std::vector<float>()> values;  // made when they are asked for
  };

  CudnnGraph graph;  // finished
  TensorType y;      // (n, h, w, c)
  std::vector<Operand> operands;
  std::vector<std::string> notes;  // what differs from the node
};

// `inputs` and `weights` (f32, in `parameters` order) are read when values are asked for. Throws
// Error, with the reason, where cuDNN has no such graph.
CudnnConvGraph cudnn_graph(const Cudnn& cudnn, const Conv& op, std::span<const TensorView> inputs,
                           std::span<const TensorView> weights);

}  // namespace tessera
