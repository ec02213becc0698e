#include "engine/files/numpy_writer.h"

#include <fmt/ranges.h>

#include <bit>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <string>
#include <string_view>

#include "kernels/error.h"

namespace tessera {
namespace {

std::string_view numpy_name(DType type) {
  switch (type) {
    case DType::kF32:
      return "<f4";
    case DType::kI32:
      return "<i4";
    case DType::kI64:
      return "<i8";
    case DType::kU8:
      return "|u1";
    default:
      fail(".npy files of {} are not written, expected f32, i32, i64 or u8", name_of(type));
  }
}

}  // namespace

NumpyWriter::NumpyWriter(const std::filesystem::path& path, DType type,
                         std::span<const std::int64_t> shape)
    : file_(path),
      missing_(std::accumulate(shape.begin(), shape.end(), static_cast<std::int64_t>(size_of(type)),
                               std::multiplies<>())) {
  static_assert(std::endian::native == std::endian::little, "the header says '<'");
  std::string header =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", numpy_name(type),
                  fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
  // Magic, version, length of the header, and the header padded to a multiple of 64.
  constexpr std::size_t kPrefix = 10;
  constexpr std::size_t kAlignment = 64;
  const std::size_t unpadded = kPrefix + header.size() + 1;
  header.append((kAlignment - unpadded % kAlignment) % kAlignment, ' ');
  header += '\n';
  file_.stream() << "\x93NUMPY" << '\x01' << '\x00' << static_cast<char>(header.size() & 0xff)
                 << static_cast<char>(header.size() >> 8) << header;
}

void NumpyWriter::append(std::span<const std::byte> values) {
  missing_ -= static_cast<std::int64_t>(values.size());
  file_.stream().write(reinterpret_cast<const char*>(values.data()),
                       static_cast<std::streamsize>(values.size()));
  if (!file_.stream()) file_.fail_write("");
}

void NumpyWriter::commit() {
  require(missing_ == 0, "{}: {} bytes {} the shape needs", file_.target().string(),
          std::abs(missing_), missing_ > 0 ? "fewer than" : "more than");
  file_.commit();
}

}  // namespace tessera
