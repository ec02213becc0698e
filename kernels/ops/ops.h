// The only list of operators there is. Adding one: its folder, then one word here; the compiler
// says what the operator lacks.
#pragma once

#include <string_view>
#include <variant>

#include "kernels/ops/activation/activation.h"
#include "kernels/ops/argmax/argmax.h"
#include "kernels/ops/attention/attention.h"
#include "kernels/ops/avg_pool/avg_pool.h"
#include "kernels/ops/batch_norm/batch_norm.h"
#include "kernels/ops/binary/binary.h"
#include "kernels/ops/concat/concat.h"
#include "kernels/ops/conv/conv.h"
#include "kernels/ops/conv_transpose/conv_transpose.h"
#include "kernels/ops/crop_concat/crop_concat.h"
#include "kernels/ops/dropout/dropout.h"
#include "kernels/ops/embedding/embedding.h"
#include "kernels/ops/group_norm/group_norm.h"
#include "kernels/ops/head/head.h"
#include "kernels/ops/layer_norm/layer_norm.h"
#include "kernels/ops/linear/linear.h"
#include "kernels/ops/max_pool/max_pool.h"
#include "kernels/ops/pad/pad.h"
#include "kernels/ops/reduce/reduce.h"
#include "kernels/ops/reshape/reshape.h"
#include "kernels/ops/resize/resize.h"
#include "kernels/ops/rnn/rnn.h"
#include "kernels/ops/slice/slice.h"
#include "kernels/ops/softmax/softmax.h"
#include "kernels/ops/transpose/transpose.h"
#include "kernels/ops/upsample/upsample.h"

namespace tessera {

// What kernels/operator.h asks of an operator.
template <class Op>
concept Operator = std::equality_comparable<Op> &&
    requires(Op op, const Op& same, Types inputs, const Operands& operands, const Along& along,
             Extent& piece, std::span<const Interval> wanted) {
  { Op::kName } -> std::convertible_to<std::string_view>;
  fields(IgnoreFields(), op);
  fields(IgnoreFields(), same);
  { infer(same, inputs) } -> std::same_as<std::vector<TensorType>>;
  { parameters(same, inputs) } -> std::same_as<std::vector<Parameter>>;
  { cost(same, inputs) } -> std::same_as<Cost>;
  { extent(same, along, wanted) } -> std::same_as<Extent>;
  { part(same, along, piece) } -> std::same_as<Op>;
  reference(same, operands);
};

template <class... Ops>
struct OpList {
  template <class One>
  static constexpr bool check() {
    static_assert(Operator<One>);  // by itself, so that the compiler names it and what it lacks
    return true;
  }
  static_assert((check<Ops>() && ...));
  using Any = std::variant<Ops...>;
};

using Op = OpList<Activation, Argmax, Attention, AvgPool, BatchNorm, Binary, BiRnn, Concat, Conv,
                  ConvTranspose, CropConcat, Dropout, Embedding, GroupNorm, Head, LayerNorm, Linear,
                  MaxPool, Pad, Reduce, Reshape, Resize, Slice, Softmax, Transpose, Upsample>::Any;

}  // namespace tessera
