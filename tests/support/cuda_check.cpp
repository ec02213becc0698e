#include "tests/support/cuda_check.h"

#include <cuda_runtime_api.h>

#include "kernels/cuda/check.h"
#include "tests/support/device_tensor.h"

namespace tessera::test {

namespace {

int attribute(cudaDeviceAttr which) {
  int value = 0;
  cuda_check(cudaDeviceGetAttribute(&value, which, 0), "device attribute");
  return value;
}

}  // namespace

CudaTraits traits_of(const CudaRun& run) {
  const int own = attribute(cudaDevAttrComputeCapabilityMajor) * 10 +
                  attribute(cudaDevAttrComputeCapabilityMinor);
  return {.capability = run.capability != 0 ? run.capability : own,
          .multiprocessors = attribute(cudaDevAttrMultiProcessorCount),
          .shared_per_block =
              static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin))};
}

void CudaTest::SetUp() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0)
    GTEST_SKIP() << "no GPU: "
                 << cudaGetErrorString(error != cudaSuccess ? error : cudaErrorNoDevice);
}

std::vector<Tensor> run_cuda_step(const std::function<Step(const CudaSetup&)>& make,
                                  const std::vector<TensorType>& output_types,
                                  const std::vector<Tensor>& inputs,
                                  const std::vector<Tensor>& weights, const CudaRun& run) {
  const auto input_types = types(inputs);
  const auto weight_views = views(weights);
  const std::vector<Tensor> weights_before = copies(weights);
  DeviceWeights packed;
  cudaStream_t stream;
  cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  const Step step =
      make({"node", input_types, weight_views, traits_of(run), run.math, stream, &packed});

  std::vector<Tensor> first, second;
  for (std::vector<Tensor>* outputs : {&first, &second}) {
    const bool banded = outputs == &second;
    std::vector<DeviceTensor> in, out;
    std::vector<TensorView> in_views, out_views;
    for (const Tensor& input : inputs) {
      in.emplace_back(input.type().bytes(), banded).upload(input.view().pointer);
      in_views.emplace_back(in.back().get(), input.type());
    }
    for (const TensorType& type : output_types) {
      out.emplace_back(type.bytes(), banded);
      out_views.emplace_back(out.back().get(), type);
    }
    const DeviceTensor scratch(step.scratch_bytes, banded);
    step.run({in_views, {}, out_views}, scratch.get());
    cuda_check(cudaStreamSynchronize(stream), "run");
    EXPECT_TRUE(scratch.bands_intact()) << "scratch overrun";
    for (std::size_t i = 0; i < output_types.size(); ++i) {
      EXPECT_TRUE(out[i].bands_intact()) << "wrote outside output " << i;
      out[i].download(outputs->emplace_back(output_types[i]).view().pointer);
    }
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      EXPECT_TRUE(in[i].bands_intact()) << "wrote outside input " << i;
      Tensor after(inputs[i].type());
      in[i].download(after.view().pointer);
      EXPECT_TRUE(after.same_bytes(inputs[i])) << "wrote into input " << i;
    }
  }
  cudaStreamDestroy(stream);
  for (std::size_t i = 0; i < first.size(); ++i)
    EXPECT_TRUE(first[i].same_bytes(second[i])) << "a second run differs, output " << i;
  for (std::size_t i = 0; i < weights.size(); ++i)
    EXPECT_TRUE(weights[i].same_bytes(weights_before[i])) << "wrote into weight " << i;
  return first;
}

Tensor rows_of(const Tensor& tensor, std::int64_t begin, std::int64_t end) {
  TensorType type = tensor.type();
  const std::size_t row = type.bytes() / static_cast<std::size_t>(type.shape[0]);
  type.shape[0] = end - begin;
  Tensor rows(type);
  std::memcpy(rows.view().pointer,
              tensor.view().as<std::byte>() + static_cast<std::size_t>(begin) * row, type.bytes());
  return rows;
}

}  // namespace tessera::test
