// An ONNX network computed on given inputs, node by node in double, and which of its values depend
// on them.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "models/import/onnx_constant.h"

namespace tessera {

struct OnnxTraced {
  OnnxConstantPtr constant;
  // How many recurrent layers lie between the inputs and it; -1: it depends on no input, other than
  // on their shapes.
  int level = -1;

  bool is_fixed() const { return level < 0; }
};

class OnnxTrace {
 public:
  // Hears of each node in the order in which they run, once its outputs are known.
  using See = std::function<void(const OnnxTrace& trace, const OnnxNode& node)>;

  // `model` must outlive it. What cannot be computed is told by errors(): all at once.
  OnnxTrace(const OnnxModel& model, const std::map<std::string, OnnxConstantPtr>& inputs,
            const See& see = {});

  const std::vector<std::string>& errors() const { return errors_; }
  // Null where it could not be computed.
  const OnnxTraced* find(const std::string& name) const;

 private:
  void compute_node(const OnnxNode& node, std::int64_t opset, const See& see);

  std::map<std::string, OnnxTraced> values_;
  std::vector<std::string> errors_;
  std::int64_t work_, room_;  // multiplications and elements that may still be made
};

}  // namespace tessera
