// What host code shares of Conv's CUDA path: the one home of the layouts of packed weights, what a
// launch is told, and a convolution whose weights are packed anew in every run.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/training.h"
#include "kernels/ops/conv/cuda.h"
#include "kernels/ops/conv/geometry.h"

namespace tessera {

// What tensor cores round an operand stored as `dtype` to.
Precision tensor_core_rounding(DType dtype);

// One of the layouts of `ConvArgs::weight` (cuda.h).
struct ConvWeightLayout {
  std::vector<std::int64_t> c_in;  // of each source
  std::int64_t c_out = 0;
  std::array<int, 2> kernel{};
  Precision rounding = Precision::kFp32;  // kFp32: the layout for f32 units, else for tensor cores
  int line_bytes = kConvLineBytes;        // of input channels that lie together, for tensor cores

  void take(ConvTile tile, DType x_type);  // what it reads: sets rounding and line_bytes
  std::string name() const;                // tells it from the others of one convolution
  std::size_t element_bytes() const;
  std::int64_t line() const;      // line_bytes in elements
  std::int64_t row() const;       // output channels and the zeros behind them, for f32 units
  std::int64_t elements() const;  // of all
  std::size_t bytes() const { return static_cast<std::size_t>(elements()) * element_bytes(); }
};

ConvWeightLayout weight_layout(const Conv& op, const ConvGeometry& geometry, ConvTile tile,
                               DType x_type);

// Calls body(o, i, tap) for every element in its order: output channel, channel of the joined
// input, ky k + kx; or body(0, kPackZero, 0) where a zero fills the layout up.
template <class Body>
void for_each_packed(const ConvWeightLayout& layout, const Body& body) {
  const int taps = layout.kernel[0] * layout.kernel[1];
  std::int64_t source_first = 0;
  for (const std::int64_t c_in : layout.c_in) {
    if (layout.rounding == Precision::kFp32) {
      for (std::int64_t i = 0; i < c_in; ++i) {
        for (int tap = 0; tap < taps; ++tap) {
          for (std::int64_t o = 0; o < layout.c_out; ++o) body(o, source_first + i, tap);
          for (std::int64_t o = layout.c_out; o < layout.row(); ++o)
            body(std::int64_t{0}, std::int64_t{kPackZero}, 0);
        }
      }
    } else {
      for (std::int64_t first = 0; first < c_in; first += layout.line()) {
        for (int tap = 0; tap < taps; ++tap) {
          for (std::int64_t o = 0; o < layout.c_out; ++o) {
            for (std::int64_t i = first; i < first + layout.line(); ++i) {
              if (i < c_in) {
                body(o, source_first + i, tap);
              } else {
                body(std::int64_t{0}, std::int64_t{kPackZero}, 0);
              }
            }
          }
        }
      }
    }
    source_first += c_in;
  }
}

// Extents and sources; weights and pointers are left to the caller.
ConvArgs conv_args(const Conv& op, const ConvGeometry& geometry, DType x_type);

// As `int`, which kernels count in; throws Error where it is too large.
int conv_extent(std::int64_t value);

ConvProblem conv_problem(const Conv& op, const ConvGeometry& geometry, DType x_type,
                         const CudaSetup& setup);
// Whether the kernels of tiles take its window and groups (sm80_mma.cu, fma.cu).
bool has_conv_tiles(const Conv& op);
ConvChoice choose_conv(const Conv& op, const ConvGeometry& geometry, DType x_type,
                       const CudaSetup& setup);

void conv_cuda(const ConvArgs& args, ConvTile tile, CudaStream stream);

// A convolution whose weights, f32 in the model file's order, are packed into the scratch in every
// run. `index(o, i, tap)` says where an element of its filters lies in the weight, or kPackZero.
class RepackedConv {
 public:
  using Index = std::function<std::int64_t(std::int64_t o, std::int64_t i, int tap)>;

  RepackedConv() = default;
  // `args` without weight, bias and the pointers of a run; `name` of the orders in setup.packed.
  RepackedConv(const CudaSetup& setup, const std::string& name, const ConvArgs& args, ConvTile tile,
               bool bias, const Index& index);

  std::size_t scratch_bytes() const;
  // x: of every source.
  void run(const void* x, const float* weight, const float* bias, void* y, std::byte* scratch,
           CudaStream stream) const;

 private:
  ConvArgs args_{};
  ConvTile tile_{};
  ConvWeightLayout layout_;
  std::shared_ptr<const DeviceBuffer> order_;
  std::shared_ptr<const DeviceBuffer> bias_order_;  // null without a bias
  std::shared_ptr<const DeviceBuffer> zeros_;       // the bias where there is none
};

}  // namespace tessera
