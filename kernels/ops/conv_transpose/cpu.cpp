// Transposed convolution of stride 2:  y[2 i - p + k] += W[k] x[i],  f32 or bf16.
//
// Layout: x (n, h, w, c_in), y (n, 2h, 2w, c_out). Output pixels of equal parity see the same taps,
// so they are matrix products over input pixels. 2x2: each output pixel has one tap, and the two of
// a row are one product of 2 c_out columns. 3x3: an even coordinate has tap 1 of pixel i, an odd
// one tap 2 of pixel i and tap 0 of pixel i + 1; the two pixels lie side by side, so a product of
// 2 c_in rows takes both. Sums stay in L2 until ReLU and rounding are done.
// Roofline: arithmetic from about 64 channels in; below, writing y binds.
//
// The sum's order is tap, channel, whatever the place: bytes do not depend on h, w, n or threads.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/conv_transpose/cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include <functional>

#include "kernels/cpu/gemm-inl.h"
#include "kernels/cpu/gemm_bf16.h"
#include "kernels/cpu/paths.h"
#include "kernels/ops/conv/blocks.h"
#include "kernels/ops/conv/output-inl.h"
#include "kernels/ops/conv/patch.h"
#include "kernels/ops/conv_transpose/conv_transpose.h"
#include "kernels/ops/conv_transpose/rows.h"

#ifndef TESSERA_KERNELS_CONV_TRANSPOSE_ONCE
#define TESSERA_KERNELS_CONV_TRANSPOSE_ONCE
namespace tessera {
namespace {

constexpr std::size_t kMaxLanes = 16;  // floats of the widest vector

// One matrix product: the sums of an output row's parity from `pixels` neighbouring input pixels.
struct Term {
  std::size_t dy = 0;       // input row, from that of the output
  std::size_t pixels = 1;   // of A's row
  std::size_t column = 0;   // of the sums, where it begins
  std::size_t columns = 0;  // its width
  std::size_t offset = 0;   // of its packed matrix, in elements
};

struct TransposePlan {
  ConvGeometry geometry;  // of x alone
  int kernel = 2;
  bool relu = false;
  DType compute = DType::kF32;         // of patch and packed weights
  std::int64_t halo = 0;               // pixels behind a block that it reads
  std::int64_t rows = 0, columns = 0;  // input pixels of a block
  std::size_t channels = 0;            // of a patch pixel
  std::size_t padded = 0;              // c_out rounded up to vectors
  std::vector<Term> terms[2];          // by parity of the output row
  std::vector<float> bias;             // (2, padded)
  std::shared_ptr<const AlignedBuffer> weights;

  std::size_t sums() const { return 2 * padded; }  // of an input pixel, one output row
  std::size_t patch_bytes() const {
    const std::int64_t pixels = (rows + halo) * (columns + halo);
    const std::size_t bytes = static_cast<std::size_t>(pixels) * channels * size_of(compute);
    return (bytes + 63) / 64 * 64;
  }
  std::size_t sum_bytes() const {
    return static_cast<std::size_t>(rows * columns) * sums() * sizeof(float);
  }
};

// Input pixels [y, y + rows) x [x, x + columns) of image n.
struct TransposeTask {
  const TransposePlan& plan;
  std::int64_t n, y, x, rows, columns;
  const std::byte* patch;
  float* sums;  // (rows, columns, 2, padded)
};

}  // namespace
}  // namespace tessera
#endif

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

void transpose_pack(std::size_t k, std::size_t n,
                    const std::function<float(std::size_t, std::size_t)>& at, float* packed) {
  gemm_pack(k, n, at, packed);
}

