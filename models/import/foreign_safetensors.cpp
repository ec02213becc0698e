#include "models/import/foreign_safetensors.h"

#include "engine/files/safetensors.h"
#include "kernels/error.h"

namespace tessera {
namespace {

StoredTensor::Type stored_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return StoredTensor::Type::kF32;
    case DType::kBF16:
      return StoredTensor::Type::kBF16;
    case DType::kF16:
      return StoredTensor::Type::kF16;
    case DType::kI32:
      return StoredTensor::Type::kI32;
    case DType::kI64:
      return StoredTensor::Type::kI64;
    case DType::kU8:
      return StoredTensor::Type::kU8;
  }
  fail("no stored type for {}", name_of(dtype));
}

}  // namespace

Contents read_safetensors(const MappedFile& file, const std::string& name) {
  const SafetensorsHeader header = parse_safetensors(file.bytes(), name);
  Contents contents;
  contents.file = name;
  contents.format = "safetensors";
  for (const auto& [tensor, entry] : header.tensors) {
    const auto dims = entry.type.shape.dims();
    contents.tensors.push_back({tensor,
                                stored_type(entry.type.dtype),
                                {dims.begin(), dims.end()},
                                {},
                                file.bytes().subspan(entry.begin, entry.type.bytes())});
  }
  contents.said["metadata"] = header.metadata;
  contents.owners.push_back(file.owner());
  return contents;
}

}  // namespace tessera
