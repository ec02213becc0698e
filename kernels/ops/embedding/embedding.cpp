#include "kernels/ops/embedding/embedding.h"

#include <algorithm>

namespace tessera {

std::vector<TensorType> infer(const Embedding& op, Types inputs) {
  require(op.words > 0 && op.features > 0,
          "embedding: words and features must be positive, not {} and {}", op.words, op.features);
  require(inputs.size() == 1, "embedding: expected 1 input (ids), found {}", inputs.size());
  const TensorType& ids = inputs[0];
  require(ids.dtype == DType::kI32, "embedding: ids must be i32 (...), not {}", ids);
  require(ids.shape.rank() < Shape::kMaxRank, "embedding: ids have at most {} axes, not {}",
          Shape::kMaxRank - 1, ids.shape);
  std::vector<std::int64_t> dims(ids.shape.dims().begin(), ids.shape.dims().end());
  dims.push_back(op.features);
  return {{DType::kF32, Shape(dims)}};
}

std::vector<Parameter> parameters(const Embedding& op, Types) {
  return {{"weight", {op.words, op.features}, Role::kTable, kEmbeddingStart}};
}

Cost cost(const Embedding& op, Types inputs) {
  // Of the table, only the rows that are looked up move.
  const auto ids = static_cast<double>(inputs[0].shape.elements());
  const double row = 4.0 * op.features;
  return {0, 4 * ids + row * std::min(ids, static_cast<double>(op.words)) + row * ids};
}

void require_ids(const Embedding& op, const TensorView& ids) {
  const auto* id = ids.as<std::int32_t>();
  const std::int64_t count = ids.shape().elements();
  for (std::int64_t i = 0; i < count; ++i) {
    if (id[i] >= 0 && id[i] < op.words) [[likely]]
      continue;  // before any text is made
    fail(
        "embedding: id {} at position {} of ids {} is outside the table of {} words; use the "
        "vocabulary that the model was trained with",
        id[i], i, ids.shape(), op.words);
  }
}

Extent extent(const Embedding&, const Along& along, std::span<const Interval> wanted) {
  return elementwise_extent(along, wanted);
}

Embedding part(const Embedding& op, const Along&, Extent& piece) {
  take_all(piece);
  return op;
}

}  // namespace tessera