// C (rows, term.columns) from A at element `a` of the patch.
void multiply(const TransposeTask& task, const Term& term, std::size_t a, std::size_t rows,
              float* c) {
  const TransposePlan& plan = task.plan;
  const std::size_t k = term.pixels * plan.channels;
  const float* start = term.dy == 0 ? plan.bias.data() + term.column : nullptr;
  if (plan.compute == DType::kBF16) {
    gemm_bf16(reinterpret_cast<const std::uint16_t*>(task.patch) + a, plan.channels,
              reinterpret_cast<const std::uint16_t*>(plan.weights->get()) + term.offset, rows, k,
              term.columns, c + term.column, plan.sums(), start);
  } else {
    gemm(reinterpret_cast<const float*>(task.patch) + a, plan.channels,
         reinterpret_cast<const float*>(plan.weights->get()) + term.offset, rows, k, term.columns,
         c + term.column, plan.sums(), {start, term.dy != 0});
  }
}

// Output rows of parity `odd`: the sums of the whole block.
void multiply_rows(const TransposeTask& task, std::size_t odd) {
  const TransposePlan& plan = task.plan;
  const auto rows = static_cast<std::size_t>(task.rows);
  const auto columns = static_cast<std::size_t>(task.columns);
  const std::size_t patch_columns = columns + static_cast<std::size_t>(plan.halo);
  for (const Term& term : plan.terms[odd]) {
    if (plan.halo == 0) {  // rows follow each other without a gap
      multiply(task, term, 0, rows * columns, task.sums);
      continue;
    }
    for (std::size_t row = 0; row < rows; ++row)
      multiply(task, term, (row + term.dy) * patch_columns * plan.channels, columns,
               task.sums + row * columns * plan.sums());
  }
}

template <class T>
void finish(const TransposeTask& task, std::int64_t odd, const TensorView& y) {
  const OutputWriter writer(y);
  const TransposePlan& plan = task.plan;
  const ConvGeometry& g = plan.geometry;
  const auto c_out = static_cast<std::size_t>(g.c_out);
  const float* sum = task.sums;
  for (std::int64_t row = 0; row < task.rows; ++row) {
    const std::int64_t out_row = task.n * 2 * g.h + 2 * (task.y + row) + odd;
    T* out = y.as<T>() + (out_row * 2 * g.w + 2 * task.x) * g.c_out;
    for (std::int64_t pixel = 0; pixel < 2 * task.columns; ++pixel) {
      for (std::size_t c = 0; c < c_out; c += kFloatLanes) {
        FloatVector v = load(sum + c);
        if (plan.relu) v = relu(v);
        writer.write(v, out, c);
      }
      sum += plan.padded;
      out += c_out;
    }
  }
  writer.finish();
}

