#include "tests/support/cuda_backward_check.h"

#include "tests/support/device_tensor.h"

namespace tessera::test {

namespace {

bool is_null(const Tensor& tensor) {
  return tensor.type().shape.rank() == 0;
}

// The operands of one kind on the device.
class Operand {
 public:
  Operand(const std::vector<Tensor>& tensors, const std::vector<TensorType>& types, bool banded,
          bool filled)
      : tensors_(tensors) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      memory_.emplace_back(is_null(tensors[i]) ? 0 : types[i].bytes(), banded);
      if (filled && !is_null(tensors[i])) memory_.back().upload(tensors[i].view().pointer);
      views_.emplace_back(is_null(tensors[i]) ? nullptr : memory_.back().get(), types[i]);
    }
  }
  std::span<const TensorView> views() const { return views_; }

  // What lies there now; checks the bands.
  std::vector<Tensor> download(const char* what) const {
    std::vector<Tensor> list;
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      list.push_back(is_null(tensors_[i]) ? Tensor() : Tensor(tensors_[i].type()));
      if (is_null(tensors_[i])) continue;
      EXPECT_TRUE(memory_[i].bands_intact()) << "wrote outside " << what << " " << i;
      memory_[i].download(list[i].view().pointer);
    }
    return list;
  }
  void expect_unchanged(const char* what) const {
    const std::vector<Tensor> after = download(what);
    for (std::size_t i = 0; i < after.size(); ++i)
      EXPECT_TRUE(is_null(tensors_[i]) || after[i].same_bytes(tensors_[i]))
          << "wrote into " << what << " " << i;
  }

 private:
  const std::vector<Tensor>& tensors_;
  std::vector<DeviceTensor> memory_;
  std::vector<TensorView> views_;
};

void expect_equal(const std::vector<Tensor>& first, const std::vector<Tensor>& second,
                  const char* what) {
  for (std::size_t i = 0; i < first.size(); ++i)
    EXPECT_TRUE(is_null(first[i]) || first[i].same_bytes(second[i]))
        << "a second run differs, " << what << " " << i;
}

}  // namespace

void run_cuda_train(const std::function<TrainStep(const CudaSetup&)>& make, CudaTrainMemory& memory,
                    const CudaRun& run) {
  const std::vector<TensorType> input_types = types(memory.inputs);
  const DeviceStream stream;
  DeviceWeights packed;
  const TrainStep step =
      make({"node", input_types, {}, traits_of(run), run.math, stream.get(), &packed});
  std::vector<Tensor> outputs[2], saved[2], weights[2];
  for (const bool banded : {false, true}) {
    const Operand in(memory.inputs, input_types, banded, true),
        w(memory.weights, types(memory.weights), banded, true),
        out(memory.outputs, types(memory.outputs), banded, false),
        extra(memory.saved, types(memory.saved), banded, false);
    const DeviceTensor scratch(step.scratch_bytes, banded);
    step.run({in.views(), w.views(), out.views(), extra.views(), memory.random}, scratch.get());
    cuda_check(cudaStreamSynchronize(stream.get()), "run");
    EXPECT_TRUE(scratch.bands_intact()) << "scratch overrun";
    in.expect_unchanged("input");
    outputs[banded] = out.download("output");
    saved[banded] = extra.download("saved");
    weights[banded] = w.download("weight");
  }
  expect_equal(outputs[0], outputs[1], "output");
  expect_equal(saved[0], saved[1], "saved");
  expect_equal(weights[0], weights[1], "weight");
  memory.outputs = outputs[0];
  memory.saved = saved[0];
  memory.weights = weights[0];
}

void run_cuda_backward(const std::function<BackwardStep(const CudaSetup&)>& make,
                       CudaBackwardMemory& memory, const CudaRun& run) {
  const DeviceStream stream;
  DeviceWeights packed;
  const BackwardStep step =
      make({"node", memory.input_types, {}, traits_of(run), run.math, stream.get(), &packed});
  std::vector<Tensor> of_inputs[2], of_weights[2];
  for (const bool banded : {false, true}) {
    const Operand in(memory.inputs, memory.input_types, banded, true),
        w(memory.weights, types(memory.weights), banded, true),
        out(memory.outputs, memory.output_types, banded, true),
        extra(memory.saved, types(memory.saved), banded, true),
        dy(memory.output_gradients, memory.output_types, banded, true),
        dx(memory.input_gradients, memory.input_types, banded, false),
        dw(memory.weight_gradients, types(memory.weights), banded, true);
    const DeviceTensor scratch(step.scratch_bytes, banded);
    step.run(
        {in.views(), w.views(), out.views(), extra.views(), dy.views(), dx.views(), dw.views()},
        scratch.get());
    cuda_check(cudaStreamSynchronize(stream.get()), "run");
    EXPECT_TRUE(scratch.bands_intact()) << "scratch overrun";
    in.expect_unchanged("input");
    w.expect_unchanged("weight");
    out.expect_unchanged("output");
    extra.expect_unchanged("saved");
    dy.expect_unchanged("output gradient");
    of_inputs[banded] = dx.download("input gradient");
    of_weights[banded] = dw.download("weight gradient");
  }
  expect_equal(of_inputs[0], of_inputs[1], "input gradient");
  expect_equal(of_weights[0], of_weights[1], "weight gradient");
  memory.input_gradients = of_inputs[0];
  memory.weight_gradients = of_weights[0];
}

}  // namespace tessera::test
