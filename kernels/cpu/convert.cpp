#include "kernels/cpu/convert.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/error.h"

namespace tessera {

float f16_to_f32(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1f;
  const int fraction = bits & 0x3ff;
  float magnitude;
  if (exponent == 0x1f) {
    magnitude = fraction != 0 ? NAN : INFINITY;
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(fraction), -24);
  } else {
    magnitude = std::ldexp(static_cast<float>(fraction | 0x400), exponent - 25);
  }
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

std::uint16_t f32_to_f16(float value) {
  const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
  const float magnitude = std::abs(value);
  if (std::isnan(value)) return sign | 0x7e00;
  if (magnitude >= 65520.0f) return sign | 0x7c00;
  int exponent;
  std::frexp(magnitude, &exponent);  // magnitude < 2^exponent
  const int place = std::max(exponent - 11, -24);
  const float rounded = std::nearbyint(std::ldexp(magnitude, -place));
  const float result = std::ldexp(rounded, place);
  if (result < 0x1p-14f) return sign | static_cast<std::uint16_t>(std::ldexp(result, 24));
  std::frexp(result, &exponent);
  const auto fraction = static_cast<std::uint16_t>(std::ldexp(result, 11 - exponent));
  return static_cast<std::uint16_t>(sign | ((exponent + 14) << 10) | (fraction & 0x3ff));
}

float element_f32(const TensorView& tensor, std::int64_t i) {
  switch (tensor.type.dtype) {
    case DType::kF32:
      return tensor.as<float>()[i];
    case DType::kBF16:
      return bf16_to_f32(tensor.as<std::uint16_t>()[i]);
    case DType::kF16:
      return f16_to_f32(tensor.as<std::uint16_t>()[i]);
    default:
      fail("a floating-point tensor (f32, bf16, f16) was expected, not {}", tensor.type);
  }
}

namespace {

// Whether no element has all exponent bits set. A count, not an early end: it vectorises.
template <class Bits>
bool exponents_below(const TensorView& tensor, Bits exponent) {
  const Bits* bits = tensor.as<Bits>();
  const std::int64_t count = tensor.shape().elements();
  std::int64_t special = 0;
  for (std::int64_t i = 0; i < count; ++i) special += (bits[i] & exponent) == exponent;
  return special == 0;
}

}  // namespace

bool all_finite(const TensorView& tensor) {
  switch (tensor.type.dtype) {
    case DType::kF32:
      return exponents_below<std::uint32_t>(tensor, 0x7f800000);
    case DType::kBF16:
      return exponents_below<std::uint16_t>(tensor, 0x7f80);
    case DType::kF16:
      return exponents_below<std::uint16_t>(tensor, 0x7c00);
    default:
      fail("a floating-point tensor (f32, bf16, f16) was expected, not {}", tensor.type);
  }
}

std::vector<float> to_f32(const TensorView& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.shape().elements()));
  if (tensor.type.dtype == DType::kF32) {
    std::copy_n(tensor.as<const float>(), values.size(), values.begin());
    return values;
  }
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = element_f32(tensor, static_cast<std::int64_t>(i));
  return values;
}

}  // namespace tessera
