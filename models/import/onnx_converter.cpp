#include "models/import/onnx_converter.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/files/safetensors.h"
#include "engine/graph/fields.h"
#include "engine/graph/graph_file.h"
#include "kernels/error.h"

namespace tessera {
namespace {

using Extents = std::vector<std::int64_t>;

std::vector<int> identity_order(std::size_t rank) {
  std::vector<int> order(rank);
  std::iota(order.begin(), order.end(), 0);
  return order;
}

// Extents beyond a rank of Shape cannot be a map's.
Shape shape_of(std::span<const std::int64_t> extents) {
  require(extents.size() <= static_cast<std::size_t>(Shape::kMaxRank),
          "a map has at most {} axes, not {}", Shape::kMaxRank, shape_text(extents));
  return Shape(extents);
}

// A name that a model file can hold, with room behind it.
std::string plain_name(std::string_view name) {
  constexpr std::size_t kRoom = 16;
  std::string plain(name.substr(0, kMaxNameBytes - kRoom));
  for (char& c : plain)
    if (c < ' ' || c > '~') c = '?';
  return plain.empty() ? "value" : plain;
}

int small(std::int64_t value) {
  require(value >= 0 && value <= std::numeric_limits<int>::max(), "{} is too large", value);
  return static_cast<int>(value);
}

}  // namespace

FloatTensor OnnxWeight::read() const {
  FloatTensor result;
  if (from->stored) {
    result = read_floats(*from->stored, axes);
  } else {
    const std::vector<double> values = from->values();
    StoredTensor tensor{
        "", StoredTensor::Type::kF64, from->shape, {}, std::as_bytes(std::span(values))};
    result = read_floats(tensor, axes);
  }
  result.shape = shape;
  if (factor != 1)
    for (float& value : result.values) value = static_cast<float>(value * factor);
  return result;
}

OnnxValue of_constant(OnnxConstantPtr constant) {
  OnnxValue value;
  value.constant = std::move(constant);
  return value;
}

void OnnxConverter::add_input(const std::string& name, std::span<const std::int64_t> extents,
                              std::vector<int> order) {
  Extents ours;
  for (const int axis : order) ours.push_back(extents[static_cast<std::size_t>(axis)]);
  OnnxValue value;
  value.is_map = true;
  require(plain_name(name) == name, "the input {} has a name of more than plain, short ASCII",
          in_quotes(name));
  value.id = graph_.add_input(name);
  value.order = std::move(order);
  types_.push_back({DType::kF32, shape_of(ours)});
  names_.insert(name);
  values_[name] = value;
}

void OnnxConverter::convert() {
  for (const StoredTensor& tensor : model_.initializers)
    values_[tensor.name] = of_constant(onnx_constant(tensor));
  for (const OnnxNode& node : model_.nodes) {
    // What reads a value that could not be made is not to be told of.
    const bool fails = std::ranges::any_of(node.inputs, [&](const std::string& name) {
      return !name.empty() && !values_.contains(name);
    });
    if (fails) continue;
    try {
      convert(node);
    } catch (const Error& error) {
      const std::string& name =
          node.name.empty() && !node.outputs.empty() ? node.outputs[0] : node.name;
      errors_.push_back(fmt::format("{} {}: {}", node.op, in_quotes(name), error.what()));
    }
  }
}

void OnnxConverter::convert(const OnnxNode& node) {
  require(!node.outputs.empty(), "it makes nothing");
  std::vector<OnnxConstantPtr> constants;
  bool constant = true;
  for (const std::string& name : node.inputs) {
    constants.push_back(name.empty() ? nullptr : values_.at(name).constant);
    constant &= name.empty() || constants.back() != nullptr;
  }
  if (node.op == "Shape" || node.op == "Size") {
    const OnnxCall call(*this, node);
    const Extents extents = shape(call.input(0));
    if (node.op == "Shape") return call.set(of_constant(onnx_shape(extents, call.attributes)));
    auto size = std::make_shared<OnnxConstant>(*onnx_integers({onnx_elements(extents)}));
    size->shape = {};
    return call.set(of_constant(size));
  }
  if (constant) {
    if (const auto made = evaluate(node, model_.opset, constants)) {
      constexpr std::size_t kMostMade = std::size_t{1} << 26;  // of all nodes together
      made_ += made->front()->made.size();
      require(made_ <= kMostMade, "the constants that nodes make have more than {} elements",
              kMostMade);
      values_[node.outputs[0]] = of_constant(made->front());
      return;
    }
  }
  for (const auto* table :
       {&onnx_layers(), &onnx_elements(), &onnx_moves(), &onnx_classes(), &onnx_sequences()}) {
    if (const auto found = table->find(node.op); found != table->end())
      return found->second(OnnxCall(*this, node));
  }
  require(!node.op.ends_with("QuantizeLinear") && !node.op.starts_with("QLinear"),
          "quantised networks are not read; export it without quantisation");
  fail("this operator is not supported");
}

const OnnxValue& OnnxConverter::value(const std::string& name) const {
  const auto found = values_.find(name);
  require(found != values_.end(), "the value {} could not be made", in_quotes(name));
  return found->second;
}

Extents OnnxConverter::shape(const OnnxValue& value) const {
  if (value.constant) return value.constant->shape;
  const Shape& ours = types_[value.id].shape;
  Extents extents(value.order.size());
  for (std::size_t i = 0; i < extents.size(); ++i)
    extents[static_cast<std::size_t>(value.order[i])] = ours[static_cast<int>(i)];
  return extents;
}

OnnxValue OnnxConverter::in_order(const OnnxValue& value, const std::vector<int>& order) {
  if (value.order == order) return value;
  Transpose transpose;
  for (const int axis : order) {
    const auto at = std::ranges::find(value.order, axis);
    require(at != value.order.end(), "axis {} is missing", axis);
    transpose.order.push_back(static_cast<int>(at - value.order.begin()));
  }
  OnnxValue result;
  result.is_map = true;
  result.order = order;
  result.id = emit(graph_.values[value.id] + "/axes", std::move(transpose), {value.id}, {});
  return result;
}

ValueId OnnxConverter::emit(const std::string& wanted, Op op, std::vector<ValueId> from,
                            std::map<std::string, OnnxWeight> weights) {
  require(graph_.nodes.size() < kMaxNodes, "the graph has more than {} nodes", kMaxNodes);
  check_attributes(op);
  std::vector<TensorType> read;
  for (const ValueId id : from) read.push_back(types_[id]);
  const std::vector<TensorType> made =
      std::visit([&](const auto& one) { return infer(one, read); }, op);
  for (const TensorType& type : made) {
    type.bytes();
    require(std::ranges::all_of(type.shape.dims(), [](std::int64_t extent) { return extent > 0; }),
            "it makes {}, which has no elements", type);
  }
  const std::string base = plain_name(wanted);
  std::string name = base;
  for (int copy = 2; !names_.insert(name).second; ++copy) name = fmt::format("{}~{}", base, copy);
  const auto parameters =
      std::visit([&](const auto& one) { return tessera::parameters(one, read); }, op);
  for (const Parameter& parameter : parameters) {
    const auto found = weights.find(parameter.name);
    require(found != weights.end(), "its {} is missing", parameter.name);
    const OnnxWeight& weight = found->second;
    require(weight.from->is_float(), "its {} is {}, expected floats", parameter.name,
            name_of(weight.from->type));
    require(weight.from->elements() == parameter.shape.elements() &&
                weight.shape == parameter.shape &&
                weight.from->shape.size() <= static_cast<std::size_t>(Shape::kMaxRank),
            "its {} is {}, expected {}", parameter.name, shape_text(weight.from->shape),
            parameter.shape);
    weights_[name + "/" + parameter.name] = weight;
  }
  const ValueId id = graph_.add(name, std::move(op), std::move(from));
  types_.insert(types_.end(), made.begin(), made.end());
  return id;
}

const OnnxValue& OnnxCall::input(std::size_t i) const {
  require(has(i), "its input {} is missing", i);
  return converter_.values_.at(node.inputs[i]);
}

const OnnxValue& OnnxCall::map(std::size_t i) const {
  const OnnxValue& value = input(i);
  require(value.is_map, "its input {} is a constant, expected a map", i);
  return value;
}

OnnxConstantPtr OnnxCall::constant_ptr(std::size_t i) const {
  const OnnxValue& value = input(i);
  require(value.constant != nullptr,
          "its input {} is computed from the image, expected a constant of the file", i);
  return value.constant;
}

const OnnxConstant& OnnxCall::constant(std::size_t i) const {
  return *constant_ptr(i);
}

std::vector<int> OnnxCall::list(std::size_t i, const std::string& name) const {
  return has(i) ? constant(i).integers(name) : attributes.integers(name);
}

int OnnxCall::place(const OnnxValue& value, int axis) const {
  const auto found = std::ranges::find(value.order, axis);
  require(found != value.order.end(), "axis {} is none of {}", axis, value.order.size());
  return static_cast<int>(found - value.order.begin());
}

OnnxValue OnnxCall::image(const OnnxValue& value) const {
  require(value.order.size() == 4, "it takes an image (n, c, h, w), not {}",
          shape_text(shape(value)));
  return in_order(value, {0, 2, 3, 1});
}

OnnxValue OnnxCall::with_last(const OnnxValue& value, int axis) const {
  std::vector<int> order = value.order;
  order.erase(order.begin() + place(value, axis));
  order.push_back(axis);
  return in_order(value, order);
}

OnnxValue OnnxCall::reshape(const OnnxValue& value, const Extents& to) const {
  const Extents from = shape(value);
  if (from == to) return value;
  shape_of(to);
  OnnxValue result;
  result.is_map = true;
  // Axes of extents other than 1, in ONNX's order: where they are the same, those of 1 alone move.
  std::vector<int> wide_from, wide_to;
  for (std::size_t i = 0; i < from.size(); ++i)
    if (from[i] != 1) wide_from.push_back(static_cast<int>(i));
  for (std::size_t i = 0; i < to.size(); ++i)
    if (to[i] != 1) wide_to.push_back(static_cast<int>(i));
  const bool ones_alone = std::ranges::equal(wide_from, wide_to, [&](int a, int b) {
    return from[static_cast<std::size_t>(a)] == to[static_cast<std::size_t>(b)];
  });
  OnnxValue x = value;
  if (ones_alone) {
    std::vector<int> kept;  // our order of the axes that are not 1, in ONNX's new numbers
    for (const int axis : value.order) {
      const auto at = std::ranges::find(wide_from, axis);
      if (at != wide_from.end())
        kept.push_back(wide_to[static_cast<std::size_t>(at - wide_from.begin())]);
    }
    const auto order_with = [&](std::vector<int> order) {
      std::vector<int> wide;
      for (const int axis : order)
        if (to[static_cast<std::size_t>(axis)] != 1) wide.push_back(axis);
      return wide == kept;
    };
    const std::vector<int> image{0, 2, 3, 1};
    if (to.size() == from.size() && order_with(value.order)) {
      result.order = value.order;
    } else if (to.size() == 4 && order_with(image)) {
      result.order = image;
    } else if (order_with(identity_order(to.size()))) {
      result.order = identity_order(to.size());
    } else {
      for (std::size_t i = 0; i < to.size(); ++i)
        if (to[i] == 1) result.order.push_back(static_cast<int>(i));
      result.order.insert(result.order.end(), kept.begin(), kept.end());
    }
  } else {
    x = in_order(value, identity_order(from.size()));
    result.order = identity_order(to.size());
  }
  const Shape& ours = type(x).shape;
  Reshape op;
  std::vector<std::int64_t> extents;
  for (const int axis : result.order) extents.push_back(to[static_cast<std::size_t>(axis)]);
  if (shape_of(extents) == ours) {  // the axes have other names alone
    result.id = x.id;
    return result;
  }
  // Extents that are those of x are said to be, and one more is what is left: sizes of an image
  // stand in as few places as can be.
  int open = -1;
  for (std::size_t i = 0; i < extents.size(); ++i) {
    const bool same = static_cast<int>(i) < ours.rank() && extents[i] == ours[static_cast<int>(i)];
    op.shape.push_back(same ? 0 : small(extents[i]));
    if (!same && (open < 0 || extents[i] > extents[static_cast<std::size_t>(open)]))
      open = static_cast<int>(i);
  }
  if (open >= 0) op.shape[static_cast<std::size_t>(open)] = -1;
  result.id = converter_.emit(node.outputs[0] + "/shape", std::move(op), {x.id}, {});
  return result;
}

OnnxValue OnnxCall::add(Op op, const std::vector<OnnxValue>& from, const OnnxValue& like,
                        std::map<std::string, OnnxWeight> weights, const char* suffix) const {
  std::vector<ValueId> ids;
  for (const OnnxValue& value : from) ids.push_back(value.id);
  OnnxValue result;
  result.is_map = true;
  result.order = like.order;
  const std::string& name = node.name.empty() ? node.outputs[0] : node.name;
  result.id = converter_.emit(name + suffix, std::move(op), std::move(ids), std::move(weights));
  return result;
}

OnnxValue OnnxCall::combine(Binary::Kind kind, const OnnxValue& a, const OnnxValue& b) const {
  for (const OnnxValue* value : {&a, &b})
    require(value->is_map || value->constant, "it reads an error function, which is of no GELU");
  if (a.constant || b.constant) {
    require(!a.constant || !b.constant, "both operands are constants");
    const OnnxValue& map = a.constant ? b : a;
    const OnnxConstantPtr constant = a.constant ? a.constant : b.constant;
    require(constant->is_float(), "a map is combined with a constant of {}",
            name_of(constant->type));
    const Extents both = broadcast_shape(shape(map), constant->shape);
    Extents longer = shape(map);
    longer.insert(longer.begin(), both.size() - longer.size(), 1);
    const OnnxValue x = reshape(map, longer);
    require(!x.order.empty(), "it computes a single number of the image");
    // A number that changes nothing.
    const double neutral = kind == Binary::Kind::kAdd || kind == Binary::Kind::kSub ? 0 : 1;
    const bool may_be_neutral =
        kind == Binary::Kind::kAdd || kind == Binary::Kind::kMul ||
        (!a.constant && (kind == Binary::Kind::kSub || kind == Binary::Kind::kDiv));
    if (constant->elements() == 1 && may_be_neutral && constant->values()[0] == neutral) return x;
    // In the map's order, without leading axes of 1.
    Extents theirs = constant->shape;
    theirs.insert(theirs.begin(), both.size() - theirs.size(), 1);
    OnnxConstant placed = *constant;
    placed.shape = theirs;
    if (placed.stored) placed.stored->shape = theirs;
    Binary op{kind};
    op.reversed = a.constant != nullptr;
    for (const int axis : x.order)
      op.constant.push_back(small(theirs[static_cast<std::size_t>(axis)]));
    const auto wide = std::ranges::find_if(op.constant, [](int extent) { return extent != 1; });
    op.constant.erase(op.constant.begin(), std::min(wide, op.constant.end() - 1));
    const Extents extents(op.constant.begin(), op.constant.end());
    return add(op, {x}, x,
               {{"value", {std::make_shared<OnnxConstant>(placed), shape_of(extents), x.order}}});
  }
  const Extents both = broadcast_shape(shape(a), shape(b));
  const auto grown = [&](const OnnxValue& value) {
    Extents longer = shape(value);
    longer.insert(longer.begin(), both.size() - longer.size(), 1);
    return reshape(value, longer);
  };
  const bool a_leads = rank(a) >= rank(b);
  const OnnxValue lead = grown(a_leads ? a : b);
  const OnnxValue other = in_order(grown(a_leads ? b : a), lead.order);
  return add(Binary{kind}, {a_leads ? lead : other, a_leads ? other : lead}, lead);
}

OnnxValue OnnxCall::combine(Binary::Kind kind, const OnnxValue& a, double b) const {
  auto constant = std::make_shared<OnnxConstant>();
  constant->type = StoredTensor::Type::kF32;
  constant->made = {b};
  return combine(kind, a, of_constant(constant));
}

OnnxValue OnnxCall::activate(const OnnxValue& x, const Activation& activation) const {
  return add(activation, {x}, x);
}

void OnnxCall::set(std::size_t output, OnnxValue value) const {
  if (output < node.outputs.size() && !node.outputs[output].empty())
    converter_.values_[node.outputs[output]] = std::move(value);
}

void OnnxCall::refuse_outputs_from(std::size_t first) const {
  for (std::size_t i = first; i < node.outputs.size(); ++i) {
    const std::string& name = node.outputs[i];
    if (name.empty()) continue;
    const auto reads = [&](const OnnxNode& other) {
      return std::ranges::count(other.inputs, name) > 0;
    };
    require(std::ranges::none_of(converter_.model_.nodes, reads) &&
                std::ranges::count(converter_.model_.outputs, name, &OnnxValueInfo::name) == 0,
            "its output {} is read, and is not made here", i);
  }
}

}  // namespace tessera
