// ONNX's operators over classes: what the end of a network computes.
#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "kernels/error.h"
#include "models/import/onnx_converter.h"

namespace tessera {
namespace {

using Extents = std::vector<std::int64_t>;
using Origin = OnnxValue::Origin;

void softmax(const OnnxCall& call) {
  const OnnxValue& map = call.map(0);
  const Extents shape = call.shape(map);
  const bool older = call.opset() < 13;  // takes all axes from `axis` on for one
  const int axis = call.axis(map, call.attributes.integer("axis", older ? 1 : -1));
  std::int64_t rest = 1;
  for (std::size_t i = static_cast<std::size_t>(axis) + 1; i < shape.size(); ++i) rest *= shape[i];
  if (!older || rest == 1) {
    const OnnxValue x = call.with_last(map, axis);
    return call.set(call.add(Softmax(), {x}, x));
  }
  const std::int64_t all =
      std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
  const std::int64_t row = rest * shape[static_cast<std::size_t>(axis)];
  const OnnxValue x = call.reshape(map, {all / row, row});
  call.set(call.reshape(call.add(Softmax(), {x}, x), shape));
}

void arg_max(const OnnxCall& call) {
  const OnnxValue& map = call.map(0);
  const int axis = call.axis(map, call.attributes.integer("axis", 0));
  Extents shape = call.shape(map);
  const auto at = static_cast<std::size_t>(axis);
  require(call.attributes.integer("select_last_index", 0) == 0 && shape[at] > 1,
          "it selects the last of equals, or among one");
  const OnnxValue x = call.with_last(map, axis);
  OnnxValue y = x;
  y.order.pop_back();
  for (int& other : y.order) other -= other > axis ? 1 : 0;
  y = call.add(Argmax(), {x}, y);
  shape[at] = 1;
  call.set(call.attributes.integer("keepdims", 1) != 0 ? call.reshape(y, shape) : y);
}

bool is_half(const OnnxValue& value) {
  return value.constant && value.constant->elements() == 1 && value.constant->values()[0] == 0.5;
}

// Class 1 of one channel, where its probability is above a half: all that is compared here.
void greater(const OnnxCall& call) {
  const OnnxValue& map = call.map(0);
  const Extents shape = call.shape(map);
  require(shape.size() == 4 && shape[1] == 1 && is_half(call.input(1)),
          "it compares otherwise than the probability of one channel with 0.5");
  const OnnxValue x = call.image(map);
  OnnxValue mask = x;
  mask.order = {0, 1, 2};
  mask = call.add(Argmax(), {x}, mask);
  OnnxValue y = call.reshape(mask, shape);
  y.origin = std::make_shared<Origin>(
      Origin{Origin::Kind::kReshape, std::make_shared<OnnxValue>(mask), {}});
  call.set(y);
}

// Log-sum-exp by pairs, ln(e^a + e^b) = a + softplus(b - a), is subtracted from x.
void log_softmax(const OnnxCall& call) {
  constexpr std::int64_t kMostChannels = 256;
  const OnnxValue& map = call.map(0);
  const bool older = call.opset() < 13;  // takes all axes from `axis` on for one
  const int axis = call.axis(map, call.attributes.integer("axis", older ? 1 : -1));
  const Extents shape = call.shape(map);
  const std::int64_t channels = shape[static_cast<std::size_t>(axis)];
  for (std::size_t i = static_cast<std::size_t>(axis) + 1; older && i < shape.size(); ++i)
    require(shape[i] == 1, "it takes several axes for one, as opsets before 13 do");
  require(channels <= kMostChannels, "it is of {} channels, at most {} are supported", channels,
          kMostChannels);
  const OnnxValue x = call.with_last(map, axis);
  const auto channel = [&](std::int64_t i) {
    const auto at = static_cast<int>(i);
    return call.add(Slice{{at}, {at + 1}, {static_cast<int>(x.order.size()) - 1}, {1}}, {x}, x, {},
                    "/channel");
  };
  OnnxValue sum = channel(0);
  for (std::int64_t i = 1; i < channels; ++i) {
    const OnnxValue more = call.add(Binary{Binary::Kind::kSub}, {channel(i), sum}, x, {}, "/more");
    const OnnxValue soft =
        call.add(Activation{Activation::Kind::kSoftplus}, {more}, x, {}, "/softplus");
    sum = call.add(Binary{}, {sum, soft}, x, {}, "/sum");
  }
  call.set(call.add(Binary{Binary::Kind::kSub}, {x, sum}, x));
}

}  // namespace

const std::map<std::string_view, OnnxOperator>& onnx_classes() {
  static const std::map<std::string_view, OnnxOperator> table{
      {"ArgMax", arg_max}, {"Greater", greater}, {"LogSoftmax", log_softmax}, {"Softmax", softmax}};
  return table;
}

}  // namespace tessera
