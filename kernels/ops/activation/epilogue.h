// What passes put behind an operator's own arithmetic: a map that is added, as in residual
// networks, then an activation of any kind.
//
// Such an operator has one more input, its last, if `residual`, and with prelu one more weight, its
// last.
#pragma once

#include <array>
#include <optional>

#include "kernels/ops/activation/activation.h"

namespace tessera {

struct Epilogue {
  bool residual = false;  // of y's type
  // Of a piece, along rows and columns: y's element i adds the residual's i + offset, which may
  // hold more. None: both have one size.
  std::array<std::optional<std::int64_t>, 2> offset = {};
  std::optional<Activation> activation = std::nullopt;

  bool is_empty() const { return !residual && !activation; }
  bool operator==(const Epilogue&) const = default;
};

// Throws Error unless `inputs` end with a residual that covers y (n, ..., c), if there is one.
void check_epilogue(std::string_view op, const Epilogue& epilogue, const TensorType& y,
                    Types inputs);
// Appends "activation/weight", the slopes of prelu.
void add_parameters(const Epilogue& epilogue, const TensorType& y, std::vector<Parameter>& list);

// The residual's element that y's element `i` adds.
std::int64_t residual_index(const Epilogue& epilogue, const Shape& y, const Shape& residual,
                            std::int64_t i);
// Of `value`, y's element `i` as the operator's own arithmetic has it.
double reference_epilogue(const Epilogue& epilogue, const Operands& operands, std::int64_t i,
                          double value);

}  // namespace tessera
