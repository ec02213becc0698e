// Holds an operator's backward run against its reference, and the reference against finite
// differences of its forward run, the same way for every operator.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/train/ops.h"
#include "tests/support/operator_check.h"

namespace tessera::test {

// One run of one operator in training.
template <class Op>
struct TrainCase {
  Op op;
  std::vector<Tensor> inputs;
  std::vector<Tensor> weights;
  RandomStream random = {};
  std::vector<Tensor> output_gradients = {};  // empty: random normal ones
};

// What a forward run leaves. The weights are copies: running statistics change.
struct TrainResult {
  std::vector<Tensor> outputs, saved, weights;
};

// Gradients in the order of inputs and of parameters; those that do not exist are of rank 0.
struct Gradients {
  std::vector<Tensor> inputs, weights;
};

// An f32 tensor of the same shape, full of NaN.
inline Tensor gradient_like(const Tensor& tensor) {
  return Tensor({DType::kF32, tensor.type().shape});
}

template <class Op>
bool has_gradient(const TrainCase<Op>& c, std::size_t weight) {
  return !parameters(c.op, types(c.inputs))[weight].name.starts_with("running_");
}

template <class Op>
std::vector<Tensor> output_gradients_of(const TrainCase<Op>& c) {
  if (!c.output_gradients.empty()) return c.output_gradients;
  std::vector<Tensor> list;
  for (const TensorType& type : infer(c.op, types(c.inputs)))
    list.push_back(random(type.shape, 7000 + static_cast<unsigned>(list.size())));
  return list;
}

template <class Op>
TrainResult empty_result(const TrainCase<Op>& c) {
  TrainResult result;
  for (const TensorType& type : infer(c.op, types(c.inputs))) result.outputs.emplace_back(type);
  for (const TensorType& type : saved_for_backward(c.op, types(c.inputs)).extra)
    result.saved.emplace_back(type);
  result.weights = copies(c.weights);
  return result;
}

inline void expect_guarded(const std::vector<Tensor>& tensors, const char* what) {
  for (const Tensor& tensor : tensors)
    EXPECT_TRUE(tensor.guards_intact()) << "wrote outside " << what;
}

// Memory of `bytes`, full of NaN, at a multiple of 64 bytes, between guards.
class Scratch {
 public:
  explicit Scratch(std::size_t bytes)
      : memory_({DType::kU8, {static_cast<std::int64_t>(bytes) + 64}}) {}
  std::byte* get() const {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.view().pointer);
    return reinterpret_cast<std::byte*>((address + 63) / 64 * 64);
  }
  bool guards_intact() const { return memory_.guards_intact(); }

 private:
  Tensor memory_;
};

template <class Op>
TrainResult train_by_reference(const TrainCase<Op>& c) {
  TrainResult result = empty_result(c);
  const auto in = views(c.inputs), w = views(result.weights), out = views(result.outputs),
             saved = views(result.saved);
  train_reference(c.op, TrainOperands{in, w, out, saved, c.random});
  expect_guarded(result.outputs, "an output (reference)");
  return result;
}

template <class Op>
TrainResult train_on_cpu(const TrainCase<Op>& c, int threads) {
  TrainResult result = empty_result(c);
  const auto input_types = types(c.inputs);
  const auto in = views(c.inputs), w = views(result.weights), out = views(result.outputs),
             saved = views(result.saved);
  PackedWeights packed;
  const TrainStep step = cpu_train(c.op, CpuSetup{"node", input_types, w, threads, &packed});
  const Scratch scratch(step.scratch_bytes);
  step.run({in, w, out, saved, c.random}, scratch.get());
  expect_guarded(result.outputs, "an output");
  expect_guarded(result.saved, "a saved tensor");
  expect_guarded(result.weights, "a weight");
  EXPECT_TRUE(scratch.guards_intact()) << "scratch overrun";
  return result;
}

