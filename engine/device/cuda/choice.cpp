#include "engine/device/choice.h"

#include <cuda_runtime_api.h>

#include "kernels/cuda/check.h"
#include "kernels/cuda/paths.h"
#include "kernels/ops/conv/cuda_any.h"
#include "kernels/ops/conv/cuda_host.h"
#include "kernels/ops/conv_transpose/cuda_host.h"
#include "kernels/ops/linear/cuda.h"
#include "kernels/ops/rnn/cuda.h"

namespace tessera {

namespace {

int attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  cuda_check(cudaGetDevice(&device), "current device");
  cuda_check(cudaDeviceGetAttribute(&value, which, device), "device attribute");
  return value;
}

CudaTraits current_traits() {
  return {.capability = attribute(cudaDevAttrComputeCapabilityMajor) * 10 +
                        attribute(cudaDevAttrComputeCapabilityMinor),
          .multiprocessors = attribute(cudaDevAttrMultiProcessorCount),
          .shared_per_block =
              static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin))};
}

// Of a choice with `rejected` candidates that have reasons.
template <class Technique, class Rejected>
std::string lines(Technique chosen, const Rejected& rejected) {
  std::string text(name_of(chosen));
  for (const auto& [candidate, reason] : rejected)
    text += fmt::format("\nnot {}: {}", name_of(candidate), reason);
  return text;
}

std::string choice(const Conv& op, const CudaSetup& setup) {
  const ConvGeometry g = geometry_of(op, setup.inputs);
  const DType type = setup.inputs[0].dtype;
  if (has_conv_tiles(op)) {
    const ConvChoice chosen = choose_conv(op, g, type, setup);
    return lines(chosen.tile, chosen.rejected);
  }
  const AnyConvChoice chosen = choose_any_conv(conv_problem(op, g, type, setup));
  return lines(chosen.technique, chosen.rejected) +
         "\nnot the tiles: they take 1x1 and 3x3 filters of stride 1 and one group";
}

std::string choice(const ConvTranspose& op, const CudaSetup& setup) {
  if (!is_doubling(op)) return "a convolution of any window for each place within a stride";
  const ConvTransposeChoice chosen = choose_conv_transpose(conv_transpose_problem(op, setup));
  return lines(chosen.tile, chosen.rejected);
}

std::string choice(const BiRnn& op, const CudaSetup& setup) {
  if (op.carried) return "the host: no kernel carries states";
  const RnnChoice chosen = choose_rnn(op, setup);
  std::string text = fmt::format("{} {}, {} sequences and {} threads a block",
                                 chosen.technique == RnnTechnique::kMma ? "mma" : "fma",
                                 name_of(chosen.rounding), chosen.sequences, chosen.threads);
  for (const std::string& reason : chosen.rejected) text += "\nnot " + reason;
  return text;
}

std::string choice(const Linear& op, const CudaSetup& setup) {
  const std::int64_t rows = infer(op, setup.inputs)[0].shape.elements() / op.units;
  const GemmRows chosen = choose_gemm_rows(rows, op.units, setup.traits.multiprocessors);
  return fmt::format("{} {}, {} rows a block\nnot {} rows: {} rows {} {} multiprocessors",
                     setup.math == Precision::kFp32 ? "fma" : "mma", name_of(setup.math),
                     static_cast<int>(chosen), chosen == GemmRows::kMany ? 16 : 128, rows,
                     chosen == GemmRows::kMany ? "fill" : "do not fill",
                     setup.traits.multiprocessors);
}

}  // namespace

std::string cuda_choice_of(const Node& node, Types inputs, Precision precision) {
  CudaSetup setup;
  setup.name = node.name;
  setup.inputs = inputs;
  setup.traits = current_traits();
  setup.math = precision;
  return std::visit(
      [&](const auto& op) -> std::string {
        if constexpr (requires { choice(op, setup); }) return choice(op, setup);
        return OnCuda<std::decay_t<decltype(op)>> ? "its kernel" : "the host, between copies";
      },
      node.op);
}

}  // namespace tessera
