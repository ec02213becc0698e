#include "kernels/cpu/step.h"

#include <algorithm>
#include <cstdlib>
#include <new>

namespace tessera {

namespace {
constexpr std::size_t kAlignment = 64;  // one cache line, one AVX-512 vector
}

AlignedBuffer::AlignedBuffer(std::size_t bytes) : size_(bytes) {
  const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  auto* p = static_cast<std::byte*>(std::aligned_alloc(kAlignment, std::max(rounded, kAlignment)));
  require(p != nullptr,
          "out of memory: {:.1f} MiB could not be allocated; use a smaller tile (--max-memory) or "
          "batch",
          static_cast<double>(bytes) / (1 << 20));
  memory_.reset(p);
}

void AlignedBuffer::Free::operator()(std::byte* p) const {
  std::free(p);
}

std::shared_ptr<const AlignedBuffer> PackedWeights::get(
    const std::string& key, std::size_t bytes, const std::function<void(std::byte*)>& fill) {
  const std::lock_guard lock(mutex_);
  std::shared_ptr<const AlignedBuffer>& buffer = buffers_[key];
  if (!buffer) {
    auto made = std::make_shared<AlignedBuffer>(bytes);
    fill(made->get());
    buffer = std::move(made);
  }
  return buffer;
}

std::size_t PackedWeights::bytes() const {
  const std::lock_guard lock(mutex_);
  std::size_t total = 0;
  for (const auto& [key, buffer] : buffers_) total += buffer->size();
  return total;
}

}  // namespace tessera
