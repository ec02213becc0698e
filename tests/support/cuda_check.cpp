#include "tests/support/cuda_check.h"

#include <cuda_runtime_api.h>

#include "kernels/cuda/check.h"

namespace tessera::test {

namespace {

constexpr std::size_t kBand = 256;  // bytes; keeps the alignment of cudaMalloc
constexpr int kBandByte = 0x5a;

// Device memory for a tensor, alone or between two bands.
class DeviceTensor {
 public:
  DeviceTensor(std::size_t bytes, bool banded)
      : bytes_(bytes), band_(banded ? kBand : 0), memory_(bytes + 2 * band_) {
    if (memory_.size() == 0) return;
    cuda_check(cudaMemset(memory_.get(), kBandByte, memory_.size()), "bands");
    if (bytes > 0) cuda_check(cudaMemset(get(), 0xff, bytes), "NaN");
  }
  std::byte* get() const { return memory_.get() + band_; }

  void upload(const void* from) {
    if (bytes_ > 0) cuda_check(cudaMemcpy(get(), from, bytes_, cudaMemcpyHostToDevice), "upload");
  }
  void download(void* to) const {
    if (bytes_ > 0) cuda_check(cudaMemcpy(to, get(), bytes_, cudaMemcpyDeviceToHost), "download");
  }
  bool bands_intact() const {
    std::vector<unsigned char> host(memory_.size());
    if (band_ == 0) return true;
    cuda_check(cudaMemcpy(host.data(), memory_.get(), host.size(), cudaMemcpyDeviceToHost),
               "bands");
    const auto is_band = [](unsigned char byte) { return byte == kBandByte; };
    return std::all_of(host.begin(), host.begin() + kBand, is_band) &&
           std::all_of(host.end() - kBand, host.end(), is_band);
  }

 private:
  std::size_t bytes_;
  std::size_t band_;
  DeviceBuffer memory_;
};

int attribute(cudaDeviceAttr which) {
  int value = 0;
  cuda_check(cudaDeviceGetAttribute(&value, which, 0), "device attribute");
  return value;
}

CudaTraits traits_of(const CudaRun& run) {
  const int own = attribute(cudaDevAttrComputeCapabilityMajor) * 10 +
                  attribute(cudaDevAttrComputeCapabilityMinor);
  return {.capability = run.capability != 0 ? run.capability : own,
          .multiprocessors = attribute(cudaDevAttrMultiProcessorCount),
          .shared_per_block =
              static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin))};
}

}  // namespace

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
