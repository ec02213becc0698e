// The settings of a Keras layer, out of its description: each checked, each with Keras' default.
#pragma once

#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/ops/activation/activation.h"

namespace tessera {

std::string keras_text(const nlohmann::json& config, const char* key, const std::string& value);
bool keras_flag(const nlohmann::json& config, const char* key, bool value);
int keras_int(const nlohmann::json& config, const char* key, int value, int least, int most);
double keras_number(const nlohmann::json& config, const char* key, double value);
// One number for all, or `count` of them, however deep they nest.
std::vector<float> keras_numbers(const nlohmann::json& config, const char* key, float value,
                                 std::size_t count);
// Rows and columns, each from 1: a list of two, or a number for both.
std::array<int, 2> keras_pair(const nlohmann::json& config, const char* key,
                              const std::array<int, 2>& value);
// ((top, bottom), (left, right)), (rows, columns) or a number for all: top, bottom, left, right.
std::array<int, 4> keras_borders(const nlohmann::json& config, const char* key);
// (batch, ...) of an InputLayer; null where it is not said.
const nlohmann::json& keras_input_shape(const nlohmann::json& config);

struct KerasActivation {
  bool is_linear = false;
  bool is_softmax = false;
  Activation op = {};
};
// The activation of a layer, by name or as a layer of its own. Throws Error for those that Tessera
// lacks. The numbers of some changed with Keras' version.
KerasActivation keras_activation(const nlohmann::json& config, int version,
                                 const char* key = "activation");
// Of a layer that is nothing else: ReLU, LeakyReLU, ELU, Softmax.
KerasActivation keras_activation_layer(const std::string& type, const nlohmann::json& config);

}  // namespace tessera
