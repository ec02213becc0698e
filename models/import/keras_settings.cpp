#include "models/import/keras_settings.h"

#include <cmath>
#include <limits>
#include <map>

#include "engine/files/json_fields.h"
#include "engine/files/safetensors.h"
#include "kernels/error.h"

namespace tessera {
namespace {

using Json = nlohmann::json;
using ActivationKind = Activation::Kind;

// Null where it is absent or null.
const Json* setting(const Json& config, const char* key) {
  if (!config.is_object()) return nullptr;
  const auto found = config.find(key);
  return found == config.end() || found->is_null() ? nullptr : &*found;
}

int int_of(const Json& value, const char* key, int least, int most) {
  require(value.is_number_integer() && value.get<double>() >= least && value.get<double>() <= most,
          "its {} is {}, expected a whole number from {} to {}", key, JsonFields::shown(value),
          least, most);
  return value.get<int>();
}

double number_of(const Json& value, const char* key) {
  require(value.is_number() && std::abs(value.get<double>()) <= std::numeric_limits<float>::max(),
          "its {} is {}, expected a number", key, JsonFields::shown(value));
  return value.get<double>();
}

void collect_numbers(const Json& value, const char* key, std::size_t most,
                     std::vector<float>& into) {
  if (value.is_object() && value.contains("config"))  // a numpy array, as Keras 3 writes it
    return collect_numbers(value.at("config"), key, most, into);
  if (value.is_object() && value.contains("value"))
    return collect_numbers(value.at("value"), key, most, into);
  if (value.is_array()) {
    for (const Json& item : value) collect_numbers(item, key, most, into);
    return;
  }
  require(into.size() < most, "its {} has more than {} numbers", key, most);
  into.push_back(static_cast<float>(number_of(value, key)));
}

}  // namespace

std::string keras_text(const Json& config, const char* key, const std::string& value) {
  const Json* found = setting(config, key);
  return found != nullptr && found->is_string() ? found->get<std::string>() : value;
}

bool keras_flag(const Json& config, const char* key, bool value) {
  const Json* found = setting(config, key);
  if (found == nullptr) return value;
  require(found->is_boolean(), "its {} is {}, expected true or false", key,
          JsonFields::shown(*found));
  return found->get<bool>();
}

int keras_int(const Json& config, const char* key, int value, int least, int most) {
  const Json* found = setting(config, key);
  return found == nullptr ? value : int_of(*found, key, least, most);
}

double keras_number(const Json& config, const char* key, double value) {
  const Json* found = setting(config, key);
  return found == nullptr ? value : number_of(*found, key);
}

std::vector<float> keras_numbers(const Json& config, const char* key, float value,
                                 std::size_t count) {
  const Json* found = setting(config, key);
  if (found == nullptr) return std::vector<float>(count, value);
  std::vector<float> numbers;
  collect_numbers(*found, key, count, numbers);
  if (numbers.size() == 1) numbers.assign(count, numbers[0]);
  require(numbers.size() == count, "its {} has {} numbers, expected {}", key, numbers.size(),
          count);
  return numbers;
}

std::array<int, 2> keras_pair(const Json& config, const char* key,
                              const std::array<int, 2>& value) {
  constexpr int kMost = 1 << 12;
  const Json* found = setting(config, key);
  if (found == nullptr) return value;
  if (!found->is_array()) {
    const int both = int_of(*found, key, 1, kMost);
    return {both, both};
  }
  require(found->size() == 2, "its {} has {} numbers, expected 2", key, found->size());
  return {int_of((*found)[0], key, 1, kMost), int_of((*found)[1], key, 1, kMost)};
}

std::array<int, 4> keras_borders(const Json& config, const char* key) {
  constexpr int kMost = 1 << 16;
  const Json* found = setting(config, key);
  require(found != nullptr, "its {} is missing", key);
  if (!found->is_array()) {
    const int all = int_of(*found, key, 0, kMost);
    return {all, all, all, all};
  }
  require(found->size() == 2, "its {} has {} entries, expected 2", key, found->size());
  std::array<int, 4> borders{};
  for (const std::size_t axis : {0u, 1u}) {
    const Json& one = (*found)[axis];
    require(!one.is_array() || one.size() == 2, "its {} has {} entries, expected 2", key,
            one.size());
    for (const std::size_t side : {0u, 1u})
      borders[2 * axis + side] = int_of(one.is_array() ? one[side] : one, key, 0, kMost);
  }
  return borders;
}

const Json& keras_input_shape(const Json& config) {
  static const Json none;
  for (const char* key : {"batch_shape", "batch_input_shape"}) {
    if (const Json* shape = setting(config, key)) return *shape;
  }
  return none;
}

KerasActivation keras_activation(const Json& config, int version, const char* key) {
  const Json* value = setting(config, key);
  if (value == nullptr) return {.is_linear = true, .is_softmax = false};
  if (value->is_object()) {
    const std::string type = keras_text(*value, "class_name", "");
    const Json* inner = setting(*value, "config");
    if (type == "function" && inner != nullptr && inner->is_string())
      return keras_activation(*value, version, "config");
    return keras_activation_layer(type, inner == nullptr ? Json::object() : *inner);
  }
  const std::string name = value->is_string() ? value->get<std::string>() : value->dump();
  // Keras 3's hard_sigmoid is relu6(x + 3) / 6, Keras 2's clip(0.2 x + 0.5).
  constexpr double kGain2 = 0.2, kGain3 = 1.0 / 6;
  constexpr double kSlope = 0.2;  // of the function, not of the layer LeakyReLU
  const std::map<std::string, Activation> known{
      {"relu", {.kind = ActivationKind::kRelu}},
      {"relu6", {.kind = ActivationKind::kClip, .min = 0, .max = 6}},
      {"sigmoid", {.kind = ActivationKind::kSigmoid}},
      {"tanh", {.kind = ActivationKind::kTanh}},
      {"elu", {.kind = ActivationKind::kElu}},
      {"selu", {.kind = ActivationKind::kSelu}},
      {"swish", {.kind = ActivationKind::kSilu}},
      {"silu", {.kind = ActivationKind::kSilu}},
      {"gelu", {.kind = ActivationKind::kGelu}},
      {"softplus", {.kind = ActivationKind::kSoftplus}},
      {"leaky_relu", {.kind = ActivationKind::kLeakyRelu, .slope = kSlope}},
      {"hard_silu", {.kind = ActivationKind::kHardSwish}},
      {"hard_swish", {.kind = ActivationKind::kHardSwish}},
      {"hard_sigmoid",
       {.kind = ActivationKind::kHardSigmoid, .gain = version >= 3 ? kGain3 : kGain2}}};
  if (name == "linear") return {.is_linear = true, .is_softmax = false};
  if (name == "softmax") return {.is_linear = false, .is_softmax = true};
  const auto found = known.find(name);
  require(found != known.end(), "its activation {} is none that Tessera has; export it as ONNX",
          in_quotes(name));
  return {false, false, found->second};
}

KerasActivation keras_activation_layer(const std::string& type, const Json& config) {
  constexpr double kLeakySlope = 0.3;  // Keras' default
  if (type == "Softmax") return {.is_linear = false, .is_softmax = true};
  if (type == "ELU")
    return {
        false, false, {.kind = ActivationKind::kElu, .alpha = keras_number(config, "alpha", 1)}};
  if (type == "LeakyReLU") {
    const double slope = keras_number(config, "alpha", kLeakySlope);
    return {false,
            false,
            {.kind = ActivationKind::kLeakyRelu,
             .slope = keras_number(config, "negative_slope", slope)}};
  }
  require(type == "ReLU", "its activation is a layer {}; expected ReLU, LeakyReLU, ELU or Softmax",
          in_quotes(type));
  const double slope = keras_number(config, "negative_slope", 0);
  constexpr double kNone = -1;
  const double most = keras_number(config, "max_value", kNone);
  require(keras_number(config, "threshold", 0) == 0 && (slope == 0 || most == kNone),
          "it has a threshold, or both a slope and a largest value; export the model as ONNX");
  if (most != kNone) return {false, false, {.kind = ActivationKind::kClip, .min = 0, .max = most}};
  if (slope != 0) return {false, false, {.kind = ActivationKind::kLeakyRelu, .slope = slope}};
  return {false, false, {.kind = ActivationKind::kRelu}};
}

}  // namespace tessera
