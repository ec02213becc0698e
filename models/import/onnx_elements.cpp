// ONNX's arithmetic and activations: what is done element by element.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/error.h"
#include "models/import/onnx_converter.h"

namespace tessera {
namespace {

using ActivationKind = Activation::Kind;
using Origin = OnnxValue::Origin;

// ---- arithmetic --------------------------------------------------------------------------------

// Whether a value is a constant of this one number.
bool is_number(const OnnxValue& value, double number) {
  return value.constant && value.constant->elements() == 1 &&
         std::abs(value.constant->values()[0] - number) <= 1e-6 * std::abs(number);
}

// The exact GELU, as it is spelt before opset 20: x (1 + erf(x / sqrt 2)) / 2, the half before,
// behind or in between. Values on the way say how far they are (Origin::pads[0]); those of the
// error function are no maps, so that nothing else can read them.
enum GeluPart { kScaled = 1, kErrorFunction, kErrorFunctionAndOne, kTwice, kHalf };

OnnxValue gelu_part(OnnxValue value, GeluPart part, const OnnxValue& from) {
  value.origin = std::make_shared<Origin>(
      Origin{Origin::Kind::kErf, std::make_shared<OnnxValue>(from), {part, 0, 0, 0}});
  return value;
}

bool is_part(const OnnxValue& value, GeluPart part) {
  return value.origin && value.origin->kind == Origin::Kind::kErf && value.origin->pads[0] == part;
}

void erf(const OnnxCall& call) {
  const OnnxValue& x = call.map(0);
  require(is_part(x, kScaled), "it is of no GELU: x (1 + erf(x / sqrt 2)) / 2");
  OnnxValue y = x;
  y.is_map = false;
  call.set(gelu_part(y, kErrorFunction, *x.origin->from));
}

// Takes a and b of a sum or product, or a quotient, for a part of a GELU.
bool take_gelu(const OnnxCall& call, Binary::Kind kind, const OnnxValue& a, const OnnxValue& b) {
  constexpr double kRoot = 1.4142135623730951;
  const auto numbered = [&](GeluPart part) {
    call.set(gelu_part(call.combine(kind, a, b), part, a));
    return true;
  };
  if (kind == Binary::Kind::kAdd && is_part(a, kErrorFunction) && is_number(b, 1)) {
    call.set(gelu_part(a, kErrorFunctionAndOne, *a.origin->from));
    return true;
  }
  if (kind == Binary::Kind::kDiv && a.is_map && is_number(b, kRoot)) return numbered(kScaled);
  if (kind != Binary::Kind::kMul) return false;
  if (a.is_map && is_number(b, 1 / kRoot)) return numbered(kScaled);
  if (is_part(a, kTwice) && is_number(b, 0.5)) {
    call.set(*a.origin->from);
    return true;
  }
  if (a.is_map && is_number(b, 0.5)) return numbered(kHalf);
  if (!is_part(a, kErrorFunctionAndOne) || !b.is_map) return false;
  const OnnxValue& x = *a.origin->from;
  const bool halved = is_part(b, kHalf) && b.origin->from->id == x.id;
  if (!halved && b.id != x.id) return false;
  const OnnxValue y = call.activate(x, {Activation::Kind::kGelu});
  call.set(halved ? y : gelu_part(call.combine(Binary::Kind::kMul, y, 2), kTwice, y));
  return true;
}

template <Binary::Kind kind>
void fold(const OnnxCall& call) {
  if (call.inputs() == 2) {
    const OnnxValue &a = call.input(0), &b = call.input(1);
    const bool swaps = kind == Binary::Kind::kAdd || kind == Binary::Kind::kMul;
    if (take_gelu(call, kind, a, b) || (swaps && take_gelu(call, kind, b, a))) return;
  }
  OnnxValue sum = call.input(0);
  for (std::size_t i = 1; i < call.inputs(); ++i) sum = call.combine(kind, sum, call.input(i));
  call.set(sum);
}

void pow(const OnnxCall& call) {
  require(is_number(call.input(1), 2), "its exponent is not 2");
  const OnnxValue& x = call.map(0);
  call.set(call.combine(Binary::Kind::kMul, x, x));
}

// ---- activations -------------------------------------------------------------------------------

void activate(const OnnxCall& call, Activation op) {
  call.set(call.activate(call.map(0), op));
}

void prelu(const OnnxCall& call) {
  const OnnxValue& map = call.map(0);
  const OnnxConstantPtr slope = call.constant_ptr(1);
  Activation op{ActivationKind::kPrelu};
  if (slope->elements() == 1) {
    op.per_channel = false;
    return call.set(call.add(op, {map}, map, {{"weight", {slope, {slope->elements()}, {}}}}));
  }
  // One axis may have more than one slope, aligned at the last.
  const std::size_t rank = map.order.size(), given = slope->shape.size();
  int axis = -1;
  for (std::size_t i = 0; i < given && given <= rank; ++i) {
    if (slope->shape[i] == 1) continue;
    require(axis < 0, "its slopes are {}, expected one axis", shape_text(slope->shape));
    axis = static_cast<int>(rank - given + i);
  }
  require(axis >= 0, "its slopes are {}", shape_text(slope->shape));
  const OnnxValue x = call.with_last(map, axis);
  call.set(call.add(op, {x}, x, {{"weight", {slope, {slope->elements()}, {}}}}));
}

void clip(const OnnxCall& call) {
  constexpr double kMost = std::numeric_limits<float>::max();
  const auto bound = [&](std::size_t i, const char* name, double otherwise) {
    if (!call.has(i)) return call.attributes.number(name, otherwise);
    const OnnxConstant& given = call.constant(i);
    require(given.elements() == 1, "its {} is {}", name, shape_text(given.shape));
    return given.values()[0];
  };
  Activation op{ActivationKind::kClip};
  op.min = std::max(bound(1, "min", -kMost), -kMost);
  op.max = std::min(bound(2, "max", kMost), kMost);
  activate(call, op);
}

void gelu(const OnnxCall& call) {
  const std::string kind = call.attributes.text("approximate", "none");
  require(kind == "none" || kind == "tanh", "its approximation is {}", kind);
  activate(call, {kind == "tanh" ? ActivationKind::kGeluTanh : ActivationKind::kGelu});
}

void selu(const OnnxCall& call) {
  constexpr double kAlpha = 1.67326324, kGamma = 1.05070098;  // ONNX's defaults, which are SELU's
  require(std::abs(call.attributes.number("alpha", kAlpha) - kAlpha) < 1e-5 &&
              std::abs(call.attributes.number("gamma", kGamma) - kGamma) < 1e-5,
          "its alpha and gamma are not SELU's");
  activate(call, {ActivationKind::kSelu});
}

void mish(const OnnxCall& call) {
  const OnnxValue& x = call.map(0);
  const OnnxValue soft = call.add(Activation{ActivationKind::kSoftplus}, {x}, x, {}, "/softplus");
  const OnnxValue bent = call.add(Activation{ActivationKind::kTanh}, {soft}, x, {}, "/tanh");
  call.set(call.combine(Binary::Kind::kMul, x, bent));
}

template <ActivationKind kind>
void simple(const OnnxCall& call) {
  activate(call, {kind});
}

}  // namespace

const std::map<std::string_view, OnnxOperator>& onnx_elements() {
  static const std::map<std::string_view, OnnxOperator> table{
      {"Add", fold<Binary::Kind::kAdd>},
      {"Clip", clip},
      {"Div", fold<Binary::Kind::kDiv>},
      {"Elu",
       [](const OnnxCall& c) {
         activate(c, {.kind = ActivationKind::kElu, .alpha = c.attributes.number("alpha", 1)});
       }},
      {"Erf", erf},
      {"Gelu", gelu},
      {"HardSigmoid",
       [](const OnnxCall& c) {
         activate(c, {.kind = ActivationKind::kHardSigmoid,
                      .gain = c.attributes.number("alpha", 0.2),
                      .offset = c.attributes.number("beta", 0.5)});
       }},
      {"HardSwish", simple<ActivationKind::kHardSwish>},
      {"LeakyRelu",
       [](const OnnxCall& c) {
         activate(
             c, {.kind = ActivationKind::kLeakyRelu, .slope = c.attributes.number("alpha", 0.01)});
       }},
      {"Max", fold<Binary::Kind::kMax>},
      {"Mean",
       [](const OnnxCall& c) {
         OnnxValue sum = c.input(0);
         for (std::size_t i = 1; i < c.inputs(); ++i)
           sum = c.combine(Binary::Kind::kAdd, sum, c.input(i));
         c.set(c.combine(Binary::Kind::kMul, sum, 1.0 / static_cast<double>(c.inputs())));
       }},
      {"Min", fold<Binary::Kind::kMin>},
      {"Mish", mish},
      {"Mul", fold<Binary::Kind::kMul>},
      {"Neg", [](const OnnxCall& c) { c.set(c.combine(Binary::Kind::kMul, c.map(0), -1)); }},
      {"PRelu", prelu},
      {"Pow", pow},
      {"Relu", simple<ActivationKind::kRelu>},
      {"Selu", selu},
      {"Sigmoid", simple<ActivationKind::kSigmoid>},
      {"Softplus", simple<ActivationKind::kSoftplus>},
      {"Sub", fold<Binary::Kind::kSub>},
      {"Sum", fold<Binary::Kind::kAdd>},
      {"Tanh", simple<ActivationKind::kTanh>}};
  return table;
}

}  // namespace tessera
