// The writer of a PyTorch module: torch_module.cpp puts its two halves together, torch_layers.cpp
// writes the lines of each operator.
#pragma once

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "models/export/layouts.h"
#include "models/networks/torch_names.h"

namespace tessera {

// Writes the layers of the module, and the lines of its forward.
class TorchModuleWriter {
 public:
  TorchModuleWriter(const ExportedNetwork& network,
                    const std::map<const Node*, TorchModule>& modules)
      : network_(network),
        modules_(modules),
        layouts_([this](const std::string& value, std::array<int, 4> order) {
          return line(value + (order[1] == 3 ? "_nchw" : "_nhwc"),
                      fmt::format("{}.permute{}", value, tuple_of(order)));
        }) {}

  std::string write(const std::string& config, const std::string& weights);

 private:
  // Python's literals.
  static std::string text_of(double value) {
    const std::string text = fmt::format("{}", value);
    return text.find_first_of(".en") == std::string::npos ? text + ".0" : text;
  }
  static std::string text_of(bool value) { return value ? "True" : "False"; }
  static std::string text_of(const std::string& value) {
    // JSON's escapes are Python's, as long as all of it is ASCII.
    return nlohmann::json(value).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  }
  template <class Numbers>
  static std::string tuple_of(const Numbers& numbers) {
    return fmt::format("({}{})", fmt::join(numbers, ", "), std::size(numbers) == 1 ? "," : "");
  }
  // One number where both are equal.
  static std::string pair_of(const std::array<int, 2>& pair) {
    return pair[0] == pair[1] ? std::to_string(pair[0]) : tuple_of(pair);
  }

  const TensorType& type(std::size_t input) const { return network_.types[node_->inputs[input]]; }
  int rank(std::size_t input) const { return type(input).shape.rank(); }
  std::int64_t channels(std::size_t input) const { return type(input).shape[-1]; }
  Layout layout(std::size_t input) const { return layouts_.of(node_->inputs[input]); }
  const std::string& input(std::size_t i, Layout layout) {
    return layouts_.name(node_->inputs[i], layout);
  }
  const std::string& image(std::size_t i) { return input(i, Layout::kChannelsFirst); }
  const std::string& ours(std::size_t i) { return input(i, Layout::kOurs); }
  Layout common_layout() const;

  // A name of Python's that no other variable has.
  std::string variable(const std::string& wanted);
  // A line of forward; returns the variable that it sets.
  std::string line(const std::string& wanted, const std::string& expression);
  void set(const std::string& expression, Layout layout, std::size_t output = 0);
  void set_image(const std::string& expression) { set(expression, Layout::kChannelsFirst); }
  void set_ours(const std::string& expression) { set(expression, Layout::kOurs); }

  // The node's module, made where it is not yet there.
  std::string layer(const std::string& expression);
  void use(std::string_view helper) { used_.insert(helper); }

  // `x` with the window's pads around it, where torch.nn cannot: zeros, or `value`.
  std::string padded(std::string x, Window& window, const std::string& value = "0");
  static bool is_even(const Window& w) {
    return w.pads[0] == w.pads[1] && w.pads[2] == w.pads[3] && w.pads[0] >= 0 && w.pads[2] >= 0;
  }

  // ---- windows

  void write(const Conv& op);
  static std::string options(const Window& w, int groups);
  void write(const ConvTranspose& op);
  void write(const MaxPool& op);
  static bool fits_pool(const Window& w);
  void write(const AvgPool& op);

  // ---- element by element

  void write(const Activation& op);
  std::string activated(const Activation& op, const std::string& x, Layout as);
  void write(const Binary& op);
  void write(const Dropout& op);

  // ---- norms

  // What `form` makes of x with its channels second.
  void set_channels_second(const std::string& form);
  void write(const BatchNorm& op);
  void write(const GroupNorm& op);
  void write(const LayerNorm& op);

  // ---- sizes

  void write(const Upsample& op);
  void write(const Resize& op);
  void write(const CropConcat& op);
  void write(const Concat& op);
  void write(const Pad& op);
  void write(const Slice& op);
  void write(const Reshape& op);
  void write(const Transpose& op);
  void write(const Reduce& op);

  // ---- classes

  std::string class_ids(const std::string& x, int axis, std::int64_t classes) const;
  void write(const Argmax&);
  void write(const Softmax&);
  void write(const Head& op);

  // ---- documents

  void write(const Embedding& op);
  void write(const Linear& op);
  std::string lengths(bool masked) { return masked ? ", " + ours(1) : ""; }
  void write(const BiRnn& op);
  void write(const Attention& op);

  const ExportedNetwork& network_;
  const std::map<const Node*, TorchModule>& modules_;
  Layouts layouts_;
  const Node* node_ = nullptr;
  std::string layers_, lines_;
  std::set<std::string, std::less<>> variables_{
      "torch",   "nn",       "F",     "math",   "self",  "at",      "CONFIG", "and",    "as",
      "assert",  "break",    "class", "def",    "del",   "elif",    "else",   "except", "False",
      "finally", "for",      "from",  "global", "if",    "import",  "in",     "is",     "lambda",
      "None",    "nonlocal", "not",   "or",     "pass",  "raise",   "return", "True",   "try",
      "while",   "with",     "yield", "async",  "await", "continue"};
  std::set<std::string> paths_;
  std::set<std::string_view> used_;
};

}  // namespace tessera
