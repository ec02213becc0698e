// Tensors in a pickle of torch.save: which objects are tensors, and where their bytes lie.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "models/import/contents.h"
#include "models/import/pickle.h"

namespace tessera {

// What a persistent id of torch.save refers to: ("storage", class, key, device, elements[, view]).
struct TorchStorage {
  std::string_view key;
  std::optional<StoredTensor::Type> type;  // none: untyped, or of a type that we do not read
  std::string_view class_name;             // "torch.FloatStorage"
  std::int64_t elements = 0;               // bytes, of an untyped one
  // Before 1.6 a storage may be a part of the one that `key` names, from this element on.
  std::int64_t view_begin = 0;
};
// Nothing for what is no storage.
std::optional<TorchStorage> torch_storage(const Pickle& pickle, const PickleValue& value);

class TorchTensors {
 public:
  // The bytes of a storage, at least as many as it says. Throws Error where it has fewer.
  using BytesOf = std::function<std::span<const std::byte>(const TorchStorage& storage,
                                                           std::size_t element_bytes)>;

  TorchTensors(const Pickle& pickle, std::string file, BytesOf bytes_of)
      : pickle_(pickle), file_(std::move(file)), bytes_of_(std::move(bytes_of)) {}

  // Whether torch.load would make a tensor or a parameter of it.
  bool is_tensor(const PickleValue& value) const;
  // Throws Error for a sparse, quantised or complex tensor, one of 8-bit floats, and one whose
  // elements lie outside of its storage.
  StoredTensor read(std::string name, const PickleValue& value) const;

 private:
  struct Call {
    std::string_view function;  // "torch._utils._rebuild_tensor_v2"
    const PickleValue* arguments = nullptr;
  };
  Call call_of(const PickleValue& value) const;
  const PickleValue& argument(const Call& call, std::size_t index) const;

  const Pickle& pickle_;
  std::string file_;
  BytesOf bytes_of_;
};

}  // namespace tessera
