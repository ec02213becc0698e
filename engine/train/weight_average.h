// The exponential moving average of the weights in training, which mostly generalises better than
// the last ones (Polyak & Juditsky 1992; as TensorFlow's ExponentialMovingAverage has it):
//
//   average = d average + (1 - d) weight,  d = min(decay, (1 + t) / (10 + t)) at step t = 1, 2, ...
//
// Of all tensors, running statistics too.
#pragma once

#include "engine/train/gradients.h"

namespace tessera {

class WeightAverage {
 public:
  // `gradients` must outlive this. `decay`: above 0, below 1.
  WeightAverage(const Gradients& gradients, std::shared_ptr<Queue> queue, double decay);

  void add(std::int64_t step);

  // Copies in host memory by the weights' names, and the way back.
  FloatTensors values() const;
  void set_values(const TensorViews& values);

 private:
  std::shared_ptr<Queue> queue_;
  double decay_;
  std::unique_ptr<Updates> updates_;
  std::unique_ptr<DeviceMemory> memory_;
  std::vector<std::string> names_;
  std::vector<TensorView> averages_;
  std::vector<OptimiserTensor> tensors_;
};

}  // namespace tessera
