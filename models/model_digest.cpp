#include "models/model_digest.h"

#include "engine/files/digest.h"

namespace tessera {

std::string digest_of(ModelFile& file) {
  nlohmann::json said = to_json(file.config);
  said.erase("provenance");
  Digest digest;
  digest.add(said.dump());
  for (const std::string& name : file.weights.names()) {
    const TensorView tensor = file.weights.take_any_shape(name);
    digest.add(fmt::format("\n{} {}\n", name, tensor.type));
    digest.add({static_cast<const char*>(tensor.pointer), tensor.type.bytes()});
  }
  // Of a model file they are one of its tensors.
  if (file.vocabulary) digest.add(file.vocabulary->to_blob());
  return digest.hex();
}

std::string digest_of_model(const std::filesystem::path& path, const ImportOptions& options) {
  ModelFile file = open_model(path, options);
  return digest_of(file);
}

}  // namespace tessera
