// The attributes of operators as JSON and as text: visitors over their `fields`
// (kernels/operator.h).
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "engine/files/json_fields.h"
#include "kernels/ops/ops.h"

namespace tessera {

// The attributes in which `op` differs from a new operator of its kind: {"c_out": 64}. Those keep
// their meaning, because a published default never changes.
nlohmann::json attributes_of(const Op& op);

// The operator called `name`, with the attributes that `members` holds; the caller refuses what is
// left over. Throws Error for an unknown operator, and for an attribute of the wrong type or out of
// its range.
Op read_op(std::string_view name, JsonFields& members);

// Throws Error where an attribute of `op` is out of its range: for who makes operators otherwise.
void check_attributes(const Op& op);

// "c_out 64, kernel 3x3, pads 1": what a reader wants to know; a default that does nothing (a
// stride of 1, no pads) is left out.
std::string attributes_text(const Op& op);

}  // namespace tessera
