// Gradients and training of whole networks on the GPU against the CPU's.
#include "models/training/training.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>

#include "engine/passes/passes.h"
#include "engine/train/gradients.h"
#include "kernels/cpu/convert.h"
#include "kernels/cuda/training.h"
#include "kernels/ops/ops.h"
#include "models/training/han_training.h"
#include "tests/support/cuda_check.h"
#include "tests/support/error.h"
#include "tests/support/network.h"

namespace tessera::test {
namespace {

using testing::HasSubstr;

// A network to train, one batch, and what the logits are held against.
struct Problem {
  Graph graph;
  std::vector<Tensor> inputs;
  std::vector<std::uint8_t> labels;
  Shape label_shape;
  std::vector<float> pixel_weights = {};  // empty: none

  LossTarget target() const {
    return {.labels = {const_cast<std::uint8_t*>(labels.data()), {DType::kU8, label_shape}},
            .weights = pixel_weights.empty() ? nullptr : pixel_weights.data()};
  }
};

Problem unet_problem(const UNetVariant& variant) {
  UNetConfig config = variant.config;
  Problem p{training_graph(build_unet(config, false)),
            {random({2, variant.height, variant.width, config.channels}, 3)},
            {},
            {}};
  const std::vector<TensorType> types_of_all = infer_types(p.graph, types(p.inputs));
  const Shape& logits = types_of_all[p.graph.outputs[0]].shape;
  p.label_shape = Shape(logits.dims().first(3));
  const std::int64_t classes = std::max<std::int64_t>(2, logits[3]);
  for (std::int64_t i = 0; i < p.label_shape.elements(); ++i) {
    p.labels.push_back(static_cast<std::uint8_t>(i * 7 % 11 % classes));
    p.pixel_weights.push_back(0.25f * static_cast<float>(i % 9));
  }
  return p;
}

Problem han_problem(const HanVariant& variant) {
  Problem p{training_graph(build_han(variant.config)), han_inputs(variant.config), {}, {}};
  p.label_shape = {p.inputs[0].type().shape[0]};
  for (std::int64_t i = 0; i < p.label_shape[0]; ++i)
    p.labels.push_back(static_cast<std::uint8_t>(i % variant.config.classes));
  return p;
}

Gradients make_gradients(const Problem& p, const std::shared_ptr<Device>& device,
                         bool recompute = false) {
  RandomWeights weights;
  return {p.graph, weights.source(), types(p.inputs), device->queue(), {}, recompute};
}

// `tensor` with every element moved by up to `unit` of itself.
Tensor moved(const Tensor& tensor, double unit) {
  if (tensor.type().dtype != DType::kF32) return tensor;
  const std::vector<float> factors = random(tensor.type().shape, 77).values();
  std::vector<float> values = tensor.values();
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] *= static_cast<float>(1 + unit * std::clamp<double>(factors[i], -1, 1));
  return Tensor::of(tensor.type().shape, values);
}

// What the CPU gives where inputs and weights are moved so: how the gradients answer to rounding.
FloatTensors moved_gradients(const Problem& p, double unit);

std::shared_ptr<Device> gpu(Precision precision = Precision::kFp32) {
  return open_cuda_device(kAnyGpu, precision);
}

// Gradients of all tensors, in host memory.
FloatTensors gradients_of(const Gradients& gradients) {
  FloatTensors list;
  for (const Gradients::Weight& weight : gradients.weights()) {
    if (!weight.trained) continue;
    FloatTensor& tensor = list[weight.name] = FloatTensor(weight.value.shape());
    gradients.queue().download(weight.gradient.as<std::byte>(), tensor.view());
  }
  gradients.queue().finish();
  return list;
}

double norm_of(const std::vector<float>& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum);
}

double norm_of_difference(const FloatTensor& a, const FloatTensor& b) {
  std::vector<float> difference = a.values;
  for (std::size_t i = 0; i < difference.size(); ++i) difference[i] -= b.values[i];
  return norm_of(difference);
}

// |a - b| <= bound |b| + factor |moved - b| of every tensor, as norms. Where a tensor's gradient is
// nothing beside the greatest (a bias before a norm), `bound` is of a hundredth of that.
void expect_near(const FloatTensors& a, const FloatTensors& b, double bound,
                 const FloatTensors& moved, double factor) {
  ASSERT_EQ(a.size(), b.size());
  double greatest = 0;
  for (const auto& [name, tensor] : b) greatest = std::max(greatest, norm_of(tensor.values));
  for (const auto& [name, tensor] : b) {
    constexpr double kNothing = 1e-2;
    const double scale = std::max(norm_of(tensor.values), kNothing * greatest);
    const double allowed = bound * scale + factor * norm_of_difference(moved.at(name), tensor);
    const double found = norm_of_difference(a.at(name), tensor);
    EXPECT_TRUE(!(found > allowed))
        << name << ": off by " << found / scale << ", allowed are " << allowed / scale;
  }
}

bool same_bytes(const FloatTensors& a, const FloatTensors& b) {
  for (const auto& [name, tensor] : a) {
    if (std::memcmp(tensor.values.data(), b.at(name).values.data(),
                    tensor.values.size() * sizeof(float)) != 0)
      return false;
  }
  return a.size() == b.size();
}

FloatTensors moved_gradients(const Problem& p, double unit) {
  RandomWeights weights;
  std::map<std::string, Tensor> kept;
  const WeightSource source = [&](const std::string& name, const Shape& shape) {
    const Tensor plain = Tensor::of(shape, to_f32(weights(name, shape)));
    return (kept[name] = moved(plain, unit)).view();
  };
  std::vector<Tensor> inputs;
  for (const Tensor& input : p.inputs) inputs.push_back(moved(input, unit));
  Gradients gradients(p.graph, source, types(inputs), open_cpu_device(1)->queue());
  gradients.add(views(inputs), p.target(), {1, 2});
  return gradients_of(gradients);
}

