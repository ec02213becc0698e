// The training contract of every operator that a model is trained with.
#pragma once

#include "kernels/ops/activation/train/backward.h"
#include "kernels/ops/attention/train/backward.h"
#include "kernels/ops/batch_norm/train/backward.h"
#include "kernels/ops/conv/train/backward.h"
#include "kernels/ops/conv_transpose/train/backward.h"
#include "kernels/ops/crop_concat/train/backward.h"
#include "kernels/ops/dropout/train/backward.h"
#include "kernels/ops/embedding/train/backward.h"
#include "kernels/ops/linear/train/backward.h"
#include "kernels/ops/max_pool/train/backward.h"
#include "kernels/ops/ops.h"
#include "kernels/ops/rnn/train/backward.h"
#include "kernels/ops/softmax/train/backward.h"
#include "kernels/ops/upsample/train/backward.h"

namespace tessera {

template <class T>
concept Trainable = requires(const T& op, Types types) {
  saved_for_backward(op, types);
};

// work(op) with the operator's own type. Throws where models are not trained with it.
template <class Result, class Work>
Result visit_trainable(const Op& any, const Work& work) {
  return std::visit(
      [&](const auto& op) -> Result {
        if constexpr (Trainable<std::decay_t<decltype(op)>>) return work(op);
        fail("this operator is not for training; build the graph with training_graph()");
      },
      any);
}

}  // namespace tessera
