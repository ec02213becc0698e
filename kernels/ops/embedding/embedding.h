// Embedding: one row of the table per word id. An id outside the table is an error of the run.
//
// inputs:  ids (...), i32     weights: weight (words, features), f32, bf16 or f16
// outputs: y (..., features), f32
#pragma once

#include "kernels/operator.h"

namespace tessera {

struct Embedding {
  static constexpr std::string_view kName = "embedding";
  int words = 0;
  int features = 0;

  bool operator==(const Embedding&) const = default;
};

// Of a table that no word vectors fill.
inline const Start kEmbeddingStart = uniform(0.05);

void fields(auto&& visit, Of<Embedding> auto& op) {
  visit("words", op.words, Range{1, 1 << 30});
  visit("features", op.features, Range{1, 1 << 20});
}
std::vector<TensorType> infer(const Embedding& op, Types inputs);
std::vector<Parameter> parameters(const Embedding& op, Types inputs);
Cost cost(const Embedding& op, Types inputs);
Extent extent(const Embedding& op, const Along& along, std::span<const Interval> wanted);
Embedding part(const Embedding& op, const Along& along, Extent& piece);
void reference(const Embedding& op, const Operands& operands);

// Throws unless each of the i32 `ids` is a row of the table; the text names the first that is not.
void require_ids(const Embedding& op, const TensorView& ids);

// Copies `count` rows of a table (..., width) of f32, bf16 or f16 to y (count, width).
void copy_rows_f32(const TensorView& table, const std::int64_t* rows, std::int64_t count, float* y);

}  // namespace tessera
