// The nodes of a network beside cuDNN and cuBLASLt, in our own process, on the same memory: what
// `bench --against cudnn` prints, and a third oracle of the GPU tests. No part of the engine: both
// libraries are opened at run time (library.h).
//
//   a convolution     cuDNN's graph API: convolution, bias, norm, residual and ReLU as one graph,
//                     by the fastest of the engines that its heuristics name
//   a recurrent layer cuDNN's RNN (v8), true lengths, the fastest of its algorithms
//   linear, and a transposed convolution of 2 x 2 (a product of matrices, in front of the shuffle
//   of pixels)        cuBLASLt with bias and ReLU in its epilogue, the fastest of its algorithms
//
// What a peer leaves out (a pool, the joining of two maps, a look-up of words) is in the row's
// note; it favours the peer. No header of CUDA's is needed to include this one.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/graph/graph.h"
#include "kernels/precision.h"

namespace tessera {

// One of the peer's ways to compute a node: an engine or an algorithm.
struct PeerWay {
  std::string name;
  double seconds = 0;   // of a short trial
  std::string refused;  // why it was not tried, or what it said when it was
};

struct PeerRow {
  std::string node, kind;
  Cost cost;
  double seconds = 0;  // ours, the median of batches of runs
  std::string peer;    // "cuDNN 9.19.0"; empty: it has none
  double peer_seconds = 0;
  std::vector<PeerWay> tried;
  std::string way;                // the fastest, by name
  double largest_difference = 0;  // between the two answers
  double largest_value = 0;       // of the peer's answer: what the difference is to be held against
  std::string note;               // what the peer leaves out, or why there is none
};

struct PeerOptions {
  std::string folders;          // "A:B" to look for the libraries in; empty: the usual ones
  double trial_seconds = 1;     // for the ways of one node, of which the first is tried in any case
  double batch_seconds = 2e-3;  // of runs in a row, about; a median is of five such batches
};

class Peers {
 public:
  // On the GPU that is current. Throws Error, with the package's name, where a library is missing.
  Peers(Precision precision, const PeerOptions& options);
  ~Peers();

  std::vector<std::string> names() const;  // of the libraries, with their versions and places

  // Runs a node of the optimised graph on made-up inputs. `weights` are in `parameters` order.
  PeerRow compare(const Node& node, Types inputs, std::span<const TensorView> weights);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tessera
