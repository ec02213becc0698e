// ONNX's recurrent layers, GRU and LSTM: what a node says, and its weights in our order.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/train/float_tensor.h"
#include "kernels/ops/rnn/rnn.h"
#include "models/import/onnx_constant.h"

namespace tessera {

struct OnnxRecurrence {
  BiRnn op;  // not masked
  std::int64_t gates = 0, units = 0, features = 0;
  std::vector<bool> reverse;  // by direction of the file
  bool batch_first = false;

  std::int64_t rows() const { return gates * units; }
};

inline bool is_onnx_recurrence(const OnnxNode& node) {
  return node.op == "GRU" || node.op == "LSTM";
}

// `w` (directions, gates units, features) and `r` (directions, gates units, units) are its second
// and third input. Throws Error for what our layers do not compute.
OnnxRecurrence describe_recurrence(const OnnxNode& node, const OnnxConstant& w,
                                   const OnnxConstant& r);

// The weights of direction `direction` of the file under our names with `suffix` behind them:
// "weight_ih", "weight_hh", "bias_ih", "bias_hh". `b` may be null.
std::map<std::string, FloatTensor> recurrence_weights(const OnnxRecurrence& layer,
                                                      std::size_t direction,
                                                      const std::string& suffix,
                                                      const OnnxConstant& w, const OnnxConstant& r,
                                                      const OnnxConstant* b);

}  // namespace tessera
