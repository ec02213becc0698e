// The training contract of every operator that has a backward run. Others may stand where no
// gradient comes by: before the first weight that is trained.
#pragma once

#include "kernels/ops/activation/train/backward.h"
#include "kernels/ops/attention/train/backward.h"
#include "kernels/ops/avg_pool/train/backward.h"
#include "kernels/ops/batch_norm/train/backward.h"
#include "kernels/ops/binary/train/backward.h"
#include "kernels/ops/concat/train/backward.h"
#include "kernels/ops/conv/train/backward.h"
#include "kernels/ops/conv_transpose/train/backward.h"
#include "kernels/ops/crop_concat/train/backward.h"
#include "kernels/ops/dropout/train/backward.h"
#include "kernels/ops/embedding/train/backward.h"
#include "kernels/ops/group_norm/train/backward.h"
#include "kernels/ops/linear/train/backward.h"
#include "kernels/ops/max_pool/train/backward.h"
#include "kernels/ops/ops.h"
#include "kernels/ops/reduce/train/backward.h"
#include "kernels/ops/resize/train/backward.h"
#include "kernels/ops/rnn/train/backward.h"
#include "kernels/ops/softmax/train/backward.h"
#include "kernels/ops/upsample/train/backward.h"

namespace tessera {

template <class T>
concept Trainable = requires(const T& op, Types types) {
  saved_for_backward(op, types);
};

// work(op) with the operator's own type. Throws where it has no backward run.
template <class Result, class Work>
Result visit_trainable(const Op& any, const Work& work) {
  return std::visit(
      [&](const auto& op) -> Result {
        if constexpr (Trainable<std::decay_t<decltype(op)>>) return work(op);
        fail("{} has no backward run", std::decay_t<decltype(op)>::kName);
      },
      any);
}

}  // namespace tessera
