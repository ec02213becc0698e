// How ranks hand each other what lies in the memory of their devices: through the hosts' memory, by
// their own means (engine/train/ranks.h), or from GPU to GPU by NCCL (engine/train/nccl.h).
//
// Bytes are moved and nothing is added on the way, so the sums of engine/train/sharing.h are the
// same by any transport. Calls are made by all ranks in the same order, and are ordered like the
// work of the queue.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/device/queue.h"
#include "engine/train/ranks.h"

namespace tessera {

// Memory of a device that is read as one array.
using Stretches = std::vector<std::span<float>>;

// Elements [begin, begin + count) of them, or fewer at their end.
Stretches cut(const Stretches& stretches, std::int64_t begin, std::int64_t count);
std::int64_t size_of(const Stretches& stretches);

class Transport {
 public:
  virtual ~Transport() = default;
  Transport(const Transport&) = delete;

  // Each of the first `senders` ranks hands sent[r] to rank r, where it fills received[of the
  // sender]. Both are cut alike on both sides, and all of a rank's received are as long.
  virtual void exchange(const std::vector<Stretches>& sent, const std::vector<Stretches>& received,
                        int senders) = 0;
  // owned[r] becomes on every rank what it is on rank r; cut alike everywhere.
  virtual void gather(const std::vector<Stretches>& owned) = 0;

  Ranks& ranks() const { return *ranks_; }
  Queue& queue() const { return *queue_; }

 protected:
  Transport(std::shared_ptr<Queue> queue, std::shared_ptr<Ranks> ranks)
      : queue_(std::move(queue)), ranks_(std::move(ranks)) {}

 private:
  std::shared_ptr<Queue> queue_;
  std::shared_ptr<Ranks> ranks_;
};

// Through the hosts' memory; of any device.
std::shared_ptr<Transport> host_transport(std::shared_ptr<Queue> queue,
                                          std::shared_ptr<Ranks> ranks);

// NCCL where every rank has a GPU of its own and the library, else the hosts' memory. `note` is
// told, of several ranks on GPUs, which it is and why.
std::shared_ptr<Transport> open_transport(std::shared_ptr<Queue> queue,
                                          std::shared_ptr<Ranks> ranks,
                                          const std::function<void(const std::string&)>& note,
                                          const std::string& nccl = "libnccl.so.2");

}  // namespace tessera
