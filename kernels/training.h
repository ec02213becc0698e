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
#include "kernels/rnn/backward.h"
#include "kernels/softmax/backward.h"
#include "kernels/upsample/backward.h"
