// The operators of golden cases, from the attributes that the cases have in inference and training.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "kernels/ops/ops.h"

namespace tessera::test {

// The operator whose `fields` the attributes name; those that they leave out keep their defaults.
// `others` are attributes that the caller reads itself; any further one is an error.
template <class Op>
Op filled(const nlohmann::json& attributes, std::initializer_list<std::string_view> others = {}) {
  Op op;
  std::size_t known = 0;
  const auto fill = [&](std::string_view name, auto& attribute, auto...) {
    const auto found = attributes.find(std::string(name));
    if (found == attributes.end()) return;
    ++known;
    using T = std::decay_t<decltype(attribute)>;
    if constexpr (std::is_enum_v<T>) {
      const auto names = names_of(T{});
      const auto at = std::find(names.begin(), names.end(), found->get<std::string>());
      require(at != names.end(), "{} is {}, which is none of its choices", name, found->dump());
      attribute = static_cast<T>(at - names.begin());
    } else {
      found->get_to(attribute);
    }
  };
  fields(fill, op);
  for (const std::string_view other : others) known += attributes.count(std::string(other));
  require(known == attributes.size(), "{} does not have all attributes of {}", Op::kName,
          attributes.dump());
  return op;
}

// The same as a function, for attributes that are all the operator's.
template <class Op>
Op filled_op(const nlohmann::json& attributes) {
  return filled<Op>(attributes);
}

inline Conv conv_of(const nlohmann::json& attributes) {
  Conv op;
  op.c_out = attributes.at("c_out");
  const int kernel = attributes.at("kernel");
  op.window = attributes.at("padding") == "same" ? same(kernel) : square(kernel);
  op.bias = attributes.at("bias");
  op.relu = attributes.at("relu");
  return op;
}

inline ConvTranspose conv_transpose_of(const nlohmann::json& attributes) {
  return {attributes.at("c_out"), attributes.at("kernel"), attributes.at("bias"),
          attributes.at("relu")};
}

}  // namespace tessera::test