// Each precision rounds: fp32 in another order of sums than the CPU, with Winograd's constants
// there, some 2^-21 a layer; the others every operand (2^-9 bf16, 2^-12 tf32). How far that carries
// depends on the network: a batch norm over eight pixels magnifies it a thousandfold. So the
// yardstick is what the CPU's own gradients do when inputs and weights are moved by as much, once,
// where the run rounds in every layer; for fp32 by more, so that a ReLU's kink, or a tie in a
// pooling, which rounding may cross, is crossed there too.
void check_network(const Problem& p) {
  Gradients on_cpu = make_gradients(p, open_cpu_device(1));
  const LossResult expected = on_cpu.add(views(p.inputs), p.target(), {1, 2});
  const FloatTensors gradients = gradients_of(on_cpu);
  struct Case {
    Precision precision;
    double loss, unit;
  };
  constexpr double kFactor = 8;
  for (const Case& c :
       {Case{Precision::kFp32, 1e-5, 0x1p-16}, Case{Precision::kTf32, 1e-2, 0x1p-11},
        Case{Precision::kBf16, 5e-2, 0x1p-8}}) {
    SCOPED_TRACE(name_of(c.precision));
    Gradients on_gpu = make_gradients(p, gpu(c.precision));
    const LossResult result = on_gpu.add(views(p.inputs), p.target(), {1, 2});
    EXPECT_TRUE(!(std::abs(result.loss - expected.loss) > c.loss * expected.loss))
        << result.loss << " on the GPU, " << expected.loss << " on the CPU";
    EXPECT_EQ(result.counted, expected.counted);
    expect_near(gradients_of(on_gpu), gradients, kFactor * c.unit, moved_gradients(p, c.unit),
                kFactor);
    if (c.precision != Precision::kFp32) continue;
    const FloatTensors statistics = on_cpu.values();
    expect_near(on_gpu.values(), statistics, 1e-5, statistics, 0);
    // Gradients are added, and the same run gives the same bytes: recomputed ones, too.
    on_gpu.clear();
    on_gpu.add(views(p.inputs), p.target(), {1, 2});
    const FloatTensors again = gradients_of(on_gpu);
    Gradients recomputed = make_gradients(p, gpu(), true);
    recomputed.add(views(p.inputs), p.target(), {1, 2});
    EXPECT_TRUE(same_bytes(again, gradients_of(recomputed)));
    recomputed.add(views(p.inputs), p.target(), {1, 2});
    FloatTensors doubled = again;
    for (auto& [name, tensor] : doubled)
      for (float& value : tensor.values) value *= 2;
    expect_near(gradients_of(recomputed), doubled, 1e-5, doubled, 0);
  }
}

class CudaUNetTraining : public CudaTest, public testing::WithParamInterface<UNetVariant> {};
INSTANTIATE_TEST_SUITE_P(Variants, CudaUNetTraining, testing::ValuesIn(unet_variants()),
                         testing::PrintToStringParamName());
TEST_P(CudaUNetTraining, GradientsAreThoseOfTheCpu) {
  check_network(unet_problem(GetParam()));
}

class CudaHanTraining : public CudaTest, public testing::WithParamInterface<HanVariant> {};
INSTANTIATE_TEST_SUITE_P(Variants, CudaHanTraining, testing::ValuesIn(han_variants()),
                         testing::PrintToStringParamName());
TEST_P(CudaHanTraining, GradientsAreThoseOfTheCpu) {
  check_network(han_problem(GetParam()));
}

using CudaTraining = CudaTest;

TEST_F(CudaTraining, ANanNamesItsNode) {
  Problem p = unet_problem(unet_variants()[0]);
  p.inputs[0].view().as<float>()[7] = std::numeric_limits<float>::quiet_NaN();
  Gradients gradients = make_gradients(p, gpu());
  EXPECT_THAT(error_of([&] { gradients.add(views(p.inputs), p.target(), {}); }),
              HasSubstr("'down0/conv1'"));
}

TEST_F(CudaTraining, BadLabelsAndIdsAreSaidBeforeTheRun) {
  Problem unet = unet_problem(unet_variants()[0]);
  unet.labels[5] = 200;
  Gradients images = make_gradients(unet, gpu());
  EXPECT_THAT(error_of([&] { images.add(views(unet.inputs), unet.target(), {}); }),
              HasSubstr("200"));
  Problem han = han_problem(han_variants()[0]);
  Gradients documents = make_gradients(han, gpu());
  han.inputs[0].view().as<std::int32_t>()[0] = 1 << 20;
  EXPECT_THAT(error_of([&] { documents.add(views(han.inputs), han.target(), {}); }),
              HasSubstr("1048576"));
}

// They have a path at inference, which takes its weights before a run and not in it.
TEST_F(CudaTraining, OperatorsWithWeightsThatItDoesNotTrainAreRefusedByName) {
  const std::vector<TensorType> map{{DType::kF32, {1, 4, 4, 3}}};
  CudaSetup setup;
  setup.inputs = map;
  EXPECT_THAT(error_of([&] { cuda_train(GroupNorm{}, setup); }), HasSubstr("group_norm"));
  EXPECT_THAT(error_of([&] { cuda_train(Binary{.constant = {3}}, setup); }), HasSubstr("binary"));
}

TEST_F(CudaTraining, F16IsRefused) {
  const Problem p = unet_problem(unet_variants()[0]);
  EXPECT_THAT(error_of([&] { make_gradients(p, gpu(Precision::kFp16)); }), HasSubstr("bf16"));
}

}  // namespace
}  // namespace tessera::test
