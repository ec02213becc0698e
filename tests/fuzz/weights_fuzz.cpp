// libFuzzer target: hostile model files through the safetensors reader. Whatever it accepts must be
// usable: every byte of every tensor readable, aligned, and no more bytes than the file has.
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>

#include "engine/files/weights.h"
#include "kernels/error.h"

namespace {

void check(bool ok) {
  if (!ok) std::abort();
}

void use(tessera::Weights weights, std::size_t file_bytes) {
  std::size_t total = 0;
  unsigned sum = 0;
  for (const std::string& name : weights.names()) {
    check(weights.contains(name));
    const tessera::TensorView view = weights.take_any_shape(name);
    check(reinterpret_cast<std::uintptr_t>(view.pointer) % size_of(view.type.dtype) == 0);
    check(weights.take(name, view.shape()).pointer == view.pointer);
    for (const std::uint8_t byte : std::span(view.as<const std::uint8_t>(), view.type.bytes()))
      sum += byte;
    total += view.type.bytes();
  }
  check(sum <= 255 * file_bytes);
  check(total == weights.total_bytes() && total <= file_bytes);
  weights.check_all_used();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  try {
    use(tessera::Weights::from_bytes(std::as_bytes(std::span(bytes, size))), size);
  } catch (const tessera::Error& error) {
    check(std::string(error.what()).size() < 4096);
  }
  return 0;
}
