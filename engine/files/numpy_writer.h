// Writes arrays as numpy.save does (.npy, version 1.0), piece by piece and atomically:
//
//   NumpyWriter file(path, DType::kF32, {pages, height, width, classes});
//   for (...) file.append(values);
//   file.commit();
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "engine/files/atomic_file.h"
#include "kernels/tensor.h"

namespace tessera {

class NumpyWriter {
 public:
  // Row-major; f32, i32, i64 or u8. Throws Error for another type.
  NumpyWriter(const std::filesystem::path& path, DType type, std::span<const std::int64_t> shape);
  void append(std::span<const std::byte> values);
  void commit();  // throws Error unless as many bytes came as the shape takes

 private:
  AtomicFile file_;
  std::int64_t missing_;  // bytes
};

}  // namespace tessera
