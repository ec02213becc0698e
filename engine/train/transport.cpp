#include "engine/train/transport.h"

#include <algorithm>

#include "engine/train/nccl.h"

namespace tessera {

namespace {

TensorView view_of_floats(std::span<float> floats) {
  return {floats.data(), {DType::kF32, {std::ssize(floats)}}};
}

class HostTransport : public Transport {
 public:
  HostTransport(std::shared_ptr<Queue> queue, std::shared_ptr<Ranks> ranks)
      : Transport(std::move(queue), std::move(ranks)) {}

  void exchange(const std::vector<Stretches>& sent, const std::vector<Stretches>& received,
                int) override {
    const std::int64_t part = longest(sent);
    const std::size_t all = sent.size() * static_cast<std::size_t>(part);
    own_.resize(all);
    all_.resize(all);
    for (std::size_t r = 0; r < sent.size(); ++r) download(sent[r], own_.data() + at(r, part));
    queue().finish();
    ranks().exchange(std::as_bytes(std::span(own_)), std::as_writable_bytes(std::span(all_)));
    for (std::size_t r = 0; r < received.size(); ++r)
      upload(all_.data() + at(r, part), received[r]);
  }

  void gather(const std::vector<Stretches>& owned) override {
    if (ranks().count() == 1) return;
    constexpr std::int64_t kGatheredAtOnce =
        1 << 18;  // floats, so that the copies on the way are small
    const auto self = static_cast<std::size_t>(ranks().rank());
    const std::int64_t end = longest(owned);
    for (std::int64_t begin = 0; begin < end; begin += kGatheredAtOnce) {
      const std::int64_t part = std::min(kGatheredAtOnce, end - begin);
      own_.resize(static_cast<std::size_t>(part));
      all_.resize(owned.size() * static_cast<std::size_t>(part));
      download(cut(owned[self], begin, part), own_.data());
      queue().finish();
      ranks().gather(std::as_bytes(std::span(own_)), std::as_writable_bytes(std::span(all_)));
      for (std::size_t r = 0; r < owned.size(); ++r) {
        if (r != self) upload(all_.data() + at(r, part), cut(owned[r], begin, part));
      }
    }
  }

 private:
  static std::int64_t longest(const std::vector<Stretches>& lists) {
    std::int64_t most = 0;
    for (const Stretches& list : lists) most = std::max(most, size_of(list));
    return most;
  }
  static std::size_t at(std::size_t rank, std::int64_t part) {
    return rank * static_cast<std::size_t>(part);
  }
  void download(const Stretches& from, float* to) {
    for (const std::span<float> one : from) {
      queue().download(reinterpret_cast<const std::byte*>(one.data()),
                       view_of_floats({to, one.size()}));
      to += one.size();
    }
  }
  void upload(float* from, const Stretches& to) {
    for (const std::span<float> one : to) {
      queue().upload(view_of_floats({from, one.size()}), reinterpret_cast<std::byte*>(one.data()));
      from += one.size();
    }
  }

  std::vector<float> own_, all_;
};

}  // namespace

Stretches cut(const Stretches& stretches, std::int64_t begin, std::int64_t count) {
  Stretches found;
  for (const std::span<float> one : stretches) {
    const std::int64_t first = std::clamp<std::int64_t>(begin, 0, std::ssize(one));
    const std::int64_t last = std::clamp<std::int64_t>(begin + count, 0, std::ssize(one));
    if (first < last)
      found.push_back(
          one.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(last - first)));
    begin -= std::ssize(one);
  }
  return found;
}

std::int64_t size_of(const Stretches& stretches) {
  std::int64_t floats = 0;
  for (const std::span<float> one : stretches) floats += std::ssize(one);
  return floats;
}

std::shared_ptr<Transport> host_transport(std::shared_ptr<Queue> queue,
                                          std::shared_ptr<Ranks> ranks) {
  return std::make_shared<HostTransport>(std::move(queue), std::move(ranks));
}

std::shared_ptr<Transport> open_transport(std::shared_ptr<Queue> queue,
                                          std::shared_ptr<Ranks> ranks,
                                          const std::function<void(const std::string&)>& note,
                                          const std::string& nccl) {
  if (ranks->count() > 1 && !any(*ranks, queue->device().is_host())) {
    NcclTransport opened = open_nccl(queue, ranks, nccl);
    note(opened.transport
             ? fmt::format("gradients and weights go from GPU to GPU by {}", opened.what)
             : fmt::format("gradients and weights go through the hosts' memory: {}", opened.what));
    if (opened.transport) return opened.transport;
  }
  return host_transport(std::move(queue), std::move(ranks));
}

}  // namespace tessera
