// The weights that training starts from, as published for each kind of layer.
//
//   Conv, ConvTranspose   normal of deviation sqrt(2 / N), N the inputs of one output value, biases
//                         0: He et al. 2015 eq. 10, Ronneberger et al. 2015 section 3. For a
//                         transposed convolution of stride 2, N = c_in k^2 / 4: as many of its taps
//                         reach an output pixel, on average.
//   BatchNorm             gamma 1, beta 0, mean 0, variance 1 (Ioffe & Szegedy 2015)
//   BiRnn                 as Keras: weight_ih Glorot uniform over all gates as one matrix
//   (features,
//                         g units); weight_hh, (units, g units) in Keras, one orthogonal draw for
//                         all gates (Saxe et al. 2014); biases 0, but 1 for an LSTM's forget gate
//                         (unit_forget_bias; Jozefowicz et al. 2015), in bias_ih alone
//   Linear, Attention     Glorot uniform, +- sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010
//                         eq. 16), biases 0; the context vector likewise with fan_in = fan_out = a,
//                         as Keras does for a vector
//   Embedding             uniform in +- 0.05, Keras' default
//
// Each tensor's numbers follow from the seed, its name and its shape alone: adding a layer leaves
// those of the others as they were, and the number of threads changes nothing.
#pragma once

#include <cstdint>
#include <span>

#include "engine/graph/graph.h"
#include "engine/train/float_tensor.h"

namespace tessera {

// All weights of `graph` for inputs of these types. Nodes that share a tensor get one. Throws Error
// where the types do not fit, or where nodes share a name and not a shape.
FloatTensors initial_weights(const Graph& graph, Types inputs, std::uint64_t seed, int threads);

// A (rows, columns) matrix with orthonormal columns, rows >= columns, or else orthonormal rows,
// uniform among all such (Saxe et al. 2014): the Q of a normal matrix whose R has a positive
// diagonal, as Keras' Orthogonal and PyTorch's orthogonal_ draw it.
void draw_orthogonal(std::int64_t rows, std::int64_t columns, std::uint64_t seed,
                     std::uint64_t stream, std::span<float> matrix);

}  // namespace tessera
