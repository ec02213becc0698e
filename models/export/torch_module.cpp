#include "models/export/torch_module.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <set>

#include "engine/graph/node_checks.h"
#include "kernels/error.h"
#include "models/export/torch_helpers.h"

namespace tessera {
namespace {

using fmt::format;

// Python's literals.
std::string text_of(double value) {
  const std::string text = format("{}", value);
  return text.find_first_of(".en") == std::string::npos ? text + ".0" : text;
}
std::string text_of(bool value) {
  return value ? "True" : "False";
}
std::string text_of(const std::string& value) {
  // JSON's escapes are Python's, as long as all of it is ASCII.
  return nlohmann::json(value).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}
template <class Numbers>
std::string tuple_of(const Numbers& numbers) {
  return format("({}{})", fmt::join(numbers, ", "), std::size(numbers) == 1 ? "," : "");
}
// One number where both are equal.
std::string pair_of(const std::array<int, 2>& pair) {
  return pair[0] == pair[1] ? std::to_string(pair[0]) : tuple_of(pair);
}

// Writes the two halves of the module: its layers, and the lines of forward.
class ModuleWriter {
 public:
  ModuleWriter(const ExportedNetwork& network, const std::map<const Node*, TorchModule>& modules)
      : network_(network),
        modules_(modules),
        layouts_([this](const std::string& value, std::array<int, 4> order) {
          return line(value + (order[1] == 3 ? "_nchw" : "_nhwc"),
                      format("{}.permute{}", value, tuple_of(order)));
        }) {}

  std::string write(const std::string& config, const std::string& weights) {
    std::vector<std::string> arguments, answers, names;
    for (const ExportedNetwork::End& input : network_.inputs) {
      arguments.push_back(variable(input.name));
      layouts_.set(input.value, arguments.back(), input.layout);
    }
    for (const Node& node : network_.graph.nodes) {
      node_ = &node;
      named(node, [&] { std::visit([&](const auto& op) { write(op); }, node.op); });
    }
    for (const ExportedNetwork::End& output : network_.outputs) {
      names.push_back(output.name);
      answers.push_back(
          format("{}: {}", text_of(output.name), layouts_.name(output.value, output.layout)));
    }
    std::string helpers;
    for (const TorchHelper& helper : kTorchHelpers)
      if (used_.contains(helper.name)) helpers += format("\n\n{}", helper.source);
    const std::string module = std::filesystem::path(weights).stem().string();
    return format(
        R"("""A network that was exported from Tessera.

    network = Network()
    network.load_state_dict(torch.load({weights}, weights_only=True))
    answers = network.eval()({arguments})  # by name: {names}

Maps are (n, c, h, w). CONFIG says how images or texts are prepared, and what the classes are; a state
dict of this module carries it, so that `tessera import` reads it back, trained further or not.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

CONFIG = {config}
{helpers}

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        object.__setattr__(self, "at", {{}})
{layers}
    def put(self, path, layer):
        """Makes `layer` the module of a dotted name."""
        parent, (*above, name) = self, path.split(".")
        for part in above:
            parent = parent._modules.setdefault(part, nn.Module())
        if name in parent._modules:
            layer._modules.update(parent._modules[name]._modules)
        parent._modules[name] = self.at[path] = layer

    def get_extra_state(self):
        return CONFIG

    def set_extra_state(self, state):
        pass

    def forward(self, {arguments}):
        at = self.at
{lines}        return {{{answers}}}
)",
        fmt::arg("weights", text_of(weights)), fmt::arg("arguments", fmt::join(arguments, ", ")),
        fmt::arg("names", fmt::join(names, ", ")), fmt::arg("config", text_of(config)),
        fmt::arg("helpers", helpers), fmt::arg("layers", layers_), fmt::arg("lines", lines_),
        fmt::arg("answers", fmt::join(answers, ", ")));
  }

