// Embedding: y[i] = table[ids[i]]; table (words, features) in f32, bf16 or f16, y in f32.
//
// One thread copies and widens four neighbouring features of one row where the width allows, else
// one; neighbouring threads take neighbouring features, so a warp moves whole sectors.
// Roofline: memory; a table row and an output row per id, no FLOPs. Share of it: not measured yet.
// Oracle: reference.cpp, to the byte.
#include "kernels/cuda/element.cuh"
#include "kernels/ops/embedding/cuda.h"

namespace tessera {

namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMostBlocks = 65536;

template <class T, int kCount>
__global__ void __launch_bounds__(kThreads)
    embedding_kernel(const T* __restrict__ table, const std::int32_t* __restrict__ ids,
                     float* __restrict__ y, std::int64_t pieces, int words, int features) {
  const int row_pieces = features / kCount;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < pieces;
       i += std::int64_t{gridDim.x} * kThreads) {
    const std::int64_t row = i / row_pieces;
    const int id = min(max(ids[row], 0), words - 1);
    const std::int64_t first = (i - row * row_pieces) * kCount;
    float values[kCount];
    load_elements(table + std::int64_t{id} * features + first, values);
    store_elements(values, y + row * features + first);
  }
}

}  // namespace

void embedding_cuda(const EmbeddingArgs& args, CudaStream stream) {
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int kWide = 4;  // 16 bytes of y
    const auto launch = [&](auto* kernel, int width) {
      const std::int64_t pieces = args.count * (args.features / width);
      const std::int64_t blocks = (pieces + kThreads - 1) / kThreads;
      simt::launch(kernel, dim3(static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks)),
                   dim3(kThreads), 0, stream, static_cast<const T*>(args.table), args.ids, args.y,
                   pieces, args.words, args.features);
    };
    if (args.features % kWide == 0) {
      launch(embedding_kernel<T, kWide>, kWide);
    } else {
      launch(embedding_kernel<T, 1>, 1);
    }
  });
}

}  // namespace tessera
