// The training contract of every operator that a model is trained with.
#pragma once

#include "kernels/activation/backward.h"
#include "kernels/attention/backward.h"
#include "kernels/batch_norm/backward.h"
#include "kernels/conv/backward.h"
#include "kernels/conv_transpose/backward.h"
#include "kernels/crop_concat/backward.h"
#include "kernels/dropout/backward.h"
#include "kernels/embedding/backward.h"
#include "kernels/linear/backward.h"
#include "kernels/max_pool/backward.h"
#include "kernels/ops.h"
#include "kernels/rnn/backward.h"
#include "kernels/softmax/backward.h"
#include "kernels/upsample/backward.h"

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