 private:
  const TensorType& type(std::size_t input) const { return network_.types[node_->inputs[input]]; }
  int rank(std::size_t input) const { return type(input).shape.rank(); }
  std::int64_t channels(std::size_t input) const { return type(input).shape[-1]; }
  Layout layout(std::size_t input) const { return layouts_.of(node_->inputs[input]); }
  const std::string& input(std::size_t i, Layout layout) {
    return layouts_.name(node_->inputs[i], layout);
  }
  const std::string& image(std::size_t i) { return input(i, Layout::kChannelsFirst); }
  const std::string& ours(std::size_t i) { return input(i, Layout::kOurs); }
  Layout common_layout() const {
    for (std::size_t i = 0; i < node_->inputs.size(); ++i)
      if (rank(i) == 4) return layout(i);
    return Layout::kOurs;
  }

  // A name of Python's that no other variable has.
  std::string variable(const std::string& wanted) {
    std::string plain;
    for (const char c : wanted) plain += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
    if (plain.empty() || std::isdigit(static_cast<unsigned char>(plain[0])) != 0)
      plain = "x" + plain;
    std::string name = plain;
    for (int copy = 2; !variables_.insert(name).second; ++copy) name = format("{}_{}", plain, copy);
    return name;
  }
  // A line of forward; returns the variable that it sets.
  std::string line(const std::string& wanted, const std::string& expression) {
    const std::string name = variable(wanted);
    lines_ += format("        {} = {}\n", name, expression);
    return name;
  }
  void set(const std::string& expression, Layout layout, std::size_t output = 0) {
    layouts_.set(node_->outputs[output], line(node_->name, expression), layout);
  }
  void set_image(const std::string& expression) { set(expression, Layout::kChannelsFirst); }
  void set_ours(const std::string& expression) { set(expression, Layout::kOurs); }

  // The node's module, made where it is not yet there.
  std::string layer(const std::string& expression) {
    const std::string& path = modules_.at(node_).path;
    if (paths_.insert(path).second)
      layers_ += format("        self.put({}, {})\n", text_of(path), expression);
    return format("at[{}]", text_of(path));
  }
  void use(std::string_view helper) { used_.insert(helper); }

  // `x` with the window's pads around it, where torch.nn cannot: zeros, or `value`.
  std::string padded(std::string x, Window& window, const std::string& value = "0") {
    const auto& p = window.pads;
    const std::array pads{p[2], p[3], p[0], p[1]};
    window.pads = {0, 0, 0, 0};
    return format("F.pad({}, {}, value={})", x, tuple_of(pads), value);
  }
  static bool is_even(const Window& w) {
    return w.pads[0] == w.pads[1] && w.pads[2] == w.pads[3] && w.pads[0] >= 0 && w.pads[2] >= 0;
  }

  // ---- windows

  void write(const Conv& op) {
    require(!op.relu && op.norm == Conv::Norm::kNone && !op.concat && !op.pool, "it is fused");
    Window window = op.window;
    std::string x = image(0);
    if (!is_even(window)) x = padded(x, window);
    set_image(
        format("{}({})",
               layer(format("nn.Conv2d({}, {}, {}{}, bias={})", channels(0), op.c_out,
                            pair_of(window.kernel), options(window, op.groups), text_of(op.bias))),
               x));
  }
  static std::string options(const Window& w, int groups) {
    std::string text;
    if (w.stride != std::array{1, 1}) text += ", stride=" + pair_of(w.stride);
    if (w.pads != std::array{0, 0, 0, 0}) text += ", padding=" + pair_of({w.pads[0], w.pads[2]});
    if (w.dilation != std::array{1, 1}) text += ", dilation=" + pair_of(w.dilation);
    if (groups != 1) text += format(", groups={}", groups);
    return text;
  }

