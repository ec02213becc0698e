// Arrays as numpy.save writes them (.npy; numpy.lib.format, versions 1 to 3).
#pragma once

#include <filesystem>

#include "engine/files/mapped_file.h"
#include "models/import/contents.h"

namespace tessera {

struct NumpyArray {
  StoredTensor tensor;  // in the file's order: Fortran's has strides
  MappedFile file;      // of the bytes
};

// f16, f32, f64, i8, i16, i32, i64, u8 and bool, little-endian. Throws Error for other types and
// for files that hold more or less than their shape says. Safe for hostile files.
NumpyArray read_numpy(const std::filesystem::path& path);
StoredTensor parse_numpy(std::span<const std::byte> bytes, const std::string& name);

// Row-major; f32, i32, i64 or u8. Appears whole or not at all.
void write_numpy(const std::filesystem::path& path, const TensorView& tensor);

}  // namespace tessera
