#include "engine/device/cuda/host_step.h"

#include <cuda_runtime.h>

#include "kernels/check.h"
#include "kernels/cpu/convert.h"
#include "kernels/cuda/check.h"

namespace tessera {

namespace {

// The host's side of one step's operands; one run at a time uses it.
struct Staging {
  std::vector<AlignedBuffer> inputs, outputs;
  AlignedBuffer scratch;
  std::vector<TensorView> read, written;
};

void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, CudaStream stream) {
  cuda_check(cudaMemcpyAsync(to, from, bytes, kind, stream), "copy for a step of the host");
}

}  // namespace

std::vector<TensorType> wide_inputs(Types inputs) {
  std::vector<TensorType> wide(inputs.begin(), inputs.end());
  for (TensorType& type : wide)
    if (is_float(type.dtype)) type.dtype = DType::kF32;
  return wide;
}

Step copied_step(Step host, std::vector<TensorType> inputs, std::vector<TensorType> host_outputs,
                 std::vector<TensorType> outputs, std::span<const TensorView> weights,
                 CudaStream stream) {
  const auto staging = std::make_shared<Staging>();
  for (const TensorType& type : wide_inputs(inputs)) {
    staging->inputs.emplace_back(type.bytes());
    staging->read.push_back({staging->inputs.back().get(), type});
  }
  for (const TensorType& type : host_outputs) {
    staging->outputs.emplace_back(type.bytes());
    staging->written.push_back({staging->outputs.back().get(), type});
  }
  staging->scratch = AlignedBuffer(host.scratch_bytes);
  const auto run = [=, inputs = std::move(inputs), outputs = std::move(outputs),
                    weights = std::vector<TensorView>(weights.begin(), weights.end()),
                    work = std::move(host.run)](const Operands& operands, std::byte*) {
    std::vector<std::vector<std::uint16_t>> narrow(inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const TensorView& to = staging->read[i];
      void* memory = to.pointer;
      if (inputs[i].dtype != to.type.dtype) {
        narrow[i].resize(static_cast<std::size_t>(inputs[i].shape.elements()));
        memory = narrow[i].data();
      }
      copy(memory, operands.inputs[i].pointer, inputs[i].bytes(), cudaMemcpyDeviceToHost, stream);
    }
    cuda_check(cudaStreamSynchronize(stream), "run before a step of the host");
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (narrow[i].empty()) continue;
      const std::vector<float> wide = to_f32({narrow[i].data(), inputs[i]});
      std::copy(wide.begin(), wide.end(), staging->read[i].as<float>());
    }
    work({staging->read, weights, staging->written}, staging->scratch.get());
    std::vector<std::vector<std::uint16_t>> rounded(outputs.size());
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const TensorView& from = staging->written[i];
      const void* memory = from.pointer;
      if (from.type.dtype != outputs[i].dtype) {
        rounded[i].resize(static_cast<std::size_t>(outputs[i].shape.elements()));
        store_f32(from.as<const float>(), {rounded[i].data(), outputs[i]});
        memory = rounded[i].data();
      }
      copy(operands.outputs[i].pointer, memory, outputs[i].bytes(), cudaMemcpyHostToDevice, stream);
    }
    cuda_check(cudaStreamSynchronize(stream), "copy behind a step of the host");
  };
  return {0, run, true};
}

}  // namespace tessera