  void write(const ConvTranspose& op) {
    require(!op.relu, "it is fused");
    Window window = window_of(op);
    std::array<int, 2> more{};
    bool fits = true;
    for (const std::size_t axis : {0u, 1u}) {
      more[axis] = window.before(axis) - window.behind(axis);
      fits = fits && window.before(axis) >= 0 && more[axis] >= 0 &&
             more[axis] < std::max(window.stride[axis], window.dilation[axis]);
    }
    const Window given = window;
    if (!fits) window.pads = {0, 0, 0, 0}, more = {0, 0};
    std::string text = options(window, op.groups);
    if (more != std::array{0, 0}) text += ", output_padding=" + pair_of(more);
    const std::string module =
        layer(format("nn.ConvTranspose2d({}, {}, {}{}, bias={})", channels(0), op.c_out,
                     pair_of(window.kernel), text, text_of(op.bias)));
    if (fits) return set_image(format("{}({})", module, image(0)));
    // What is added holds the bias, which comes last.
    const std::string whole = line(
        node_->name + "_whole",
        format("F.conv_transpose2d({}, {}.weight, stride={}, groups={}, dilation={})", image(0),
               module, tuple_of(window.stride), op.groups, tuple_of(window.dilation)));
    const auto& p = given.pads;
    set_image(format("F.pad({}, {}){}", whole, tuple_of(std::array{-p[2], -p[3], -p[0], -p[1]}),
                     op.bias ? format(" + {}.bias[:, None, None]", module) : ""));
  }

  void write(const MaxPool& op) {
    Window window = op.window;
    std::string x = image(0);
    if (!fits_pool(window)) {
      require(!op.ceil_mode, "PyTorch rounds up with equal pads alone");
      x = padded(x, window, "-torch.inf");
    }
    set_image(format("F.max_pool2d({}, {}, {}, {}, {}, {})", x, tuple_of(window.kernel),
                     tuple_of(window.stride), tuple_of(std::array{window.pads[0], window.pads[2]}),
                     tuple_of(window.dilation), text_of(op.ceil_mode)));
  }
  static bool fits_pool(const Window& w) {
    return is_even(w) && 2 * w.pads[0] <= w.kernel[0] && 2 * w.pads[2] <= w.kernel[1];
  }

  void write(const AvgPool& op) {
    require(op.window.dilation == std::array{1, 1}, "PyTorch averages neighbouring pixels alone");
    Window window = op.window;
    const bool fits = fits_pool(window);
    const std::array pads{fits ? window.pads[0] : 0, fits ? window.pads[2] : 0};
    const auto pool = [&](const std::string& x) {
      return format("F.avg_pool2d({}, {}, {}, {}, {}, {})", x, tuple_of(window.kernel),
                    tuple_of(window.stride), tuple_of(pads), text_of(op.ceil_mode),
                    text_of(op.count_include_pad));
    };
    if (fits) return set_image(pool(image(0)));
    require(!op.ceil_mode, "PyTorch rounds up with equal pads alone");
    const std::string x = image(0);
    Window again = window;
    std::string text = pool(padded(x, window));
    if (!op.count_include_pad)
      text += " / " + pool(padded(format("torch.ones_like({})", x), again));
    set_image(text);
  }

  // ---- element by element

  void write(const Activation& op) {
    const Layout as = layout(0);
    const std::string x = input(0, as);
    set(activated(op, x, as), as);
  }
  std::string activated(const Activation& op, const std::string& x, Layout as) {
    using Kind = Activation::Kind;
    switch (op.kind) {
      case Kind::kRelu:
        return format("F.relu({})", x);
      case Kind::kSigmoid:
        return format("{}.sigmoid()", x);
      case Kind::kLeakyRelu:
        return format("F.leaky_relu({}, {})", x, text_of(op.slope));
      case Kind::kPrelu: {
        const std::string module = layer(format("nn.PReLU({})", op.per_channel ? channels(0) : 1));
        if (as == Layout::kChannelsFirst) return format("{}({})", module, x);
        return format("torch.where({0} < 0, {0} * {1}.weight, {0})", x, module);
      }
      case Kind::kElu:
        return format("F.elu({}, {})", x, text_of(op.alpha));
      case Kind::kSelu:
        return format("F.selu({})", x);
      case Kind::kSilu:
        return format("F.silu({})", x);
      case Kind::kGelu:
        return format("F.gelu({})", x);
      case Kind::kGeluTanh:
        return format("F.gelu({}, approximate=\"tanh\")", x);
      case Kind::kTanh:
        return format("{}.tanh()", x);
      case Kind::kHardSigmoid:
        return format("({} * {} + {}).clamp(0, 1)", x, text_of(op.gain), text_of(op.offset));
      case Kind::kHardSwish:
        return format("F.hardswish({})", x);
      case Kind::kSoftplus:
        return format("F.softplus({})", x);
      case Kind::kClip:
        return format("{}.clamp({}, {})", x, text_of(op.min), text_of(op.max));
    }
    fail("it is of an unknown kind");
  }

