#include "models/import/torch_tensors.h"

#include <algorithm>
#include <array>
#include <utility>

#include "engine/files/safetensors.h"
#include "kernels/error.h"
#include "kernels/tensor.h"

namespace tessera {
namespace {

using StoredType = StoredTensor::Type;

constexpr std::string_view kRebuild = "torch._utils._rebuild_";

struct TypeNames {
  std::string_view storage, dtype;
  StoredType type;
};
constexpr std::array<TypeNames, 10> kTypes{
    {{"BoolStorage", "torch.bool", StoredType::kBool},
     {"ByteStorage", "torch.uint8", StoredType::kU8},
     {"CharStorage", "torch.int8", StoredType::kI8},
     {"ShortStorage", "torch.int16", StoredType::kI16},
     {"IntStorage", "torch.int32", StoredType::kI32},
     {"LongStorage", "torch.int64", StoredType::kI64},
     {"HalfStorage", "torch.float16", StoredType::kF16},
     {"BFloat16Storage", "torch.bfloat16", StoredType::kBF16},
     {"FloatStorage", "torch.float32", StoredType::kF32},
     {"DoubleStorage", "torch.float64", StoredType::kF64}}};

std::vector<std::int64_t> integers_of(const Pickle& pickle, const PickleValue& list,
                                      const std::string& tensor) {
  require(list.is_sequence() && list.items.size() <= static_cast<std::size_t>(Shape::kMaxRank),
          "tensor {} has no shape of at most {} axes", in_quotes(tensor), Shape::kMaxRank);
  std::vector<std::int64_t> numbers;
  for (const PickleRef item : list.items) {
    require(pickle[item].is(PickleKind::kInt), "tensor {} has a shape that is no whole numbers",
            in_quotes(tensor));
    numbers.push_back(pickle[item].integer);
  }
  return numbers;
}

// Whether an axis's stride matters, and differs from that of a dense tensor.
bool is_dense(const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& strides) {
  std::int64_t expected = 1;
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    if (shape[axis] != 1 && strides[axis] != expected) return false;
    if (__builtin_mul_overflow(expected, shape[axis], &expected)) return false;
  }
  return true;
}

}  // namespace

std::optional<TorchStorage> torch_storage(const Pickle& pickle, const PickleValue& value) {
  if (!value.is(PickleKind::kPersistent)) return std::nullopt;
  const PickleValue& id = pickle[value.items[0]];
  if (!id.is(PickleKind::kTuple) || id.items.size() < 5 || pickle[id.items[0]].text != "storage")
    return std::nullopt;
  TorchStorage storage;
  storage.class_name = pickle.class_name(pickle[id.items[1]]);
  const std::string_view name =
      storage.class_name.substr(storage.class_name.rfind('.') + 1);  // of torch or torch.cuda
  const auto known = std::find_if(kTypes.begin(), kTypes.end(),
                                  [&](const TypeNames& type) { return type.storage == name; });
  if (known != kTypes.end()) storage.type = known->type;
  const PickleValue& elements = pickle[id.items[4]];
  if (!pickle[id.items[2]].is(PickleKind::kText) || !elements.is(PickleKind::kInt) ||
      elements.integer < 0)
    return std::nullopt;
  storage.key = pickle[id.items[2]].text;
  storage.elements = elements.integer;
  if (id.items.size() > 5 && pickle[id.items[5]].is_sequence()) {
    const PickleValue& view = pickle[id.items[5]];
    if (view.items.size() != 3 || !pickle[view.items[1]].is(PickleKind::kInt) ||
        pickle[view.items[1]].integer < 0)
      return std::nullopt;
    storage.view_begin = pickle[view.items[1]].integer;
  }
  return storage;
}

