// ONNX files, from their bytes to the network.
#include "models/import/onnx_model.h"
#include "models/import/onnx_network.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace tessera;
  try {
    const std::span<const std::byte> all = std::as_bytes(std::span(bytes, size));
    const OnnxModel model = read_onnx(all, "fuzz.onnx", "/nonexistent");
    for (const StoredTensor& tensor : model.initializers) check_stored(tensor);
    fuzz::use(import_onnx(model, {}));
  } catch (const Error& error) {
    fuzz::check_error(error);
  }
  return 0;
}
