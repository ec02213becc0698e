// Models of Keras, from what the HDF5 library says of a file to the network. The text is JSON as
// that library's process gives it (models/import/hdf5_library.h), but that the attribute
// "model_config", a text, stands there as the JSON that it holds.
#include <string>
#include <vector>

#include "models/import/hdf5.h"
#include "models/import/keras_file.h"
#include "models/import/keras_han.h"
#include "models/import/keras_image.h"
#include "models/import/keras_model.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/json_mutator.h"

namespace {

using namespace tessera;

void import_walk(const std::string& text, const nlohmann::json& config) {
  static const std::vector<std::byte> bytes(1 << 18, std::byte{1});
  static const std::string words = "the\nand\nof\n";
  static const fuzz::MemoryFile vocabulary(std::as_bytes(std::span(words)));
  Contents contents;
  contents.file = "/nonexistent/fuzz";
  try {
    add_keras_weights(hdf5_of_walk(text, bytes, {}), contents);
  } catch (const nlohmann::json::exception&) {
    return;
  }
  fuzz::use(contents);
  if (!contents.said.contains("config")) contents.said["config"] = config;  // as of an archive
  ImportOptions options;
  options.vocabulary = vocabulary.path();
  const KerasModel model = read_keras_model(contents);
  fuzz::use(is_keras_han(model) ? read_keras_han(model, contents, options)
                                : read_keras_image(model, contents, options));
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* bytes, std::size_t size,
                                               std::size_t most, unsigned seed) {
  return fuzz::mutate_json(bytes, size, most, seed);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  nlohmann::json walked = nlohmann::json::parse(bytes, bytes + size, nullptr, false);
  if (walked.is_discarded()) return 0;
  const auto dumped = [](const nlohmann::json& value) {
    return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  try {
    nlohmann::json description;
    // The outermost group's. json_pointer would throw where a list has the place of a group.
    if (const auto groups = walked.find("groups"); groups != walked.end() && groups->is_object())
      if (const auto root = groups->find("");
          root != groups->end() && root->contains("model_config")) {
        nlohmann::json& config = (*root)["model_config"];
        description = config;
        config = dumped(description);
      }
    import_walk(dumped(walked), description);
  } catch (const Error& error) {
    fuzz::check_error(error);
  }
  return 0;
}
