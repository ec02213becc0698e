// The reference as a step: what an operator without a path of its own runs on.
#pragma once

#include "kernels/operator.h"

namespace tessera {

// `reference` reads any float type and writes f32; what `outputs` stores as bf16 or f16 is rounded.
Step reference_step(Types outputs, std::function<void(const Operands&)> reference);

// Elements of f32, rounded to the type of `to`, which has as many and is f32, bf16 or f16.
void store_f32(const float* from, const TensorView& to);

}  // namespace tessera
