#include "models/layer_reasons.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "engine/files/safetensors.h"

namespace tessera {
namespace {

using WeightOf = std::function<std::vector<float>(const std::string&)>;

class Changes {
 public:
  Changes(const Suspect& suspect, const WeightOf& weight) : suspect_(suspect), weight_(weight) {}

  std::vector<Change> find() {
    for (std::size_t i = 0; i < suspect_.graph.nodes.size(); ++i) {
      node_ = i;
      std::visit([&](const auto& op) { of(op); }, suspect_.graph.nodes[i].op);
    }
    if (suspect_.reads_image) of_image();
    if (suspect_.is_answer) of_answer();
    return std::move(found_);
  }

 private:
  std::string name() const { return in_quotes(suspect_.graph.nodes[node_].name); }
  void add(std::string what, std::function<void(Suspect&)> apply) {
    found_.push_back({std::move(what), std::move(apply)});
  }
  // The node with another operator.
  template <class AnyOp>
  void try_op(const std::string& what, AnyOp op) {
    add(what, [node = node_, op](Suspect& trial) { trial.graph.nodes[node].op = op; });
  }

  template <class Other>
  void of(const Other&) {}

  void of(const CropConcat& op) {
    CropConcat other = op;
    other.skip_first = !op.skip_first;
    try_op(fmt::format("{} joins ({})", name(), other.skip_first ? "skip, up" : "up, skip"), other);
  }
  void of(const Concat&) {
    add(fmt::format("{} joins its inputs the other way round", name()),
        [node = node_](Suspect& trial) { std::ranges::reverse(trial.graph.nodes[node].inputs); });
  }
  template <class Norm>
  void try_eps(const Norm& op) {
    for (const double eps : {1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-2}) {
      Norm other = op;
      other.eps = eps;
      if (eps != op.eps) try_op(fmt::format("{} has the eps {}", name(), eps), other);
    }
  }
  void of(const BatchNorm& op) { try_eps(op); }
  void of(const LayerNorm& op) { try_eps(op); }
  void of(const GroupNorm& op) {
    try_eps(op);
    for (const int groups : {0, 1, 2, 4, 8, 16, 32}) {
      GroupNorm other = op;
      other.groups = groups;
      if (groups != op.groups)
        try_op(groups == 0 ? fmt::format("{} is an instance norm", name())
                           : fmt::format("{} has {} group(s)", name(), groups),
               other);
    }
  }
  void of(const Attention& op) {
    for (const double eps : {0.0, 1e-7, 1e-4, 1e-6, 1e-8}) {
      Attention other = op;
      other.eps = eps;
      if (eps != op.eps) try_op(fmt::format("{} adds the eps {}", name(), eps), other);
    }
    Attention other = op;
    other.tanh_score = !op.tanh_score;
    try_op(fmt::format("the score of {} {} through a tanh", name(),
                       other.tanh_score ? "goes once more" : "does not go once more"),
           other);
  }

