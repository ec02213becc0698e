#include <cstdint>
#include <utility>

#include "models/import/import.h"

namespace tessera {

void Imported::add(const std::string& name, FloatTensor tensor) {
  const auto kept = std::make_shared<FloatTensor>(std::move(tensor));
  tensors.insert_or_assign(name, kept->view());
  owners.push_back(kept);
}

void Imported::add(const std::string& name, const StoredTensor& tensor) {
  const bool in_place = tensor.type == StoredTensor::Type::kF32 && tensor.strides.empty() &&
                        reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % sizeof(float) == 0;
  if (!in_place) return add(name, read_floats(tensor));
  // The view's pointer is mutable for the sake of outputs; nobody writes to weights.
  tensors.insert_or_assign(name, TensorView(const_cast<std::byte*>(tensor.bytes.data()),
                                            {DType::kF32, Shape(tensor.shape)}));
}

}  // namespace tessera
