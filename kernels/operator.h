// What every operator has in common.
//
// An operator is a struct of attributes in kernels/<op>/<op>.h, listed once in kernels/ops/ops.h,
// with these functions found by overload on the struct:
//
//   static constexpr std::string_view kName;                      its name in files: "conv"
//   void fields(visit, op);                                       what the network means by it
//   std::vector<TensorType> infer(const Op&, Types inputs);       output types; throws on bad input
//   std::vector<Parameter> parameters(const Op&, Types inputs);   weights, in operand order
//   Cost cost(const Op&, Types inputs);                           FLOPs and bytes of one run
//   Extent extent(const Op&, const Along&, std::span<const Interval> wanted);
//                                                                 what a piece of the outputs reads
//   Op part(const Op&, const Along&, Extent& piece);              the operator that makes the piece
//   void reference(const Op&, const Operands&);                   the oracle: obvious loops
//
// The oracle accumulates in double, reads any float type and writes f32. That is all that an
// operator must have. What makes it fast is declared by each back-end for itself: cpu/paths.h,
// cuda/paths.h, train/ops.h; without a path of its own a device runs the CPU's, else the oracle.
//
// `extent` goes from outputs to inputs along an axis. `wanted` has an interval for each output; an
// empty one is not wanted. Its outputs are what gets made: `wanted`, grown to whole groups where
// elements share their rounding or a window. Its inputs are what that reads, cut to the map. A
// larger wish never gives less, and the bytes of what is wanted are those of the whole.
//
// `part` gets that extent with the intervals that the inputs really hold, which may be more. What
// lies outside of the whole maps becomes pads, crops and offsets of the operator that it returns;
// where that cannot skip what it was given, `part` sets the intervals of inputs and outputs to
// those that it takes and makes. They may only grow, and what was not wanted may hold anything. The
// two axes are cut one after the other.
//
// `fields` calls visit(name, attribute, range...) for each attribute that a model file keeps, in a
// fixed order; `op` is const or not. An attribute is a bool, int, double, enumeration with
// names_of, array or list of ints, or a struct with `fields` of its own. What passes decide (fused
// neighbours, technique, storage type) lies in the struct too, but in no file.
#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "kernels/error.h"
#include "kernels/extent.h"
#include "kernels/tensor.h"

namespace tessera {

using Types = std::span<const TensorType>;

// What `fields` takes: an Op, const or not.
template <class T, class Op>
concept Of = std::same_as<std::remove_const_t<T>, Op>;

// A visitor for `fields` that does nothing.
struct IgnoreFields {
  template <class... Any>
  void operator()(Any&&...) const {}
};

// The values that a number, or each of an array, may have; both ends belong to it.
struct Range {
  double least = 0;
  double most = 0;
};
inline constexpr double kAboveZero = std::numeric_limits<double>::min();
inline constexpr double kNoLimit = std::numeric_limits<double>::max();

// What a weight does in its operator: training decays weights and tables alone, and updates
// statistics without a gradient.
enum class Role : std::uint8_t { kWeight, kBias, kScale, kShift, kStatistic, kTable };

// How a weight starts where a network is trained from nothing.
struct Start {
  enum class Kind : std::uint8_t { kConstant, kNormal, kUniform, kOrthogonal };
  Kind kind = Kind::kConstant;
  double size = 0;  // the constant, the standard deviation, or the limit on either side
  std::int64_t ones_begin = 0, ones_end = 0;  // kConstant: these elements are 1
};
inline Start constant(double value) {
  return {Start::Kind::kConstant, value};
}
inline Start uniform(double limit) {
  return {Start::Kind::kUniform, limit};
}
inline Start orthogonal() {
  return {Start::Kind::kOrthogonal};
}
// He et al. 2015: normal, for what ReLU follows.
inline Start he(double fan_in) {
  return {Start::Kind::kNormal, std::sqrt(2 / fan_in)};
}
// Glorot & Bengio 2010: uniform.
inline Start glorot(std::int64_t fan_in, std::int64_t fan_out) {
  return uniform(std::sqrt(6.0 / static_cast<double>(fan_in + fan_out)));
}

// One weight tensor of an operator: its name below the node's ("weight", "bias") and its shape in
// the model file, which is PyTorch's.
struct Parameter {
  std::string name;
  Shape shape;
  Role role;
  Start start;
};
inline Parameter bias(std::int64_t count) {
  return {"bias", {count}, Role::kBias, constant(0)};
}

// Work of one run, for rooflines: multiply and add count as two operations; bytes are what must
// cross memory once (inputs, weights, outputs).
struct Cost {
  double flops = 0;
  double bytes = 0;
};

// The memory that one run of an operator reads and writes, in the order its header documents.
struct Operands {
  std::span<const TensorView> inputs;
  std::span<const TensorView> weights;
  std::span<const TensorView> outputs;
};

// One operator on one shape, ready to run any number of times on the device that made it. `run`
// gets `scratch_bytes` of 64-byte aligned memory whose content is undefined. Equal operands give
// equal bytes, whatever the number of threads, the batch, and the scratch. A path that does not
// serve an operator's attributes returns a step without `run`.
struct Step {
  std::size_t scratch_bytes = 0;
  std::function<void(const Operands&, std::byte* scratch)> run;
  bool on_host = false;  // on a GPU: the host computes it, between copies
};

// Bytes of all inputs, parameters (f32) and outputs: the memory term of a roofline.
template <class Op>
double bytes_moved(const Op& op, Types inputs) {
  double bytes = 0;
  for (const TensorType& t : inputs) bytes += static_cast<double>(t.bytes());
  for (const Parameter& p : parameters(op, inputs))
    bytes += 4.0 * static_cast<double>(p.shape.elements());
  for (const TensorType& t : infer(op, inputs)) bytes += static_cast<double>(t.bytes());
  return bytes;
}

}  // namespace tessera