  // Along an axis as much padding as there is, on the other side or evenly.
  template <class Windowed>
  void try_pads(const Windowed& op) {
    using Split = std::array<int, 2>;
    const auto& pads = op.window.pads;
    const int rows = pads[0] + pads[1], columns = pads[2] + pads[3];
    const auto other = [&](const std::string& what, Split r, Split c) {
      Windowed changed = op;
      changed.window.pads = {r[0], r[1], c[0], c[1]};
      if (changed.window.pads != pads) try_op(fmt::format("{} pads {}", name(), what), changed);
    };
    if (rows == 0 && columns == 0) return;
    other("the other side more", {pads[1], pads[0]}, {pads[3], pads[2]});
    other("the end more", {rows / 2, rows - rows / 2}, {columns / 2, columns - columns / 2});
    other("the beginning more", {rows - rows / 2, rows / 2}, {columns - columns / 2, columns / 2});
    other("the end alone", {0, rows}, {0, columns});
    other("the beginning alone", {rows, 0}, {columns, 0});
  }
  void of(const Conv& op) { try_pads(op); }
  void of(const MaxPool& op) { try_pads(op); }
  void of(const AvgPool& op) { try_pads(op); }
  void of(const ConvTranspose& op) {
    if (op.kernel == 0) try_pads(op);
  }
  void of(const Upsample& op) {
    Upsample other = op;
    other.align_corners = !op.align_corners;
    try_op(fmt::format("{} has align_corners {}", name(), other.align_corners), other);
    Resize nearest{.coordinates = Resize::Coordinates::kAsymmetric,
                   .nearest = Resize::Nearest::kFloor,
                   .scale_h = 2,
                   .scale_w = 2};
    try_op(fmt::format("{} repeats pixels (nearest)", name()), nearest);
  }
  void of(const Resize& op) {
    for (std::size_t i = 0; i < names_of(op.coordinates).size(); ++i) {
      Resize other = op;
      other.coordinates = static_cast<Resize::Coordinates>(i);
      if (other.coordinates != op.coordinates)
        try_op(fmt::format("{} has the coordinates {}", name(), names_of(op.coordinates)[i]),
               other);
    }
    for (std::size_t i = 0; i < names_of(op.nearest).size() && op.mode == Resize::Mode::kNearest;
         ++i) {
      Resize other = op;
      other.nearest = static_cast<Resize::Nearest>(i);
      if (other.nearest != op.nearest)
        try_op(fmt::format("{} rounds by {}", name(), names_of(op.nearest)[i]), other);
    }
    Resize linear = op;
    linear.mode =
        op.mode == Resize::Mode::kNearest ? Resize::Mode::kLinear : Resize::Mode::kNearest;
    try_op(
        fmt::format("{} is {}", name(), names_of(op.mode)[static_cast<std::size_t>(linear.mode)]),
        linear);
  }
  void of(const Activation& op) {
    using Form = Activation::Kind;
    add(fmt::format("there is no activation at {}", name()), [node = node_](Suspect& trial) {
      trial.graph.nodes[node].op = Activation{.kind = Form::kLeakyRelu, .slope = 1};
    });
    const auto other = [&](Activation changed, const std::string& what) {
      if (!(changed == op)) try_op(fmt::format("{} is {}", name(), what), changed);
    };
    for (const Form kind : {Form::kRelu, Form::kSigmoid, Form::kElu, Form::kSelu, Form::kSilu,
                            Form::kGelu, Form::kGeluTanh, Form::kTanh, Form::kHardSwish})
      other({.kind = kind}, std::string(names_of(kind)[static_cast<std::size_t>(kind)]));
    for (const double slope : {0.01, 0.1, 0.2, 0.3})
      other({.kind = Form::kLeakyRelu, .slope = slope}, fmt::format("leaky_relu of {}", slope));
    other({.kind = Form::kHardSigmoid}, "hard_sigmoid (0.2 x + 0.5)");
    other({.kind = Form::kHardSigmoid, .gain = 1.0 / 6}, "hard_sigmoid (x / 6 + 0.5)");
  }
  void of(const BiRnn& op) {
    BiRnn other = op;
    other.gate =
        op.gate == BiRnn::Gate::kSigmoid ? BiRnn::Gate::kHardSigmoid : BiRnn::Gate::kSigmoid;
    try_op(fmt::format("the gates of {} are a {}", name(),
                       names_of(op.gate)[static_cast<std::size_t>(other.gate)]),
           other);
    if (op.cell == BiRnn::Cell::kGru) {
      other = op;
      other.reset_after = !op.reset_after;
      try_op(fmt::format("{} has reset_after {}", name(), other.reset_after), other);
    }
    const std::string_view gates = op.cell == BiRnn::Cell::kLstm ? "ifgo" : "rzn";
    std::vector<std::size_t> order(gates.size());
    std::iota(order.begin(), order.end(), 0U);
    while (std::next_permutation(order.begin(), order.end())) {
      std::string letters;
      for (const std::size_t gate : order) letters += gates[gate];
      add(fmt::format("the file's gates of {} are in the order {}", name(), letters),
          [weight = weight_, node = node_, order](Suspect& trial) {
            permute_gates(trial, weight, node, order);
          });
    }
    add(fmt::format("the directions of {} are exchanged in the file", name()),
        [weight = weight_, node = node_](Suspect& trial) { swap_directions(trial, weight, node); });
  }

  // Block i of each weight of the gates comes to the place that it has in our order.
  static void permute_gates(Suspect& trial, const WeightOf& weight_of, std::size_t node,
                            const std::vector<std::size_t>& order) {
    for (const char* parameter : {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}) {
      for (const char* direction : {"", "_reverse"}) {
        const std::string weight =
            weight_name(trial.graph.nodes[node], std::string(parameter) + direction);
        const std::vector<float> from = weight_of(weight);
        std::vector<float> to(from.size());
        const auto block = static_cast<std::ptrdiff_t>(from.size() / order.size());
        for (std::size_t i = 0; i < order.size(); ++i)
          std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(i) * block, block,
                      to.begin() + static_cast<std::ptrdiff_t>(order[i]) * block);
        trial.weights[weight] = std::move(to);
      }
    }
  }
  static void swap_directions(Suspect& trial, const WeightOf& weight_of, std::size_t node) {
    for (const char* parameter : {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}) {
      const std::string there = weight_name(trial.graph.nodes[node], parameter);
      const std::string back =
          weight_name(trial.graph.nodes[node], parameter + std::string("_reverse"));
      trial.weights[there] = weight_of(back);
      trial.weights[back] = weight_of(there);
    }
  }

