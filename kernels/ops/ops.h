// The only list of operators there is. Adding one: its folder, then one word here; the compiler
// lists what is missing.
#pragma once

#include <string_view>
#include <variant>

#include "kernels/ops/activation/activation.h"
#include "kernels/ops/argmax/argmax.h"
#include "kernels/ops/attention/attention.h"
#include "kernels/ops/batch_norm/batch_norm.h"
#include "kernels/ops/conv/conv.h"
#include "kernels/ops/conv_transpose/conv_transpose.h"
#include "kernels/ops/crop_concat/crop_concat.h"
#include "kernels/ops/dropout/dropout.h"
#include "kernels/ops/embedding/embedding.h"
#include "kernels/ops/head/head.h"
#include "kernels/ops/linear/linear.h"
#include "kernels/ops/max_pool/max_pool.h"
#include "kernels/ops/rnn/rnn.h"
#include "kernels/ops/softmax/softmax.h"
#include "kernels/ops/upsample/upsample.h"

namespace tessera {

using Op = std::variant<Activation, Argmax, Attention, BatchNorm, BiRnn, Conv, ConvTranspose,
                        CropConcat, Dropout, Embedding, Head, Linear, MaxPool, Softmax, Upsample>;

}  // namespace tessera