void transpose_block(const TransposeTask& task, const TensorView& y) {
  for (std::int64_t odd : {0, 1}) {
    multiply_rows(task, static_cast<std::size_t>(odd));
    if (y.type.dtype == DType::kBF16) {
      finish<hwy::bfloat16_t>(task, odd, y);
    } else {
      finish<float>(task, odd, y);
    }
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/convert.h"

namespace tessera {

HWY_EXPORT(transpose_pack);
HWY_EXPORT(transpose_block);

namespace {

// Filter tap that links an output of parity `odd` to the input pixel `behind` (0 or 1) after it.
std::int64_t tap(int kernel, std::size_t odd, std::size_t behind) {
  if (kernel == 2) return static_cast<std::int64_t>(odd);
  return odd == 0 ? 1 : behind == 0 ? 2 : 0;
}

void list_terms(TransposePlan& plan) {
  std::size_t offset = 0;
  const auto add = [&](std::size_t odd, Term term) {
    term.offset = offset;
    offset += term.pixels * plan.channels * term.columns;
    plan.terms[odd].push_back(term);
  };
  for (std::size_t odd : {0, 1}) {
    if (plan.kernel == 2) {
      add(odd, {.columns = plan.sums()});
      continue;
    }
    for (std::size_t dy = 0; dy <= odd; ++dy) {
      add(odd, {.dy = dy, .columns = plan.padded});
      add(odd, {.dy = dy, .pixels = 2, .column = plan.padded, .columns = plan.padded});
    }
  }
}

void pack(const ConvTranspose& op, const CpuSetup& setup, TransposePlan& plan) {
  const bool bf16 = plan.compute == DType::kBF16;
  const Term& last = plan.terms[1].back();
  const std::size_t size = last.offset + last.pixels * plan.channels * last.columns;
  const std::string key = setup.name + (bf16 ? "/transpose bf16" : "/transpose f32");
  plan.weights = setup.packed->get(key, size * size_of(plan.compute), [&](std::byte* to) {
    const std::vector<float> weight = to_f32(setup.weights[0]);  // (c_in, c_out, k, k)
    for (std::size_t odd : {0, 1}) {
      for (const Term& term : plan.terms[odd]) {
        const auto at = [&](std::size_t row, std::size_t column) {
          column += term.column;
          const auto i = static_cast<std::int64_t>(row % plan.channels);
          const auto o = static_cast<std::int64_t>(column % plan.padded);
          if (i >= plan.geometry.c_in || o >= op.c_out) return 0.0f;
          const std::int64_t ky = tap(op.kernel, odd, term.dy);
          const std::int64_t kx = tap(op.kernel, column / plan.padded, row / plan.channels);
          const std::int64_t index = ((i * op.c_out + o) * op.kernel + ky) * op.kernel + kx;
          return weight[static_cast<std::size_t>(index)];
        };
        const std::size_t k = term.pixels * plan.channels;
        if (bf16) {
          gemm_bf16_pack(k, term.columns, at, reinterpret_cast<std::uint16_t*>(to) + term.offset);
        } else {
          HWY_DYNAMIC_DISPATCH(transpose_pack)
          (k, term.columns, at, reinterpret_cast<float*>(to) + term.offset);
        }
      }
    }
  });
}

}  // namespace

Step cpu(const ConvTranspose& op, const CpuSetup& setup) {
  infer(op, setup.inputs);
  if (!is_doubling(op)) return conv_transpose_rows(op, setup);
  auto plan = std::make_shared<TransposePlan>();
  const Shape& x = setup.inputs[0].shape;
  ConvGeometry& geometry = plan->geometry;
  geometry.n = x[0], geometry.h = x[1], geometry.w = x[2], geometry.c_in = x[3];
  geometry.c_out = op.c_out;
  geometry.sources = {{0, x[1], x[2], x[3], 0, 0}};
  plan->kernel = op.kernel;
  plan->relu = op.relu;
  plan->halo = op.kernel == 3 ? 1 : 0;
  const bool bf16 = op.dtype == DType::kBF16 && gemm_bf16_supported();
  plan->compute = bf16 ? DType::kBF16 : DType::kF32;
  const auto c_in = static_cast<std::size_t>(geometry.c_in);
  plan->channels = bf16 ? c_in + c_in % 2 : c_in;  // AVX512-BF16 multiplies pairs of channels
  const auto c_out = static_cast<std::size_t>(op.c_out);
  plan->padded = (c_out + kMaxLanes - 1) / kMaxLanes * kMaxLanes;
  plan->bias.assign(2 * plan->padded, 0.0f);
  for (std::size_t o = 0; op.bias && o < c_out; ++o)
    plan->bias[o] = plan->bias[plan->padded + o] =
        element_f32(setup.weights[1], static_cast<std::int64_t>(o));
  list_terms(*plan);
  choose_block(*plan, geometry.n, geometry.h, geometry.w, setup.threads);
  pack(op, setup, *plan);

  const int threads = setup.threads;
  const auto run = [plan, threads](const Operands& operands, std::byte* scratch) {
    const ConvGeometry& g = plan->geometry;
    for_each_block(*plan, g.n, g.h, g.w, threads, scratch,
                   [&](const Block& block, std::byte* patch, float* sums) {
                     gather(g, operands.inputs,
                            {block.n, block.y, block.x, block.rows + plan->halo,
                             block.columns + plan->halo, static_cast<std::int64_t>(plan->channels)},
                            plan->compute, patch);
                     const TransposeTask task{*plan,      block.n,       block.y, block.x,
                                              block.rows, block.columns, patch,   sums};
                     HWY_DYNAMIC_DISPATCH(transpose_block)(task, operands.outputs[0]);
                   });
  };
  return {(plan->patch_bytes() + plan->sum_bytes()) * static_cast<std::size_t>(threads), run};
}

}  // namespace tessera
#endif  // HWY_ONCE
