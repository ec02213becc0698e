#include "engine/train/sharing.h"

#include <algorithm>
#include <numeric>

namespace tessera {

namespace {

// Elements of a piece. As many as the CPU's optimiser takes at once, so that its sums of squares
// are those of whole tensors.
constexpr std::int64_t kSharedPiece = 1 << 14;
constexpr std::int64_t kMovedAtOnce = 1 << 18;  // floats of each rank's, so that copies are small

TensorView floats(float* first, std::int64_t count) {
  return {first, {DType::kF32, {count}}};
}

}  // namespace

Sharing::Sharing(std::span<const std::int64_t> elements, std::shared_ptr<Transport> transport)
    : transport_(std::move(transport)) {
  const std::int64_t all = std::reduce(elements.begin(), elements.end());
  const int count = ranks().count();
  std::int64_t before = 0;
  for (std::size_t i = 0; i < elements.size(); ++i) {
    for (std::int64_t begin = 0; begin < elements[i]; begin += kSharedPiece) {
      // A piece is of the rank in whose share of all elements it begins.
      while (std::ssize(begins_) < count && before * count >= std::ssize(begins_) * all)
        begins_.push_back(pieces_.size());
      pieces_.push_back({i, begin, std::min(kSharedPiece, elements[i] - begin)});
      before += pieces_.back().count;
    }
  }
  begins_.resize(static_cast<std::size_t>(count) + 1, pieces_.size());
}

std::span<const SharedPiece> Sharing::own() const {
  const auto rank = static_cast<std::size_t>(ranks().rank());
  return std::span(pieces_).subspan(begins_[rank], begins_[rank + 1] - begins_[rank]);
}

Stretches Sharing::stretches(int rank, std::span<const TensorView> tensors) const {
  Stretches found;
  const auto r = static_cast<std::size_t>(rank);
  for (std::size_t i = begins_[r]; i < begins_[r + 1]; ++i) {
    const SharedPiece& piece = pieces_[i];
    float* const first = tensors[piece.tensor].as<float>() + piece.begin;
    const auto count = static_cast<std::size_t>(piece.count);
    if (!found.empty() && found.back().data() + found.back().size() == first) {
      found.back() = {found.back().data(), found.back().size() + count};
    } else {
      found.emplace_back(first, count);
    }
  }
  return found;
}

std::vector<Stretches> Sharing::all_stretches(std::span<const TensorView> tensors) const {
  std::vector<Stretches> all;
  for (int rank = 0; rank < ranks().count(); ++rank) all.push_back(stretches(rank, tensors));
  return all;
}

std::int64_t Sharing::longest() const {
  std::int64_t most = 0;
  for (std::size_t r = 0; r + 1 < begins_.size(); ++r) {
    std::int64_t count = 0;
    for (std::size_t i = begins_[r]; i < begins_[r + 1]; ++i) count += pieces_[i].count;
    most = std::max(most, count);
  }
  return most;
}

void Sharing::sum(std::span<const TensorView> tensors, int senders) {
  Queue& queue = transport_->queue();
  const std::vector<Stretches> shares = all_stretches(tensors);
  const std::int64_t end = longest(), at_once = std::min(kMovedAtOnce, end);
  received_.grow(queue.device(), shares.size() * static_cast<std::size_t>(at_once) * sizeof(float));
  auto* const memory = reinterpret_cast<float*>(received_.get());
  for (std::int64_t begin = 0; begin < end; begin += at_once) {
    std::vector<Stretches> sent, received;
    for (const Stretches& share : shares) sent.push_back(cut(share, begin, at_once));
    const Stretches& own = sent[static_cast<std::size_t>(ranks().rank())];
    const std::int64_t count = size_of(own);
    for (std::size_t r = 0; r < shares.size(); ++r) {
      float* next = memory + static_cast<std::int64_t>(r) * at_once;
      Stretches& parts = received.emplace_back();
      for (const std::span<float> part : own) {
        parts.emplace_back(next, part.size());
        next += part.size();
      }
    }
    transport_->exchange(sent, received, senders);
    if (count == 0) continue;
    for (int half = 1; half < senders; half *= 2) {
      for (int left = 0; left + half < senders; left += 2 * half)
        queue.add(floats(memory + left * at_once, count),
                  floats(memory + (left + half) * at_once, count));
    }
    float* sum = memory;
    for (const std::span<float> part : own) {
      // A copy: 0 + x has the bytes of x, which is not -0.
      queue.clear(reinterpret_cast<std::byte*>(part.data()), part.size_bytes());
      queue.add(floats(part.data(), std::ssize(part)), floats(sum, std::ssize(part)));
      sum += part.size();
    }
  }
}

void Sharing::gather(std::span<const TensorView> tensors) {
  if (ranks().count() > 1) transport_->gather(all_stretches(tensors));
}

void Sharing::collect(const Stretches& own, std::span<const TensorView> whole) const {
  Queue& queue = transport_->queue();
  std::vector<Stretches> shares;
  if (!whole.empty()) shares = all_stretches(whole);
  const std::int64_t end = longest();
  std::vector<float> part, all;
  for (std::int64_t begin = 0; begin < end; begin += kMovedAtOnce) {
    const std::int64_t count = std::min(kMovedAtOnce, end - begin);
    part.resize(static_cast<std::size_t>(count));
    all.resize(part.size() * static_cast<std::size_t>(ranks().count()));
    float* next = part.data();
    for (const std::span<float> one : cut(own, begin, count)) {
      queue.download(reinterpret_cast<const std::byte*>(one.data()), floats(next, std::ssize(one)));
      next += one.size();
    }
    queue.finish();
    ranks().gather(std::as_bytes(std::span(part)), std::as_writable_bytes(std::span(all)));
    for (std::size_t r = 0; r < shares.size(); ++r) {
      const float* from = all.data() + r * part.size();
      for (const std::span<float> one : cut(shares[r], begin, count)) {
        std::copy_n(from, one.size(), one.data());
        from += one.size();
      }
    }
  }
}

}  // namespace tessera
