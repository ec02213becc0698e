// The only list of operators there is. Adding one: its folder, then one word here; the compiler
// lists what is missing.
#pragma once

#include <string_view>
#include <variant>

#include "kernels/activation/activation.h"
#include "kernels/argmax/argmax.h"
#include "kernels/attention/attention.h"
#include "kernels/batch_norm/batch_norm.h"
#include "kernels/conv/conv.h"
#include "kernels/conv_transpose/conv_transpose.h"
#include "kernels/crop_concat/crop_concat.h"
#include "kernels/dropout/dropout.h"
#include "kernels/embedding/embedding.h"
#include "kernels/head/head.h"
#include "kernels/linear/linear.h"
#include "kernels/max_pool/max_pool.h"
#include "kernels/rnn/rnn.h"
#include "kernels/softmax/softmax.h"
#include "kernels/upsample/upsample.h"

namespace tessera {

using Op = std::variant<Activation, Argmax, Attention, BatchNorm, BiRnn, Conv, ConvTranspose,
                        CropConcat, Dropout, Embedding, Head, Linear, MaxPool, Softmax, Upsample>;

}  // namespace tessera
