// How numbers are stored and multiplied. Sums are f32 always.
#pragma once

#include <cstdint>
#include <string_view>

namespace tessera {

//   kFp32: f32 throughout.
//   kTf32: f32 in memory, rounded to 10 bits of fraction before a product.
//   kBf16, kFp16: maps of images are stored so and multiplied as they are; the f32 tensors of
//   documents are rounded so before a product.
enum class Precision : std::uint8_t { kFp32, kTf32, kBf16, kFp16 };

constexpr std::string_view name_of(Precision precision) {
  constexpr std::string_view kNames[] = {"fp32", "tf32", "bf16", "fp16"};
  return kNames[static_cast<std::uint8_t>(precision)];
}

}  // namespace tessera
