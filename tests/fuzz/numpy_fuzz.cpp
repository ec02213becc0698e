// Any bytes at all are an array of numpy.save or an Error.
#include "models/import/numpy_file.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace tessera;
  try {
    const StoredTensor tensor = parse_numpy(std::as_bytes(std::span(bytes, size)), "fuzz");
    fuzz::check(tensor.bytes.size() <= size);
    const FloatTensor floats = read_floats(tensor);
    if (!tensor.is_float()) fuzz::check(read_integers(tensor).size() == floats.values.size());
  } catch (const Error& error) {
    fuzz::check_error(error);
  }
  return 0;
}