  // The image otherwise: `change` gets the values of a pixel.
  void try_image(const std::string& what, std::function<void(std::span<float>)> change) {
    add(what, [change](Suspect& trial) {
      NetworkAnswer& image = trial.inputs[0];
      const auto channels = static_cast<std::size_t>(image.type.shape[-1]);
      const std::span<float> values(image.view().as<float>(), image.bytes.size() / sizeof(float));
      for (std::size_t i = 0; i < values.size(); i += channels) change(values.subspan(i, channels));
    });
  }
  void of_image() {
    const NetworkAnswer& image = suspect_.inputs[0];
    if (image.type.dtype != DType::kF32 || image.type.shape.rank() != 4) return;
    const auto linear = [](double gain, double offset) {
      return [gain, offset](std::span<float> pixel) {
        for (float& value : pixel) value = static_cast<float>(value * gain + offset);
      };
    };
    if (image.type.shape[-1] == 3) {
      try_image("the input's channels are BGR",
                [](std::span<float> pixel) { std::swap(pixel[0], pixel[2]); });
      try_image("the input is (x / 255 - ImageNet's mean) / its std", [](std::span<float> pixel) {
        constexpr double kMean[] = {0.485, 0.456, 0.406}, kStd[] = {0.229, 0.224, 0.225};
        for (std::size_t c = 0; c < 3; ++c)
          pixel[c] = static_cast<float>((pixel[c] / 255 - kMean[c]) / kStd[c]);
      });
      try_image("the input is (x - ImageNet's mean) / its std", [](std::span<float> pixel) {
        constexpr double kMean[] = {0.485, 0.456, 0.406}, kStd[] = {0.229, 0.224, 0.225};
        for (std::size_t c = 0; c < 3; ++c)
          pixel[c] = static_cast<float>((pixel[c] - kMean[c]) / kStd[c]);
      });
    }
    try_image("the input is x / 255", linear(1.0 / 255, 0));
    try_image("the input is 255 x", linear(255, 0));
    try_image("the input is 2 x - 1", linear(2, -1));
    try_image("the input is x / 127.5 - 1", linear(1 / 127.5, -1));
    try_image("the input is (x + 1) / 2", linear(0.5, 0.5));
    try_image("the input is x - 0.5", linear(1, -0.5));
    const std::span<const float> values(image.view().as<const float>(),
                                        image.bytes.size() / sizeof(float));
    double sum = 0, squares = 0;
    for (const float value : values) sum += value, squares += double{value} * value;
    const double mean = sum / static_cast<double>(values.size());
    const double std =
        std::sqrt(std::max(0.0, squares / static_cast<double>(values.size()) - mean * mean));
    try_image("the input is (x - its mean) / its std",
              linear(1 / (std + 1e-6), -mean / (std + 1e-6)));
  }
  void of_answer() {
    const auto behind = [&](const std::string& what, const Op& op) {
      add(what, [op](Suspect& trial) {
        trial.graph.outputs = {trial.graph.add("answer", op, {trial.graph.outputs[0]})};
      });
    };
    behind("the answer is behind a sigmoid", Activation{.kind = Activation::Kind::kSigmoid});
    behind("the answer is behind a softmax", Softmax{});
    const ValueId answer = suspect_.graph.outputs[0];
    for (const Node& node : suspect_.graph.nodes) {
      if (node.outputs[0] != answer || node.inputs.empty() ||
          !std::holds_alternative<Softmax>(node.op))
        continue;
      add("the answer is in front of the softmax",
          [to = node.inputs[0]](Suspect& trial) { trial.graph.outputs = {to}; });
      add("the answer is behind a sigmoid, not a softmax", [to = node.inputs[0]](Suspect& trial) {
        const Activation sigmoid{.kind = Activation::Kind::kSigmoid};
        trial.graph.outputs = {trial.graph.add("answer", sigmoid, {to})};
      });
    }
  }

  const Suspect& suspect_;
  const WeightOf& weight_;
  std::size_t node_ = 0;
  std::vector<Change> found_;
};

}  // namespace

std::vector<Change> possible_changes(const Suspect& suspect, const WeightOf& weight) {
  return Changes(suspect, weight).find();
}

}  // namespace tessera
