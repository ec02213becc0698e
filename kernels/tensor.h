// Shapes, element types and non-owning tensor views: the vocabulary that every layer shares.
//
// Activations are dense and row-major: images are (n, h, w, c), sequences (..., t, features).
// Weights keep the layout that PyTorch gives them; a back-end packs them once for itself.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

namespace tessera {

enum class DType : std::uint8_t { kF32, kBF16, kF16, kI32, kI64, kU8 };

std::size_t size_of(DType dtype);       // bytes of one element
std::string_view name_of(DType dtype);  // "f32", "bf16", ...

// Up to kMaxRank extents; a rank of 0 is a scalar (one element).
class Shape {
 public:
  static constexpr int kMaxRank = 6;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims);
  explicit Shape(std::span<const std::int64_t> dims);

  int rank() const { return rank_; }
  // Extent of axis `i`; a negative `i` counts from the last axis.
  std::int64_t operator[](int i) const { return dims_[static_cast<std::size_t>(axis(i))]; }
  std::int64_t& operator[](int i) { return dims_[static_cast<std::size_t>(axis(i))]; }

  std::int64_t elements() const;                     // product of all extents
  std::int64_t elements(int first, int last) const;  // product of extents of axes [first, last)
  std::span<const std::int64_t> dims() const {
    return {dims_.data(), static_cast<std::size_t>(rank_)};
  }

  bool operator==(const Shape&) const = default;
  std::string to_string() const;  // "(1, 572, 572, 1)"

 private:
  int axis(int i) const { return i < 0 ? i + rank_ : i; }

  std::array<std::int64_t, kMaxRank> dims_{};  // extents past the rank stay 0
  int rank_ = 0;
};

// What a tensor is before it has memory.
struct TensorType {
  DType dtype = DType::kF32;
  Shape shape;

  std::size_t bytes() const { return static_cast<std::size_t>(shape.elements()) * size_of(dtype); }
  std::string to_string() const;  // "f32 (1, 572, 572, 1)"
  bool operator==(const TensorType&) const = default;
};

// A typed pointer to dense memory that somebody else owns.
struct TensorView {
  void* pointer = nullptr;
  TensorType type;

  TensorView() = default;
  TensorView(void* memory, TensorType tensor_type) : pointer(memory), type(tensor_type) {}

  const Shape& shape() const { return type.shape; }
  template <class T>
  T* as() const {
    return static_cast<T*>(pointer);
  }
};

}  // namespace tessera
