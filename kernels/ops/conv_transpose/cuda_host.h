// What host code shares of ConvTranspose's CUDA path: the one home of the layouts of packed
// weights, and what a launch is told.
#pragma once

#include "kernels/cuda/training.h"
#include "kernels/ops/conv_transpose/conv_transpose.h"
#include "kernels/ops/conv_transpose/cuda.h"

namespace tessera {

// One of the layouts of `ConvTransposeArgs::weight` (cuda.h): (taps, c_in / line, c_out, line).
struct ConvTransposeLayout {
  Precision rounding;  // kNone: the layout for f32 units, else for tensor cores
  int kernel;
  std::int64_t c_in, c_out;    // of the weight
  std::int64_t rows, columns;  // c_in and c_out and the zeros behind them
  std::int64_t line;           // channels of x that lie together for one c_out

  std::size_t element_bytes() const {
    return rounding == Precision::kBf16 || rounding == Precision::kFp16 ? 2 : 4;
  }
  std::size_t bytes() const {
    return static_cast<std::size_t>(kernel * kernel * rows * columns) * element_bytes();
  }
};

ConvTransposeLayout conv_transpose_layout(const ConvTranspose& op, const TensorType& x,
                                          ConvTransposeTile tile);

// The tap of `kernel` that links an output of parity `odd` to the input pixel `behind` places on.
inline int conv_transpose_tap(int kernel, int odd, int behind) {
  if (kernel == 2) return odd;
  return odd == 0 ? 1 : behind == 0 ? 2 : 0;
}

// Calls body(index into the weight, (c_in, c_out, k, k)) for every element in its order, with
// kPackZero where a zero fills the layout up.
template <class Body>
void for_each_packed(const ConvTransposeLayout& layout, const Body& body) {
  const int kernel = layout.kernel;
  const auto of_tap = [&](std::int64_t tap) {
    for (std::int64_t first = 0; first < layout.rows; first += layout.line) {
      for (std::int64_t o = 0; o < layout.columns; ++o) {
        for (std::int64_t i = first; i < first + layout.line; ++i) {
          const bool exists = i < layout.c_in && o < layout.c_out;
          body(exists ? (i * layout.c_out + o) * kernel * kernel + tap : std::int64_t{kPackZero});
        }
      }
    }
  };
  for (int parity = 0; parity < kParities; ++parity) {
    const ParityTaps taps = parity_taps(kernel, parity);
    for (int row = 0; row < taps.rows; ++row) {
      for (int column = 0; column < taps.columns; ++column)
        of_tap(conv_transpose_tap(kernel, parity / 2, row) * kernel +
               conv_transpose_tap(kernel, parity % 2, column));
    }
  }
}

ConvTransposeProblem conv_transpose_problem(const ConvTranspose& op, const CudaSetup& setup);
ConvTransposeTile choose_conv_transpose_tile(const ConvTranspose& op, const CudaSetup& setup);

// Extents; weights and pointers are left to the caller. Throws Error where extents are too large.
ConvTransposeArgs conv_transpose_args(const ConvTranspose& op, Types inputs);

// Of any window; empty where the host must compute it.
Step any_conv_transpose_step(const ConvTranspose& op, const CudaSetup& setup);

void conv_transpose_cuda(const ConvTransposeArgs& args, ConvTransposeTile tile, CudaStream stream);

}  // namespace tessera
