// Shadow cells of a range of memory: what the check build knows of each few bytes of it.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

namespace simt::machine {

// A cell covers 1 << shift bytes, the most that every access so far was a multiple of: with one
// cell for 4 bytes, two blocks that each store one byte of them would look like a race.
template <class Cell>
class Cells {
 public:
  Cells() = default;
  explicit Cells(std::size_t bytes) : bytes_(bytes), cells_(map(count())) {}
  Cells(Cells&& other) noexcept
      : bytes_(other.bytes_), shift_(other.shift_), cells_(std::exchange(other.cells_, nullptr)) {}
  Cells& operator=(Cells&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(shift_, other.shift_);
    std::swap(cells_, other.cells_);
    return *this;
  }
  ~Cells() {
    if (cells_ != nullptr) munmap(cells_, count() * sizeof(Cell));
  }

  explicit operator bool() const { return cells_ != nullptr; }

  // Calls visit(cell) for those that cover [offset, offset + bytes) until it returns false.
  template <class Visit>
  void visit(std::size_t offset, std::size_t bytes, Visit visit) {
    while (((offset | bytes) & ((std::size_t{1} << shift_) - 1)) != 0) split();
    for (std::size_t i = offset >> shift_; i < (offset + bytes) >> shift_; ++i)
      if (!visit(cells_[i])) return;
  }

 private:
  std::size_t count() const { return (bytes_ >> shift_) + 1; }

  // Zero pages that cost nothing until they are touched.
  static Cell* map(std::size_t count) {
    void* p = mmap(nullptr, count * sizeof(Cell), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    return static_cast<Cell*>(p);
  }

  void split() {
    const std::size_t before = count();
    --shift_;
    Cell* finer = map(count());
    for (std::size_t i = 0; i < before; ++i)
      for (std::size_t half = 0; half < 2 && 2 * i + half < count(); ++half)
        finer[2 * i + half] = cells_[i];
    munmap(cells_, before * sizeof(Cell));
    cells_ = finer;
  }

  std::size_t bytes_ = 0;
  int shift_ = 2;
  Cell* cells_ = nullptr;
};

}  // namespace simt::machine
