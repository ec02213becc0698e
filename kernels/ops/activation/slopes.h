// The slopes of leaky_relu and prelu as vectors read them.
#pragma once

#include <vector>

#include "kernels/cpu/convert.h"
#include "kernels/ops/activation/activation.h"

namespace tessera {

// One for each of `count` channels, and for those of a vector behind the last; 0 where the kind has
// no slopes, so that places in them can be told. `learned` are those of prelu, repeated if they are
// fewer.
inline std::vector<float> slopes_of(const Activation& op, const TensorView* learned,
                                    std::size_t count) {
  constexpr std::size_t kMaxLanes = 16;  // of any target
  if (op.kind == Activation::Kind::kLeakyRelu)
    return std::vector<float>(count + kMaxLanes, static_cast<float>(op.slope));
  std::vector<float> slopes(count + kMaxLanes);
  if (op.kind != Activation::Kind::kPrelu) return slopes;
  const std::vector<float> values = to_f32(*learned);
  for (std::size_t i = 0; i < slopes.size(); ++i) slopes[i] = values[i % values.size()];
  return slopes;
}

}  // namespace tessera
