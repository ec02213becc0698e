// Holds an operator's fast path against its reference, the same way for every operator.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/paths.h"
#include "kernels/cpu/step.h"
#include "kernels/operator.h"

namespace tessera::test {

// A tensor that owns its memory, between two guard bands whose bytes must survive every run.
class Tensor {
 public:
  static constexpr std::size_t kGuard = 256;  // bytes before and behind

  Tensor() = default;
  explicit Tensor(TensorType type);  // NaN in every element (0xff bytes)
  static Tensor of(Shape shape, const std::vector<float>& values);          // f32
  static Tensor of_ids(Shape shape, const std::vector<std::int32_t>& ids);  // i32

  TensorView view() const { return {memory_->data() + kGuard, type_}; }
  const TensorType& type() const { return type_; }
  Tensor rounded_to(DType dtype) const;  // a copy as bf16, f16 or f32
  std::vector<float> values() const { return to_f32(view()); }
  Tensor copy() const;  // with memory of its own
  bool guards_intact() const;
  bool same_bytes(const Tensor& other) const;

 private:
  TensorType type_;
  std::shared_ptr<std::vector<std::byte>> memory_;
};

// Deterministic normal values.
Tensor random(Shape shape, unsigned seed, float scale = 1.0f);

// |result - reference| <= absolute + relative * |reference|, else a failure that names the element.
struct Bound {
  double absolute = 0;
  double relative = 0;
};

// Bound of a sum of `terms` products rounded in f32, with operands of order one: the derivation
// that each case states beside it.
inline Bound sum_bound(std::int64_t terms) {
  const double epsilon = 0x1p-24;
  return {4 * epsilon * static_cast<double>(terms), 8 * epsilon};
}

void expect_close(const Tensor& result, const Tensor& reference, Bound bound);
// `what` names the kind of tensor in a failure.
void expect_close(const std::vector<Tensor>& results, const std::vector<Tensor>& references,
                  Bound bound, const std::string& what);

std::vector<Tensor> copies(const std::vector<Tensor>& tensors);  // with memory of their own
std::vector<TensorView> views(const std::vector<Tensor>& tensors);
std::vector<TensorType> types(const std::vector<Tensor>& tensors);

// Outputs of the reference: f32 (integers stay integers), read from operands of any float type.
template <class Op>
std::vector<Tensor> run_reference(const Op& op, const std::vector<Tensor>& inputs,
                                  const std::vector<Tensor>& weights) {
  const auto input_types = types(inputs);
  const auto parameter_list = parameters(op, input_types);
  EXPECT_EQ(parameter_list.size(), weights.size());
  for (std::size_t i = 0; i < parameter_list.size(); ++i)
    EXPECT_EQ(parameter_list[i].shape, weights[i].type().shape) << parameter_list[i].name;
  std::vector<Tensor> outputs;
  for (TensorType type : infer(op, input_types)) {
    if (type.dtype == DType::kBF16 || type.dtype == DType::kF16) type.dtype = DType::kF32;
    outputs.emplace_back(type);
  }
  const auto in = views(inputs), w = views(weights), out = views(outputs);
  reference(op, {in, w, out});
  for (const Tensor& output : outputs) EXPECT_TRUE(output.guards_intact()) << "reference";
  return outputs;
}

// Outputs of the CPU path: NaN before, guards checked, scratch poisoned.
template <class Op>
std::vector<Tensor> run_cpu(const Op& op, const std::vector<Tensor>& inputs,
                            const std::vector<Tensor>& weights, int threads) {
  const auto input_types = types(inputs);
  const auto in = views(inputs), w = views(weights);
  const std::vector<Tensor> inputs_before = copies(inputs), weights_before = copies(weights);
  PackedWeights packed;
  const Step step = host_step(op, {"node", input_types, w, threads, &packed});
  std::vector<Tensor> first, second;
  for (std::vector<Tensor>* outputs : {&first, &second}) {
    for (const TensorType& type : infer(op, input_types)) outputs->emplace_back(type);
    Tensor scratch({DType::kU8, {static_cast<std::int64_t>(step.scratch_bytes) + 64}});
    auto address = reinterpret_cast<std::uintptr_t>(scratch.view().pointer);
    auto* aligned = reinterpret_cast<std::byte*>((address + 63) / 64 * 64);
    const auto out = views(*outputs);
    step.run({in, w, out}, aligned);
    for (const Tensor& output : *outputs) EXPECT_TRUE(output.guards_intact()) << "wrote outside";
    EXPECT_TRUE(scratch.guards_intact()) << "scratch overrun";
  }
  for (std::size_t i = 0; i < first.size(); ++i)
    EXPECT_TRUE(first[i].same_bytes(second[i])) << "a second run differs, output " << i;
  for (std::size_t i = 0; i < inputs.size(); ++i)
    EXPECT_TRUE(inputs[i].same_bytes(inputs_before[i])) << "wrote into input " << i;
  for (std::size_t i = 0; i < weights.size(); ++i)
    EXPECT_TRUE(weights[i].same_bytes(weights_before[i])) << "wrote into weight " << i;
  return first;
}

// The whole check: CPU with 1, 2 and 3 threads gives the same bytes, within `bound` of the
// reference.
template <class Op>
void check_cpu(const Op& op, const std::vector<Tensor>& inputs, const std::vector<Tensor>& weights,
               Bound bound) {
  const std::vector<Tensor> expected = run_reference(op, inputs, weights);
  const std::vector<Tensor> result = run_cpu(op, inputs, weights, 1);
  expect_close(result, expected, bound, "output");
  for (int threads : {2, 3}) {
    const std::vector<Tensor> other = run_cpu(op, inputs, weights, threads);
    for (std::size_t i = 0; i < result.size(); ++i)
      EXPECT_TRUE(result[i].same_bytes(other[i])) << threads << " threads differ, output " << i;
  }
}

}  // namespace tessera::test