// Runs `run(operands)` with NaN in the gradients of inputs and `before` in those of weights; what
// Saved does not list has no memory.
template <class Op, class Run>
Gradients gradients_of(const TrainCase<Op>& c, const TrainResult& forward,
                       const std::vector<Tensor>& before, const Run& run) {
  const Saved kept = saved_for_backward(c.op, types(c.inputs));
  Gradients gradients;
  std::vector<TensorView> in = views(c.inputs), out = views(forward.outputs), input_views,
                          weight_views;
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (!kept.inputs[i]) in[i].pointer = nullptr;
    gradients.inputs.push_back(gradient_like(c.inputs[i]));
    input_views.push_back(gradients.inputs[i].view());
    if (c.inputs[i].type().dtype != DType::kF32) input_views[i].pointer = nullptr;
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!kept.outputs[i]) out[i].pointer = nullptr;
  }
  for (std::size_t i = 0; i < c.weights.size(); ++i) {
    gradients.weights.push_back(before[i].copy());
    weight_views.push_back(gradients.weights[i].view());
    if (!has_gradient(c, i)) weight_views[i].pointer = nullptr;
  }
  const std::vector<Tensor> dy = output_gradients_of(c);
  const auto w = views(c.weights), saved = views(forward.saved), dy_views = views(dy);
  run(BackwardOperands{in, w, out, saved, dy_views, input_views, weight_views});
  expect_guarded(gradients.inputs, "an input's gradient");
  expect_guarded(gradients.weights, "a weight's gradient");
  return gradients;
}

// What the gradients of weights hold before: not zero, so that a run that overwrites them fails.
template <class Op>
std::vector<Tensor> earlier_gradients(const TrainCase<Op>& c, bool zero) {
  std::vector<Tensor> list;
  for (const Tensor& weight : c.weights)
    list.push_back(
        random(weight.type().shape, 9000 + static_cast<unsigned>(list.size()), zero ? 0.0f : 1.0f));
  return list;
}

template <class Op>
Gradients backward_by_reference(const TrainCase<Op>& c, const TrainResult& forward, bool zero) {
  return gradients_of(c, forward, earlier_gradients(c, zero),
                      [&](const BackwardOperands& o) { backward_reference(c.op, o); });
}

template <class Op>
Gradients backward_on_cpu(const TrainCase<Op>& c, const TrainResult& forward, int threads) {
  const auto input_types = types(c.inputs);
  const auto w = views(c.weights);
  PackedWeights packed;
  const BackwardStep step = cpu_backward(c.op, CpuSetup{"node", input_types, w, threads, &packed});
  return gradients_of(c, forward, earlier_gradients(c, false), [&](const BackwardOperands& o) {
    const Scratch scratch(step.scratch_bytes);
    step.run(o, scratch.get());
    EXPECT_TRUE(scratch.guards_intact()) << "scratch overrun";
  });
}

inline void expect_same_bytes(const std::vector<Tensor>& a, const std::vector<Tensor>& b,
                              const std::string& what) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i)
    EXPECT_TRUE(a[i].same_bytes(b[i])) << what << " " << i << " differs";
}

// Bounds of the three kinds of results. Those of gradients hold for |dy| of order one.
struct BackwardBounds {
  Bound forward;  // outputs, saved tensors, running statistics
  Bound input;
  Bound weight;
};

// `result` is a TrainResult or has its tensors.
template <class Result>
void expect_forward_close(const Result& result, const TrainResult& expected, Bound bound) {
  expect_close(result.outputs, expected.outputs, bound, "output");
  expect_close(result.saved, expected.saved, bound, "saved");
  expect_close(result.weights, expected.weights, bound, "weight after");
}

