#include "kernels/tensor.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "kernels/error.h"

namespace tessera {

std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBF16:
    case DType::kF16:
      return 2;
    case DType::kI64:
      return 8;
    case DType::kU8:
      return 1;
  }
  fail("unknown element type {}", static_cast<int>(dtype));
}

std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kBF16:
      return "bf16";
    case DType::kF16:
      return "f16";
    case DType::kI32:
      return "i32";
    case DType::kI64:
      return "i64";
    case DType::kU8:
      return "u8";
  }
  fail("unknown element type {}", static_cast<int>(dtype));
}

Shape::Shape(std::initializer_list<std::int64_t> dims)
    : Shape(std::span<const std::int64_t>(dims.begin(), dims.size())) {}

Shape::Shape(std::span<const std::int64_t> dims) : rank_(static_cast<int>(dims.size())) {
  require(dims.size() <= kMaxRank, "a tensor has at most {} axes, not {}", kMaxRank, dims.size());
  std::copy(dims.begin(), dims.end(), dims_.begin());
}

std::int64_t Shape::elements() const {
  return elements(0, rank_);
}

std::int64_t Shape::elements(int first, int last) const {
  // So few that neither the bytes of a tensor nor the sum of some of them overflow.
  constexpr std::int64_t kMost = std::int64_t{1} << 56;
  std::int64_t product = 1;
  bool fits = true;
  for (int i = axis(first); i < axis(last); ++i)
    fits &= !__builtin_mul_overflow(product, dims_[static_cast<std::size_t>(i)], &product);
  if (!fits || product > kMost) [[unlikely]]  // not `require`: its text would be made every time
    fail("a tensor of shape {} has more than 2^56 elements; use a smaller image or batch",
         to_string());
  return product;
}

std::string Shape::to_string() const {
  return fmt::format("({})", fmt::join(dims(), ", "));
}

std::string TensorType::to_string() const {
  return fmt::format("{} {}", name_of(dtype), shape);
}

}  // namespace tessera
