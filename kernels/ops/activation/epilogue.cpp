#include "kernels/ops/activation/epilogue.h"

#include "kernels/check.h"
#include "kernels/cpu/convert.h"
#include "kernels/ops/activation/formulas.h"

namespace tessera {

void check_epilogue(std::string_view op, const Epilogue& epilogue, const TensorType& y,
                    Types inputs) {
  if (epilogue.activation) infer(*epilogue.activation, {&y, 1});
  if (!epilogue.residual) return;
  const TensorType& x = inputs.back();
  bool covers = x.dtype == y.dtype && x.shape.rank() == y.shape.rank();
  for (int axis = 0; covers && axis < y.shape.rank(); ++axis) {
    const bool may_be_cut = y.shape.rank() == 4 && (axis == 1 || axis == 2);
    const auto offset = may_be_cut ? epilogue.offset[static_cast<std::size_t>(axis - 1)]
                                   : std::optional<std::int64_t>();
    covers = offset ? *offset >= 0 && *offset + y.shape[axis] <= x.shape[axis]
                    : y.shape[axis] == x.shape[axis];
  }
  require(covers, "{}: its residual is {}, but its output {}: both must be of one type and size",
          op, x, y);
}

void add_parameters(const Epilogue& epilogue, const TensorType& y, std::vector<Parameter>& list) {
  if (!epilogue.activation) return;
  for (Parameter& p : parameters(*epilogue.activation, {&y, 1})) {
    p.name = "activation/" + p.name;
    list.push_back(std::move(p));
  }
}

std::int64_t residual_index(const Epilogue& epilogue, const Shape& y, const Shape& residual,
                            std::int64_t i) {
  if (y == residual) return i;  // the only case of other ranks than 4
  const std::int64_t c = i % y[3], column = i / y[3] % y[2], row = i / y[3] / y[2] % y[1];
  const std::int64_t n = i / y[3] / y[2] / y[1];
  const auto& [down, right] = epilogue.offset;
  return ((n * residual[1] + row + down.value_or(0)) * residual[2] + column + right.value_or(0)) *
             residual[3] +
         c;
}

double reference_epilogue(const Epilogue& epilogue, const Operands& operands, std::int64_t i,
                          double value) {
  const Shape& y = operands.outputs[0].shape();
  if (epilogue.residual) {
    const TensorView& residual = operands.inputs.back();
    value += element_f32(residual, residual_index(epilogue, y, residual.shape(), i));
  }
  if (!epilogue.activation) return value;
  const Activation& op = *epilogue.activation;
  double slope = 0;
  if (op.kind == Activation::Kind::kPrelu)
    slope = element_f32(operands.weights.back(), op.per_channel ? i % y[-1] : 0);
  return activate(op, value, slope);
}

}  // namespace tessera