  void write(const Binary& op) {
    constexpr std::array kForms{"{} + {}",
                                "{} - {}",
                                "{} * {}",
                                "{} / {}",
                                "torch.minimum({}, {})",
                                "torch.maximum({}, {})"};
    Layout as = common_layout();
    std::string a, b;
    if (op.constant.empty()) {
      if (rank(0) != rank(1)) as = Layout::kOurs;
      a = input(0, as), b = input(1, as);
    } else {
      use("Constant");
      const int given = static_cast<int>(op.constant.size());
      if (given > rank(0)) as = Layout::kOurs;
      a = input(0, as);
      b = layer(format("Constant({})", fmt::join(op.constant, ", "))) + ".value";
      if (as == Layout::kChannelsFirst) {
        std::vector<int> extents = op.constant;
        extents.insert(extents.begin(), static_cast<std::size_t>(4 - given), 1);
        b += format(".reshape{}.permute(0, 3, 1, 2)", tuple_of(extents));
      }
      if (op.reversed) std::swap(a, b);
    }
    set(format(fmt::runtime(kForms.at(static_cast<std::size_t>(op.kind))), a, b), as);
  }

  void write(const Dropout& op) {
    const Layout as = layout(0);
    set(format("F.dropout({}, {}, self.training)", input(0, as), text_of(op.rate)), as);
  }

  // ---- norms

  // What `form` makes of x with its channels second.
  void set_channels_second(const std::string& form) {
    if (rank(0) == 4) return set_image(format("{}({})", form, image(0)));
    if (rank(0) == 2) return set_ours(format("{}({})", form, ours(0)));
    set_ours(format("{}({}.movedim(-1, 1)).movedim(1, -1)", form, ours(0)));
  }
  void write(const BatchNorm& op) {
    set_channels_second(layer(format("nn.BatchNorm{}d({}, {}, {})", rank(0) == 4 ? 2 : 1,
                                     channels(0), text_of(op.eps), text_of(op.momentum))));
  }
  void write(const GroupNorm& op) {
    const std::string arguments = format("{}, {}, {}", op.groups == 0 ? channels(0) : op.groups,
                                         channels(0), text_of(op.eps));
    if (op.affine) return set_channels_second(layer(format("nn.GroupNorm({})", arguments)));
    set_channels_second(format("nn.GroupNorm({}, False)", arguments));
  }
  void write(const LayerNorm& op) {
    const std::string module =
        format("nn.LayerNorm({}, {}, {})", channels(0), text_of(op.eps), text_of(op.affine));
    set_ours(format("{}({})", op.affine ? layer(module) : module, ours(0)));
  }

  // ---- sizes

