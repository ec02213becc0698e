#include "tests/support/operator_check.h"

#include <algorithm>
#include <cmath>

namespace tessera::test {

namespace {
constexpr std::byte kGuardByte{0x5a};
}

Tensor::Tensor(TensorType type)
    : type_(type),
      memory_(std::make_shared<std::vector<std::byte>>(type.bytes() + 2 * kGuard, kGuardByte)) {
  std::memset(view().pointer, 0xff, type.bytes());
}

Tensor Tensor::of(Shape shape, const std::vector<float>& values) {
  Tensor tensor({DType::kF32, shape});
  require(shape.elements() == static_cast<std::int64_t>(values.size()), "{} values for {}",
          values.size(), shape.to_string());
  std::ranges::copy(values, tensor.view().as<float>());
  return tensor;
}

Tensor Tensor::of_ids(Shape shape, const std::vector<std::int32_t>& ids) {
  Tensor tensor({DType::kI32, shape});
  require(shape.elements() == static_cast<std::int64_t>(ids.size()), "{} ids for {}", ids.size(),
          shape.to_string());
  std::ranges::copy(ids, tensor.view().as<std::int32_t>());
  return tensor;
}

Tensor Tensor::rounded_to(DType dtype) const {
  Tensor copy({dtype, type_.shape});
  const std::vector<float> from = values();
  for (std::size_t i = 0; i < from.size(); ++i) {
    if (dtype == DType::kBF16) {
      copy.view().as<std::uint16_t>()[i] = f32_to_bf16(from[i]);
    } else if (dtype == DType::kF16) {
      copy.view().as<std::uint16_t>()[i] = f32_to_f16(from[i]);
    } else {
      copy.view().as<float>()[i] = from[i];
    }
  }
  return copy;
}

Tensor Tensor::copy() const {
  Tensor other = *this;
  other.memory_ = std::make_shared<std::vector<std::byte>>(*memory_);
  return other;
}

bool Tensor::guards_intact() const {
  for (std::size_t i = 0; i < kGuard; ++i) {
    if ((*memory_)[i] != kGuardByte || (*memory_)[memory_->size() - 1 - i] != kGuardByte)
      return false;
  }
  return true;
}

bool Tensor::same_bytes(const Tensor& other) const {
  return type_ == other.type_ && *memory_ == *other.memory_;
}

Tensor random(Shape shape, unsigned seed, float scale) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(static_cast<std::size_t>(shape.elements()));
  for (float& value : values) value = normal(generator);
  return Tensor::of(shape, values);
}

void expect_close(const Tensor& result, const Tensor& reference, Bound bound) {
  ASSERT_EQ(result.type().shape, reference.type().shape);
  const DType dtype = reference.type().dtype;
  if (dtype == DType::kU8 || dtype == DType::kI32) {
    EXPECT_TRUE(result.same_bytes(reference)) << "integers differ";
    return;
  }
  const std::vector<float> got = result.values(), want = reference.values();
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double difference = std::abs(static_cast<double>(got[i]) - static_cast<double>(want[i]));
    const double limit = bound.absolute + bound.relative * std::abs(static_cast<double>(want[i]));
    if (!(difference <= limit)) {
      ADD_FAILURE() << "element " << i << " of " << result.type().to_string() << ": " << got[i]
                    << ", reference " << want[i] << ", difference " << difference << " > " << limit;
      return;
    }
  }
}

void expect_close(const std::vector<Tensor>& results, const std::vector<Tensor>& references,
                  Bound bound, const std::string& what) {
  ASSERT_EQ(results.size(), references.size());
  for (std::size_t i = 0; i < results.size(); ++i) {
    SCOPED_TRACE(what + " " + std::to_string(i));
    expect_close(results[i], references[i], bound);
  }
}

std::vector<Tensor> copies(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> list;
  for (const Tensor& tensor : tensors) list.push_back(tensor.copy());
  return list;
}

std::vector<TensorView> views(const std::vector<Tensor>& tensors) {
  std::vector<TensorView> list;
  for (const Tensor& tensor : tensors) list.push_back(tensor.view());
  return list;
}

std::vector<TensorType> types(const std::vector<Tensor>& tensors) {
  std::vector<TensorType> list;
  for (const Tensor& tensor : tensors) list.push_back(tensor.type());
  return list;
}

}  // namespace tessera::test
