#include "engine/train/initialise.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "engine/train/random.h"
#include "kernels/cpu/parallel.h"

namespace tessera {
namespace {

constexpr std::int64_t kPiece = 1 << 14;  // numbers that one thread draws in one go

// values[2 i], values[2 i + 1] = draw(i), the two parts of a pair.
template <class Draw>
void fill_pairs(std::span<float> values, int threads, const Draw& draw) {
  const auto count = static_cast<std::int64_t>(values.size());
  parallel_for(threads, (count + kPiece - 1) / kPiece, [&](std::int64_t piece) {
    const auto end = static_cast<std::size_t>(std::min(count, (piece + 1) * kPiece));
    for (auto i = static_cast<std::size_t>(piece * kPiece); i < end; i += 2) {
      const std::pair<double, double> pair = draw(i / 2);
      values[i] = static_cast<float>(pair.first);
      if (i + 1 < end) values[i + 1] = static_cast<float>(pair.second);
    }
  });
}

// The values of one tensor, from its start.
void draw(const Start& start, std::uint64_t seed, const std::string& name, FloatTensor& tensor,
          int threads) {
  const std::uint64_t stream = stream_of("weight/" + name);
  const Random random(seed, stream);
  switch (start.kind) {
    case Start::Kind::kConstant:
      std::ranges::fill(tensor.values, static_cast<float>(start.size));
      std::fill(tensor.values.begin() + start.ones_begin, tensor.values.begin() + start.ones_end,
                1.0f);
      break;
    case Start::Kind::kNormal:
      fill_pairs(tensor.values, threads, [&](std::size_t i) {
        const auto [a, b] = random.normals_at(i);
        return std::pair(start.size * a, start.size * b);
      });
      break;
    case Start::Kind::kUniform:
      fill_pairs(tensor.values, threads, [&](std::size_t i) {
        const auto [a, b] = random.uniforms_at(i);
        return std::pair(start.size * (2 * a - 1), start.size * (2 * b - 1));
      });
      break;
    case Start::Kind::kOrthogonal:
      draw_orthogonal(tensor.shape[0], tensor.shape[1], seed, stream, tensor.values);
      break;
  }
}

// sum of a[i] b[i], in eight parts so that the loop is not one chain of additions.
double dot(const double* a, const double* b, std::size_t count) {
  constexpr std::size_t kParts = 8;
  double parts[kParts] = {};
  std::size_t i = 0;
  for (; i + kParts <= count; i += kParts) {
    for (std::size_t j = 0; j < kParts; ++j) parts[j] += a[i + j] * b[i + j];
  }
  double sum = 0;
  for (; i < count; ++i) sum += a[i] * b[i];
  for (const double part : parts) sum += part;
  return sum;
}

}  // namespace

void draw_orthogonal(std::int64_t rows, std::int64_t columns, std::uint64_t seed,
                     std::uint64_t stream, std::span<float> matrix) {
  // `count` vectors of `length` numbers each, made orthonormal one after another: modified
  // Gram-Schmidt is the QR factorisation with a positive diagonal. In double its loss of
  // orthogonality on a normal matrix stays far below the rounding to f32.
  const auto length = static_cast<std::size_t>(std::max(rows, columns));
  const auto count = static_cast<std::size_t>(std::min(rows, columns));
  Random random(seed, stream);
  std::vector<double> vectors(length * count);
  for (double& value : vectors) value = random.normal();
  for (std::size_t i = 0; i < count; ++i) {
    double* const vector = vectors.data() + i * length;
    const double norm = std::sqrt(dot(vector, vector, length));
    for (std::size_t j = 0; j < length; ++j) vector[j] /= norm;
    for (std::size_t k = i + 1; k < count; ++k) {
      double* const other = vectors.data() + k * length;
      const double along = dot(vector, other, length);
      for (std::size_t j = 0; j < length; ++j) other[j] -= along * vector[j];
    }
  }
  // The vectors are the columns of a tall matrix, the rows of a wide one.
  const std::size_t across = rows >= columns ? 1 : length;
  const std::size_t along = rows >= columns ? count : 1;
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t j = 0; j < length; ++j)
      matrix[i * across + j * along] = static_cast<float>(vectors[i * length + j]);
  }
}

FloatTensors initial_weights(const Graph& graph, Types inputs, std::uint64_t seed, int threads) {
  const std::vector<TensorType> types = infer_types(graph, inputs);
  FloatTensors tensors;
  for (const Node& node : graph.nodes) {
    for (const Parameter& parameter : parameters_of(node, input_types(node, types))) {
      const std::string name = weight_name(node, parameter.name);
      const auto [entry, is_new] = tensors.try_emplace(name);
      if (!is_new) {
        require(entry->second.shape == parameter.shape,
                "'{}' is shared by nodes that want it {} and {}", name, entry->second.shape,
                parameter.shape);
        continue;
      }
      FloatTensor& tensor = entry->second;
      tensor = FloatTensor(parameter.shape);
      draw(parameter.start, seed, name, tensor, threads);
    }
  }
  return tensors;
}

}  // namespace tessera
