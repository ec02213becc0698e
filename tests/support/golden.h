// Expected results that PyTorch computed, as tools/golden/make_operator_goldens.py and
// make_backward_goldens.py wrote them.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/operator_check.h"

namespace tessera::test {

// One run of one operator. Outputs are correct to half a unit in the last place of f32.
struct GoldenCase {
  std::string name;
  nlohmann::json attributes;  // of the operator, under their C++ names
  std::vector<Tensor> inputs;
  std::map<std::string, Tensor> weights;  // by parameter name
  std::vector<Tensor> outputs;
  // Of a run in training.
  std::vector<Tensor> output_gradients, input_gradients;
  std::map<std::string, Tensor> weight_gradients, weights_after;
};

// The cases of tests/golden/<folder>/<op>.safetensors: "operators" or "backward".
std::vector<GoldenCase> load_goldens(std::string_view op, std::string_view folder = "operators");

// A tensor's own copy in guarded memory.
Tensor copy_of(const TensorView& view);

}  // namespace tessera::test
