// A device's work in order: what makes steps, copies and keeps time.
//
// What is enqueued runs in that order; `finish` waits for it. On a CPU every call is done when it
// returns. A queue is used by one thread at a time; several queues of a device run side by side.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "engine/device/device.h"
#include "kernels/train/backward.h"
#include "kernels/train/loss/loss.h"
#include "kernels/train/optimiser/update.h"

namespace tessera {

// Takes the time between marks that are enqueued like work.
class Stopwatch {
 public:
  virtual ~Stopwatch() = default;
  virtual void mark() = 0;
  // Seconds of each mark since the first; to be called once all work is finished.
  virtual std::vector<double> seconds() = 0;
};

// Work that was enqueued once and can be enqueued again at little cost.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void replay() = 0;
};

// The arithmetic of optimiser steps on tensors of one device (kernels/train/optimiser/update.h).
class Updates {
 public:
  virtual ~Updates() = default;
  // The sum of squares of each tensor's gradient.
  virtual std::vector<double> squares(std::span<const OptimiserTensor> tensors) = 0;
  // One update for each tensor.
  virtual void sgd(std::span<const OptimiserTensor> tensors,
                   std::span<const SgdUpdate> updates) = 0;
  virtual void adam(std::span<const OptimiserTensor> tensors,
                    std::span<const AdamUpdate> updates) = 0;
};

class Queue {
 public:
  virtual ~Queue() = default;
  const Device& device() const { return *device_; }

  // The step of node `index`; `packed`, of this device, keeps its weights, which are in host memory
  // and may be needed until it is gone.
  virtual Step prepare(const Node& node, std::size_t index, Types inputs,
                       std::span<const TensorView> weights, Packed& packed) = 0;

  // Between the caller's memory and the device's. After an upload the caller's may change.
  virtual void upload(const TensorView& from, std::byte* to) = 0;
  virtual void download(const std::byte* from, const TensorView& to) = 0;
  virtual void finish() = 0;

  // For up to `marks` marks. What is enqueued behind the first is timed without the host's own
  // time where the device can wait for the host to be ahead.
  virtual std::unique_ptr<Stopwatch> stopwatch(std::size_t marks) = 0;
  // Records what `work` enqueues, without running it. Null where that saves nothing.
  virtual std::unique_ptr<Recording> record(const std::function<void()>& work) = 0;

  // Training (engine/train/gradients.h). All operands lie in the device's memory. `weights` are
  // those of the first run, or have types alone.
  virtual TrainStep prepare_train(const Node& node, Types inputs,
                                  std::span<const TensorView> weights) = 0;
  virtual BackwardStep prepare_backward(const Node& node, Types inputs,
                                        std::span<const TensorView> weights) = 0;
  // Its run waits for the result.
  virtual LossStep prepare_loss(const Loss& op, const TensorType& logits,
                                const TensorType& labels) = 0;
  virtual void clear(std::byte* memory, std::size_t bytes) = 0;         // to zero
  virtual void add(const TensorView& sum, const TensorView& term) = 0;  // sum += term
  virtual std::unique_ptr<Updates> updates() = 0;  // to be used while the queue lives

 protected:
  explicit Queue(std::shared_ptr<const Device> device) : device_(std::move(device)) {}

 private:
  std::shared_ptr<const Device> device_;
};

}  // namespace tessera
