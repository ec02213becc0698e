// The step of an optimiser on a GPU: the arithmetic of update.h on all tensors in one launch.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/train/optimiser/update.h"

namespace tessera {

// Elements [begin, begin + count) of a tensor: the work of one block.
struct OptimiserPiece {
  int tensor;
  std::int64_t begin;
  int count;
};

// Elements of a piece at most: enough loads in flight for a block, enough blocks for a small model.
// A multiple of 4, so that pieces begin at multiples of 16 bytes.
constexpr int kOptimiserPiece = 4096;

// All pointers are device memory, those in the tables too. Each tensor has its own update; tensors
// without a piece are left as they are. The bytes equal those of update_sgd and update_adam.
void sgd_cuda(const OptimiserTensor* tensors, const OptimiserPiece* pieces,
              std::int64_t piece_count, const SgdUpdate* updates, CudaStream stream);
void adam_cuda(const OptimiserTensor* tensors, const OptimiserPiece* pieces,
               std::int64_t piece_count, const AdamUpdate* updates, CudaStream stream);

// sums[tensor] = the sum of squares of its gradient, of all its pieces; 0 if it has none. Pieces
// are in rising order of tensors. `partial` has room for one number per piece. The order of a sum
// depends on the pieces alone.
void squares_cuda(const OptimiserTensor* tensors, const OptimiserPiece* pieces,
                  std::int64_t piece_count, int tensor_count, double* partial, double* sums,
                  CudaStream stream);

}  // namespace tessera