  void write(const Upsample& op) {
    require(!op.piece[0] && !op.piece[1], "it is a piece of a map");
    set_image(format("F.interpolate({}, scale_factor=2, mode=\"bilinear\", align_corners={})",
                     image(0), text_of(op.align_corners)));
  }
  void write(const Resize& op) {
    use("resize");
    const auto name = [](const auto& value) {
      return std::string(names_of(value)[static_cast<std::size_t>(value)]);
    };
    std::string sizes = "None";
    if (node_->inputs.size() > 1)
      sizes = image(1) + ".shape[2:]";
    else if (op.sizes != std::array{0, 0})
      sizes = tuple_of(op.sizes);
    require(op.sizes == std::array{0, 0} || (op.sizes[0] > 0 && op.sizes[1] > 0),
            "it has a size along one axis and a scale along the other");
    set_image(format("resize({}, {}, {}, {}, ({}, {}), {}, {})", image(0), text_of(name(op.mode)),
                     text_of(name(op.coordinates)), text_of(name(op.nearest)), text_of(op.scale_h),
                     text_of(op.scale_w), sizes, text_of(op.stretch)));
  }
  void write(const CropConcat& op) {
    require(!op.piece[0] && !op.piece[1], "it is a piece of a map");
    const bool crops = op.align == CropConcat::Align::kCropSkip;
    use(crops ? "crop" : "surround");
    std::string skip = image(0), up = image(1);
    (crops ? skip : up) =
        crops ? format("crop({}, {})", skip, up) : format("surround({}, {})", up, skip);
    if (!op.skip_first) std::swap(skip, up);
    set_image(format("torch.cat([{}, {}], 1)", skip, up));
  }
  void write(const Concat& op) {
    const Layout as = common_layout();
    std::vector<std::string> maps;
    for (std::size_t i = 0; i < node_->inputs.size(); ++i) maps.push_back(input(i, as));
    set(format("torch.cat([{}], {})", fmt::join(maps, ", "), placed_axis(op.axis, rank(0), as)),
        as);
  }
  void write(const Pad& op) {
    constexpr std::array kNames{"constant", "reflect", "replicate"};
    const Layout as = layout(0);
    const int axes = rank(0);
    std::vector<int> pads(2 * static_cast<std::size_t>(axes), 0);  // PyTorch's: the last axis first
    for (int axis = 0; axis < axes; ++axis) {
      const auto from = static_cast<std::size_t>(axis);
      const auto to = 2 * static_cast<std::size_t>(axes - 1 - placed_axis(axis, axes, as));
      pads[to] = op.pads[from];
      pads[to + 1] = op.pads[from + static_cast<std::size_t>(axes)];
    }
    while (pads.size() > 2 && pads.back() == 0 && pads[pads.size() - 2] == 0)
      pads.resize(pads.size() - 2);
    const std::string mode = kNames.at(static_cast<std::size_t>(op.mode));
    if (op.mode == Pad::Mode::kConstant)
      return set(format("F.pad({}, {}, value={})", input(0, as), tuple_of(pads), text_of(op.value)),
                 as);
    require(axes == 4 && as == Layout::kChannelsFirst && pads.size() <= 4,
            "PyTorch mirrors and repeats the edges of images alone");
    pads.resize(4, 0);
    set(format("F.pad({}, {}, \"{}\")", input(0, as), tuple_of(pads), mode), as);
  }
  void write(const Slice& op) {
    use("take");
    const Layout as = layout(0);
    std::string text = input(0, as);
    for (std::size_t i = 0; i < op.starts.size(); ++i) {
      const int axis = op.axes.empty() ? static_cast<int>(i) : op.axes[i];
      text = format("take({}, {}, {}, {}, {})", text, placed_axis(axis, rank(0), as), op.starts[i],
                    op.ends[i], op.steps.empty() ? 1 : op.steps[i]);
    }
    set(text, as);
  }
  void write(const Reshape& op) {
    std::vector<std::string> extents;
    const std::string& x = ours(0);
    for (std::size_t i = 0; i < op.shape.size(); ++i)
      extents.push_back(op.shape[i] == 0 ? format("{}.shape[{}]", x, i)
                                         : std::to_string(op.shape[i]));
    set_ours(format("{}.reshape(({},))", x, fmt::join(extents, ", ")));
  }
  void write(const Transpose& op) {
    set_ours(format("{}.permute({})", ours(0), fmt::join(order_of(op, type(0)), ", ")));
  }
  void write(const Reduce& op) {
    constexpr std::array kNames{"mean", "sum", "amax", "amin"};
    const Layout as = op.keepdims ? layout(0) : Layout::kOurs;
    std::vector<int> axes;
    for (const int axis : op.axes) axes.push_back(placed_axis(axis, rank(0), as));
    for (int axis = 0; op.axes.empty() && axis < rank(0); ++axis) axes.push_back(axis);
    set(format("{}.{}({}, {})", input(0, as), kNames.at(static_cast<std::size_t>(op.kind)),
               tuple_of(axes), text_of(op.keepdims)),
        as);
  }