TorchTensors::Call TorchTensors::call_of(const PickleValue& value) const {
  const PickleValue* at = &value;
  constexpr int kMostWrappers = 8;
  for (int depth = 0; depth < kMostWrappers && at->is(PickleKind::kObject); ++depth) {
    const PickleValue& arguments = pickle_[pickle_.objects[at->object].arguments];
    const std::string_view name = pickle_.class_name(*at);
    if (name.starts_with("torch._utils._rebuild_parameter") && !arguments.items.empty()) {
      at = &pickle_[arguments.items[0]];
    } else if (name.starts_with("torch._tensor._rebuild_from_type") &&
               arguments.items.size() >= 3) {
      // (function, class, its arguments, state): a tensor with attributes.
      const PickleValue& inner = pickle_[arguments.items[2]];
      return {pickle_.class_name(pickle_[arguments.items[0]]), &inner};
    } else if (name.starts_with(kRebuild)) {
      return {name, &arguments};
    } else {
      break;
    }
  }
  return {};
}

bool TorchTensors::is_tensor(const PickleValue& value) const {
  const Call call = call_of(value);
  return call.arguments != nullptr && call.function.starts_with(kRebuild);
}

const PickleValue& TorchTensors::argument(const Call& call, std::size_t index) const {
  return index < call.arguments->items.size() ? pickle_[call.arguments->items[index]] : pickle_[0];
}

StoredTensor TorchTensors::read(std::string name, const PickleValue& value) const {
  const Call call = call_of(value);
  const std::string_view kind =
      call.function.substr(std::min(kRebuild.size(), call.function.size()));
  require(kind == "tensor" || kind == "tensor_v2" || kind == "tensor_v3",
          "{}: tensor {} is made by {}: sparse, quantised and nested tensors are not read; convert "
          "it with .to_dense() or .dequantize() and save again",
          file_, in_quotes(name), in_quotes(call.function));
  std::optional<TorchStorage> storage = torch_storage(pickle_, argument(call, 0));
  require(storage.has_value(), "{}: tensor {} has no storage; the file is damaged", file_,
          in_quotes(name));
  std::string_view type_name = storage->class_name;
  if (kind == "tensor_v3") {  // the storage has no type of its own
    type_name = argument(call, 6).text;
    const auto known = std::find_if(kTypes.begin(), kTypes.end(),
                                    [&](const TypeNames& type) { return type.dtype == type_name; });
    storage->type = known == kTypes.end() ? std::optional<StoredType>() : known->type;
  }
  require(storage->type.has_value(),
          "{}: tensor {} is of type {}, which is not read; expected float32, float64, float16, "
          "bfloat16 or whole numbers: convert it with .float() and save again",
          file_, in_quotes(name), in_quotes(type_name));
  const PickleValue& metadata = argument(call, kind == "tensor_v3" ? 7 : 6);
  require(!metadata.is(PickleKind::kDict) || metadata.items.empty(),
          "{}: tensor {} is to be conjugated or negated when it is read, which is not done; save "
          "it with .resolve_conj().resolve_neg()",
          file_, in_quotes(name));

  StoredTensor tensor;
  tensor.name = std::move(name);
  tensor.type = *storage->type;
  tensor.shape = integers_of(pickle_, argument(call, 2), tensor.name);
  tensor.strides = integers_of(pickle_, argument(call, 3), tensor.name);
  const std::size_t unit = size_of(tensor.type);
  const std::span<const std::byte> bytes = bytes_of_(*storage, kind == "tensor_v3" ? 1 : unit);
  const PickleValue& offset = argument(call, 1);
  std::int64_t begin = 0;
  const bool inside = offset.is(PickleKind::kInt) && offset.integer >= 0 &&
                      !__builtin_add_overflow(offset.integer, storage->view_begin, &begin) &&
                      std::cmp_less_equal(begin, bytes.size() / unit);
  require(inside, "{}: tensor {} begins outside of its storage of {} bytes; the file is damaged",
          file_, in_quotes(tensor.name), bytes.size());
  tensor.bytes = bytes.subspan(static_cast<std::size_t>(begin) * unit);
  if (tensor.strides.size() == tensor.shape.size() && is_dense(tensor.shape, tensor.strides))
    tensor.strides.clear();
  require(tensor.strides.empty() || tensor.strides.size() == tensor.shape.size(),
          "{}: tensor {} has {} axes and {} strides; the file is damaged", file_,
          in_quotes(tensor.name), tensor.shape.size(), tensor.strides.size());
  check_stored(tensor);
  return tensor;
}

}  // namespace tessera
