#include "engine/train/initialise.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "engine/train/random.h"
#include "kernels/cpu/parallel.h"

namespace tessera {
namespace {

constexpr double kEmbeddingLimit = 0.05;
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

// What draws one tensor.
class Drawer {
 public:
  Drawer(std::uint64_t seed, const std::string& name, FloatTensor& tensor, int threads)
      : seed_(seed), stream_(stream_of("weight/" + name)), tensor_(tensor), threads_(threads) {}

  void normal(double deviation) const {
    const Random random(seed_, stream_);
    fill_pairs(tensor_.values, threads_, [&](std::size_t i) {
      const auto [a, b] = random.normals_at(i);
      return std::pair(deviation * a, deviation * b);
    });
  }

  void uniform(double limit) const {
    const Random random(seed_, stream_);
    fill_pairs(tensor_.values, threads_, [&](std::size_t i) {
      const auto [a, b] = random.uniforms_at(i);
      return std::pair(limit * (2 * a - 1), limit * (2 * b - 1));
    });
  }

  void glorot(std::int64_t fan_in, std::int64_t fan_out) const {
    uniform(std::sqrt(6.0 / static_cast<double>(fan_in + fan_out)));
  }

  void he(double fan_in) const { normal(std::sqrt(2 / fan_in)); }

  void constant(float value) const { std::ranges::fill(tensor_.values, value); }

  void orthogonal() const {
    draw_orthogonal(tensor_.shape[0], tensor_.shape[1], seed_, stream_, tensor_.values);
  }

 private:
  std::uint64_t seed_;
  std::uint64_t stream_;
  FloatTensor& tensor_;
  int threads_;
};

void draw_glorot_matrix(const Drawer& draw, const Shape& shape) {
  draw.glorot(shape[1], shape[0]);  // (fan_out, fan_in), PyTorch's layout
}

// initialise(op, parameter, shape, tensor, draw) for each kind of operator; `parameter` is the name
// below the node's.
void initialise_norm(std::string_view parameter, const Drawer& draw) {
  draw.constant(parameter == "weight" || parameter == "running_var" ? 1.0f : 0.0f);
}

void initialise(const BatchNorm&, std::string_view parameter, FloatTensor&, const Drawer& draw) {
  initialise_norm(parameter, draw);
}

void initialise(const Conv&, std::string_view parameter, FloatTensor& tensor, const Drawer& draw) {
  constexpr std::string_view kNorm = "norm/";
  if (parameter.starts_with(kNorm))
    initialise_norm(parameter.substr(kNorm.size()), draw);
  else if (parameter == "weight")
    draw.he(static_cast<double>(tensor.shape.elements(1, tensor.shape.rank())));
  else
    draw.constant(0);
}

// The head of a fused graph is a 1x1 convolution.
void initialise(const Head&, std::string_view parameter, FloatTensor& tensor, const Drawer& draw) {
  initialise(Conv{}, parameter, tensor, draw);
}

void initialise(const ConvTranspose&, std::string_view parameter, FloatTensor& tensor,
                const Drawer& draw) {
  constexpr double kStrideArea = 4;   // output pixels that the taps of one input pixel share
  const Shape& shape = tensor.shape;  // (c_in, c_out, k, k)
  if (parameter == "weight")
    draw.he(static_cast<double>(shape[0] * shape[2] * shape[3]) / kStrideArea);
  else
    draw.constant(0);
}

void initialise(const Linear&, std::string_view parameter, FloatTensor& tensor,
                const Drawer& draw) {
  if (parameter == "weight")
    draw_glorot_matrix(draw, tensor.shape);
  else
    draw.constant(0);
}

void initialise(const Attention&, std::string_view parameter, FloatTensor& tensor,
                const Drawer& draw) {
  if (parameter.ends_with("weight"))  // the dense layer's too
    draw_glorot_matrix(draw, tensor.shape);
  else if (parameter == "context")
    draw.glorot(tensor.shape[0], tensor.shape[0]);
  else
    draw.constant(0);
}

void initialise(const Embedding&, std::string_view, FloatTensor&, const Drawer& draw) {
  draw.uniform(kEmbeddingLimit);
}

void initialise(const BiRnn& op, std::string_view parameter, FloatTensor& tensor,
                const Drawer& draw) {
  if (parameter == "embedding") {
    draw.uniform(kEmbeddingLimit);
  } else if (parameter.starts_with("weight_ih")) {
    draw_glorot_matrix(draw, tensor.shape);
  } else if (parameter.starts_with("weight_hh")) {
    draw.orthogonal();
  } else {
    draw.constant(0);
    if (op.cell == BiRnn::Cell::kLstm && parameter.starts_with("bias_ih")) {
      const auto forget = tensor.values.begin() + op.units;  // the second of i, f, g, o
      std::fill(forget, forget + op.units, 1.0f);
    }
  }
}

// An operator that has parameters and no rule above does not compile.
template <class Op>
void initialise(const Op&, std::string_view, FloatTensor&, const Drawer&) {
  static_assert(std::is_same_v<Op, Activation> || std::is_same_v<Op, Argmax> ||
                    std::is_same_v<Op, CropConcat> || std::is_same_v<Op, Dropout> ||
                    std::is_same_v<Op, MaxPool> || std::is_same_v<Op, Softmax> ||
                    std::is_same_v<Op, Upsample>,
                "say how the operator's weights start");
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
                "'{}' is shared by nodes that want it {} and {}", name,
                entry->second.shape.to_string(), parameter.shape.to_string());
        continue;
      }
      FloatTensor& tensor = entry->second;
      tensor = FloatTensor(parameter.shape);
      const Drawer draw(seed, name, tensor, threads);
      std::visit([&](const auto& op) { initialise(op, parameter.name, tensor, draw); }, node.op);
    }
  }
  return tensors;
}

}  // namespace tessera
