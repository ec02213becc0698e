// What both techniques of the weight's gradient share: how a block walks over the pixels of a.
#pragma once

#include "kernels/cuda/element.cuh"
#include "kernels/ops/conv/train/cuda.h"

namespace tessera {

// A run of up to kPixels pixels of one row of a.
template <int kPixels>
struct PixelRun {
  std::int64_t row;  // counted through all images
  int image, y;      // the same row
  int column;        // of the first pixel

  __device__ PixelRun(const ConvWeightGradientShape& shape, std::int64_t first_row)
      : row(first_row),
        image(static_cast<int>(first_row / shape.rows)),
        y(static_cast<int>(first_row % shape.rows)),
        column(0) {}

  __device__ void advance(const ConvWeightGradientShape& shape) {
    column += kPixels;
    if (column < shape.columns) return;
    column = 0;
    ++row;
    if (++y < shape.rows) return;
    y = 0;
    ++image;
  }
};

// The rows of a slice: [begin, end).
struct SliceRows {
  std::int64_t begin, end;
};

__device__ inline SliceRows rows_of_slice(const ConvWeightGradientArgs& args, std::int64_t slice) {
  const std::int64_t rows = std::int64_t{args.shape.n} * args.shape.rows;
  const std::int64_t begin = slice * args.split.slice_rows;
  const std::int64_t end = begin + args.split.slice_rows;
  return {begin, end < rows ? end : rows};
}

}  // namespace tessera