// The whole check of the CPU's training and backward run against the reference, which also tells
// that 1, 2 and 3 threads give the same bytes, and a second run as well.
template <class Op>
void check_backward(const TrainCase<Op>& c, const BackwardBounds& bounds) {
  const TrainResult expected = train_by_reference(c);
  const TrainResult result = train_on_cpu(c, 1);
  expect_forward_close(result, expected, bounds.forward);
  for (const int threads : {2, 3}) {
    const TrainResult other = train_on_cpu(c, threads);
    expect_same_bytes(result.outputs, other.outputs, "output of other threads");
    expect_same_bytes(result.saved, other.saved, "saved of other threads");
    expect_same_bytes(result.weights, other.weights, "weight of other threads");
  }

  const Gradients reference = backward_by_reference(c, expected, false);
  const Gradients gradients = backward_on_cpu(c, expected, 1);
  for (std::size_t i = 0; i < gradients.inputs.size(); ++i) {
    if (c.inputs[i].type().dtype != DType::kF32) continue;
    SCOPED_TRACE("gradient of input " + std::to_string(i));
    expect_close(gradients.inputs[i], reference.inputs[i], bounds.input);
  }
  expect_close(gradients.weights, reference.weights, bounds.weight, "gradient of weight");
  for (const int threads : {1, 2, 3}) {
    const Gradients other = backward_on_cpu(c, expected, threads);
    const std::string what = " gradient with " + std::to_string(threads) + " threads,";
    expect_same_bytes(gradients.inputs, other.inputs, "input" + what);
    expect_same_bytes(gradients.weights, other.weights, "weight" + what);
  }
}

// sum of dy y over all outputs of the reference's forward run.
template <class Op>
double weighted_outputs(const TrainCase<Op>& c) {
  const TrainResult forward = train_by_reference(c);
  const std::vector<Tensor> dy = output_gradients_of(c);
  double sum = 0;
  for (std::size_t i = 0; i < dy.size(); ++i) {
    const std::vector<float> y = forward.outputs[i].values(), factor = dy[i].values();
    for (std::size_t j = 0; j < y.size(); ++j) sum += static_cast<double>(y[j]) * factor[j];
  }
  return sum;
}

// Central differences of the reference's forward run against its backward run. With values of order
// one, a step of 2^-6 leaves a truncation of step^2 / 6 times the third derivative, and the
// rounding of the outputs, 2^-24 each, over the step; `tolerance` is relative to the largest
// gradient of the tensor.
template <class Op>
void check_finite_differences(const TrainCase<Op>& c, double tolerance = 2e-3) {
  constexpr float kStep = 0x1p-6f;
  constexpr std::size_t kMostElements = 60;  // of one tensor
  const Gradients gradients = backward_by_reference(c, train_by_reference(c), true);
  const auto check = [&](const Tensor& tensor, const Tensor& gradient, const std::string& what) {
    SCOPED_TRACE(what);
    const std::vector<float> analytic = gradient.values();
    double largest = 1e-3;
    for (const float value : analytic) largest = std::max<double>(largest, std::abs(value));
    auto* values = tensor.view().as<float>();
    const std::size_t stride = (analytic.size() + kMostElements - 1) / kMostElements;
    for (std::size_t i = 0; i < analytic.size(); i += stride) {
      const float before = values[i], above = before + kStep, below = before - kStep;
      values[i] = above;
      const double up = weighted_outputs(c);
      values[i] = below;
      const double down = weighted_outputs(c);
      values[i] = before;
      const double slope = (up - down) / (static_cast<double>(above) - static_cast<double>(below));
      EXPECT_TRUE(std::abs(slope - analytic[i]) <= tolerance * largest)
          << "element " << i << ": differences give " << slope << ", the backward run "
          << analytic[i];
    }
  };
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    if (c.inputs[i].type().dtype == DType::kF32)
      check(c.inputs[i], gradients.inputs[i], "input " + std::to_string(i));
  }
  for (std::size_t i = 0; i < c.weights.size(); ++i) {
    if (has_gradient(c, i))
      check(c.weights[i], gradients.weights[i], "weight " + std::to_string(i));
  }
}

}  // namespace tessera::test
