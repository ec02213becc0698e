#include "models/import/numpy_file.h"

#include <charconv>
#include <optional>

#include "engine/files/numpy_writer.h"
#include "engine/files/safetensors.h"
#include "kernels/error.h"

namespace tessera {
namespace {

using StoredType = StoredTensor::Type;

constexpr std::string_view kMagic = "\x93NUMPY";

// The few literals of Python that numpy writes: {'descr': '<f4', 'fortran_order': False, 'shape':
// (3, 4), }.
class NumpyHeader {
 public:
  explicit NumpyHeader(std::string_view text) : rest_(text) {}

  bool take(char c) {
    skip_space();
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool take(std::string_view word) {
    skip_space();
    if (!rest_.starts_with(word)) return false;
    rest_.remove_prefix(word.size());
    return true;
  }
  std::string text() {
    const char quote = take('\'') ? '\'' : take('"') ? '"' : '\0';
    const std::size_t end = quote == '\0' ? std::string_view::npos : rest_.find(quote);
    require(end != std::string_view::npos, "its header is broken: a text was expected");
    const std::string value(rest_.substr(0, end));
    rest_.remove_prefix(end + 1);
    return value;
  }
  bool boolean() {
    if (take("True")) return true;
    require(take("False"), "its header is broken: True or False was expected");
    return false;
  }
  std::vector<std::int64_t> tuple() {
    constexpr std::size_t kMostAxes = 32;
    std::vector<std::int64_t> values;
    require(take('('), "its header is broken: a tuple was expected");
    while (!take(')')) {
      skip_space();
      std::int64_t value = -1;
      const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
      require(error == std::errc() && value >= 0 && values.size() < kMostAxes,
              "its header is broken: an extent was expected");
      rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
      take('L');  // of Python 2
      values.push_back(value);
      if (!take(',')) {
        require(take(')'), "its header is broken: a tuple does not end");
        break;
      }
    }
    return values;
  }

 private:
  void skip_space() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\n'))
      rest_.remove_prefix(1);
  }
  std::string_view rest_;
};

StoredTensor::Type numpy_type(std::string_view descr) {
  constexpr std::pair<std::string_view, StoredType> kTypes[] = {
      {"<f4", StoredType::kF32}, {"<f8", StoredType::kF64}, {"<f2", StoredType::kF16},
      {"<i4", StoredType::kI32}, {"<i8", StoredType::kI64}, {"<i2", StoredType::kI16},
      {"|i1", StoredType::kI8},  {"|u1", StoredType::kU8},  {"|b1", StoredType::kBool}};
  for (const auto& [name, type] : kTypes)
    if (name == descr) return type;
  fail("it holds {}, expected floats, i8 to i64, u8 or bool, little-endian: save it as one of them",
       in_quotes(descr));
}

}  // namespace

StoredTensor parse_numpy(std::span<const std::byte> bytes, const std::string& name) {
  try {
    const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    require(all.starts_with(kMagic) && all.size() >= kMagic.size() + 6,
            "no .npy file: it begins otherwise; write it with numpy.save");
    const auto byte = [&](std::size_t i) { return std::to_integer<std::size_t>(bytes[i]); };
    const std::size_t major = byte(kMagic.size());
    require(major >= 1 && major <= 3, "its version is {}, expected 1 to 3", major);
    const std::size_t length_bytes = major == 1 ? 2 : 4, at = kMagic.size() + 2;
    std::size_t length = 0;
    for (std::size_t i = 0; i < length_bytes; ++i) length |= byte(at + i) << (8 * i);
    const std::size_t begin = at + length_bytes;
    require(length <= all.size() - begin, "its header of {} bytes is cut off", length);
    NumpyHeader header(all.substr(begin, length));
    std::optional<StoredTensor::Type> type;
    std::optional<bool> fortran;
    std::optional<std::vector<std::int64_t>> shape;
    require(header.take('{'), "its header is broken: it is no dictionary");
    while (!header.take('}')) {
      const std::string key = header.text();
      require(header.take(':'), "its header is broken behind {}", in_quotes(key));
      if (key == "descr") {
        type = numpy_type(header.text());
      } else if (key == "fortran_order") {
        fortran = header.boolean();
      } else {
        require(key == "shape", "its header has {}", in_quotes(key));
        shape = header.tuple();
      }
      if (!header.take(',')) {
        require(header.take('}'), "its header is broken behind {}", in_quotes(key));
        break;
      }
    }
    require(type && fortran && shape, "its header lacks the type, the order or the shape");
    StoredTensor tensor{name, *type, *shape, {}, bytes.subspan(begin + length)};
    check_stored(tensor);
    const std::size_t expected = static_cast<std::size_t>(tensor.elements()) * size_of(*type);
    require(tensor.bytes.size() == expected, "{} {} takes {} bytes, but {} are there",
            name_of(*type), shape_text(*shape), expected, tensor.bytes.size());
    if (*fortran) {
      std::int64_t stride = 1;
      for (const std::int64_t extent : *shape) {
        tensor.strides.push_back(stride);
        stride *= extent;
      }
    }
    return tensor;
  } catch (const Error& error) {
    fail("{}: {}", name, error.what());
  }
}

NumpyArray read_numpy(const std::filesystem::path& path) {
  NumpyArray array;
  array.file = MappedFile::open(path, "a .npy file");
  array.tensor = parse_numpy(array.file.bytes(), path.string());
  return array;
}

void write_numpy(const std::filesystem::path& path, const TensorView& tensor) {
  NumpyWriter file(path, tensor.type.dtype, tensor.shape().dims());
  file.append({tensor.as<const std::byte>(), static_cast<std::size_t>(tensor.type.bytes())});
  file.commit();
}

}  // namespace tessera