  // ---- classes

  std::string class_ids(const std::string& x, int axis, std::int64_t classes) const {
    if (classes > 1) return format("{}.argmax({}).to(torch.uint8)", x, axis);
    return format("({} > 0.5).to(torch.uint8).squeeze({})", x, axis);
  }
  void write(const Argmax&) {
    const Layout as = layout(0);
    set_ours(class_ids(input(0, as), placed_axis(-1, rank(0), as), channels(0)));
  }
  void write(const Softmax&) {
    const Layout as = layout(0);
    set(format("{}.softmax({})", input(0, as), placed_axis(-1, rank(0), as)), as);
  }
  void write(const Head& op) {
    std::string y = format(
        "{}({})",
        layer(format("nn.Conv2d({}, {}, 1, bias={})", channels(0), op.classes, text_of(op.bias))),
        image(0));
    if (op.relu) y = format("F.relu({})", y);
    y += op.output == Head::Output::kSoftmax ? ".softmax(1)" : ".sigmoid()";
    const std::string probabilities = line(node_->name + "_probabilities", y);
    set_ours(class_ids(probabilities, 1, op.classes));
    if (op.probabilities) set(probabilities, Layout::kChannelsFirst, 1);
  }

  // ---- documents

  void write(const Embedding& op) {
    set_ours(
        format("{}({})", layer(format("nn.Embedding({}, {})", op.words, op.features)), ours(0)));
  }
  void write(const Linear& op) {
    set_ours(
        format("{}({})",
               layer(format("nn.Linear({}, {}, bias={})", channels(0), op.units, text_of(op.bias))),
               ours(0)));
  }
  std::string lengths(bool masked) { return masked ? ", " + ours(1) : ""; }
  void write(const BiRnn& op) {
    require(!op.embedding, "it is fused");
    const std::string cell = op.cell == BiRnn::Cell::kLstm ? "LSTM" : "GRU";
    const bool hard = op.gate == BiRnn::Gate::kHardSigmoid;
    const bool plain = !hard && !op.carried && (op.reset_after || op.cell == BiRnn::Cell::kLstm);
    use("within");
    use(plain ? "recurrent" : "Recurrent");
    if (plain) {
      const std::string module = layer(format("nn.{}({}, {}, batch_first=True, bidirectional=True)",
                                              cell, channels(0), op.units));
      return set_ours(format("recurrent({}, {}{})", module, ours(0), lengths(op.masked)));
    }
    const std::string module =
        layer(format("Recurrent(\"{}\", {}, {}, {}, {}, {})", cell, channels(0), op.units,
                     text_of(hard), text_of(op.reset_after), text_of(op.carried)));
    set_ours(format("{}({}{})", module, ours(0), lengths(op.masked)));
  }
  void write(const Attention& op) {
    require(!op.dense, "it is fused");
    use("within");
    use("Attention");
    const std::string module = layer(format("Attention({}, {}, {}, {})", op.units, channels(0),
                                            text_of(op.eps), text_of(op.tanh_score)));
    const std::string both =
        line(node_->name, format("{}({}{})", module, ours(0), lengths(op.masked)));
    layouts_.set(node_->outputs[0], both + "[0]", Layout::kOurs);
    layouts_.set(node_->outputs[1], both + "[1]", Layout::kOurs);
  }

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

}  // namespace

std::string torch_module_source(const ExportedNetwork& network,
                                const std::map<const Node*, TorchModule>& modules,
                                const std::string& config, const std::string& weights) {
  ModuleWriter writer(network, modules);
  return writer.write(config, weights);
}

}  // namespace tessera
