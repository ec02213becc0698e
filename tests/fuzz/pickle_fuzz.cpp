// Any bytes at all are a pickle or an Error; all of a pickle's values can be asked for.
#include <string>

#include "kernels/error.h"
#include "models/import/pickle.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace tessera;
  try {
    const std::span<const std::byte> all = std::as_bytes(std::span(bytes, size));
    const Pickle pickle = Pickle::read(all, "fuzz");
    fuzz::check(pickle.consumed <= size && pickle.root < pickle.values.size());
    for (const PickleValue& value : pickle.values) {
      for (const PickleRef item : value.items) fuzz::check(item < pickle.values.size());
      fuzz::check(!value.is(PickleValue::Kind::kDict) || value.items.size() % 2 == 0);
      pickle.find(pickle.state(value), pickle.class_name(value));
    }
    constexpr int kDepth = 16;
    std::size_t budget = 1 << 16;
    pickle.to_json(pickle.root, kDepth, budget).dump();
  } catch (const Error& error) {
    fuzz::check_error(error);
  }
  return 0;
}
