// Rewrites of a graph before it runs: pure functions, one file each in engine/passes/. Each keeps
// the answer (to rounding) and the names of weights. What does not fit its pattern it leaves alone.
#pragma once

#include "engine/graph/graph.h"

namespace tessera {

// Dropout is the identity at inference.
Graph remove_dropout(const Graph& graph);

// Conv -> [BatchNorm] -> [ReLU] -> [BatchNorm], and ConvTranspose -> ReLU, become one node each.
Graph fuse_activation(const Graph& graph);

// Conv -> ReLU and ConvTranspose -> ReLU alone: what training leaves to fuse, because a norm there
// is a node of its own.
Graph fuse_relu(const Graph& graph);

// A CropConcat that one 3x3 or 1x1 convolution alone reads is read in place by it.
Graph fuse_concat(const Graph& graph);

// A Concat of two maps along the channels becomes a CropConcat, which convolutions read in place.
Graph join_concats(const Graph& graph, Types types);

// A sum with another map of the same size, and an activation, that alone read what a convolution or
// a group norm makes, become its epilogue. A sum of two of them is made by the later one.
Graph fuse_epilogue(const Graph& graph, Types types);

// 3x3 convolutions with at least kWinogradChannels channels on both sides use Winograd's algorithm.
// Depends on channel counts alone, so `types` may be those of any size that runs.
Graph select_winograd(const Graph& graph, Types types);
inline constexpr int kWinogradChannels = 16;

// A max-pool of a convolution's output becomes its second output: the pixels to pool are in
// registers or L2 there, so a pass over the map is saved.
Graph fuse_pool(const Graph& graph);

// 1x1 Conv -> Softmax or Sigmoid -> Argmax becomes Head.
Graph fuse_head(const Graph& graph);

// An Embedding that one BiRnn alone reads becomes part of it.
Graph fuse_embedding(const Graph& graph);

// A Linear that one Attention alone reads becomes part of it, unless it has fewer units than the
// attention: then W (D x) may take less work than (W D) x.
Graph fuse_dense(const Graph& graph);

// Activations of the image operators are stored as `dtype` (f32, bf16 or f16); sums stay f32.
Graph set_precision(const Graph& graph, DType dtype);

// Drops nodes whose outputs nobody reads.
Graph remove_unused(const Graph& graph);

// How the CPU executor wants a graph: all of the above, in order. With `winograd` false every
// convolution is direct. `types` are input types of any size that runs.
Graph optimise_for_cpu(const Graph& graph, Types types, DType precision, bool winograd = true);

// The graph whose gradients are wanted: it ends with the logits, which the loss reads.
Graph training_graph(const Graph& graph);

// How a training run on the CPU, or on a GPU, wants such a graph. There the maps of images are
// stored as `precision`, the logits as f32.
Graph optimise_training_for_cpu(const Graph& graph, Types types);
Graph optimise_training_for_cuda(const Graph& graph, DType precision);

// How the CUDA executor wants a graph: the same without Winograd's convolutions.
Graph optimise_for_cuda(const Graph& graph, Types types, DType precision);

}  // namespace tessera
