// The stream that work is enqueued on: cudaStream_t, without a CUDA header.
#pragma once

struct CUstream_st;

namespace tessera {
using CudaStream = CUstream_st*;
}
