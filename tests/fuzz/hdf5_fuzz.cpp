// HDF5 files through the library's process: whatever goes wrong there is an Error here. Its
// coverage is not seen, for it is another process's.
#include "models/import/hdf5.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace tessera;
  try {
    const Hdf5 hdf5 = read_hdf5(std::as_bytes(std::span(bytes, size)), "fuzz");
    for (const StoredTensor& tensor : hdf5.tensors)
      if (tensor.shape.size() <= Shape::kMaxRank) read_floats(tensor);
  } catch (const Error& error) {
    fuzz::check_error(error);
  }
  return 0;
}
