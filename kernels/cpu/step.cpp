#include "kernels/cpu/step.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

namespace tessera {

namespace {
constexpr std::size_t kCacheLine = 64;  // and one AVX-512 vector
constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t whole_lines(std::size_t bytes) {
  return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
}
}  // namespace

AlignedBuffer::AlignedBuffer(std::size_t bytes) : memory_(nullptr, Free{}), size_(bytes) {
  const std::size_t alignment = bytes >= kHugePages ? kHugePage : kCacheLine;
  const std::size_t rounded =
      (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
  auto* p = static_cast<std::byte*>(std::aligned_alloc(alignment, rounded));
  require(p != nullptr,
          "out of memory: {:.1f} MiB could not be allocated; use a smaller tile (--max-memory) or "
          "batch",
          static_cast<double>(bytes) / (1 << 20));
  // Advice alone: where the system has no huge pages, ordinary ones serve.
  if (alignment == kHugePage) madvise(p, rounded, MADV_HUGEPAGE);
  memory_.reset(p);
}

AlignedBuffer::AlignedBuffer(std::byte* borrowed, std::size_t bytes)
    : memory_(borrowed, Free{.borrowed = true}), size_(bytes) {}

void AlignedBuffer::Free::operator()(std::byte* p) const {
  if (!borrowed) std::free(p);
}

std::shared_ptr<const AlignedBuffer> PackedWeights::get(
    const std::string& key, std::size_t bytes, const std::function<void(std::byte*)>& fill) {
  const std::lock_guard lock(mutex_);
  std::shared_ptr<const AlignedBuffer>& buffer = buffers_[key];
  if (!buffer) {
    auto made = memory_ == nullptr ? std::make_shared<AlignedBuffer>(bytes)
                                   : std::make_shared<AlignedBuffer>(memory_, bytes);
    if (memory_ != nullptr) memory_ += whole_lines(bytes);
    fill(made->get());
    buffer = std::move(made);
  }
  require(buffer->size() == bytes, "packed weights '{}' are {} bytes, but {} were asked for", key,
          buffer->size(), bytes);
  return buffer;
}

std::size_t PackedWeights::bytes() const {
  const std::lock_guard lock(mutex_);
  std::size_t total = 0;
  for (const auto& [key, buffer] : buffers_) total += buffer->size();
  return total;
}

std::size_t PackedWeights::packed_scratch() const {
  const std::lock_guard lock(mutex_);
  std::size_t total = 0;
  for (const auto& [key, buffer] : buffers_) total += whole_lines(buffer->size());
  return total;
}

}  // namespace tessera
