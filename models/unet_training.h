// A UNet learns from labelled images: tiles, their loss, and validation by tiles that cover the
// images held out. The published dropout at the end of the contracting path is no part of
// build_unet, so there is none.
#pragma once

#include "kernels/loss/loss.h"
#include "models/augmentation.h"
#include "models/training.h"

namespace tessera {

struct UNetTrainingOptions {
  Loss loss = {};
  std::int64_t tile = 256;  // pixels of the output along both axes, at least
  std::int64_t batch = 1;   // tiles
  std::int64_t tiles = 0;   // of an epoch; 0: as many as there are training images
  Augmentation augmentation = {};
  std::uint64_t seed = 0;
  int threads = 1;
};

class UNetTraining : public TrainingTask {
 public:
  // `images` must outlive this. Its masks have config.classes.size() classes; a network with one
  // output has the sigmoid's two.
  UNetTraining(ModelConfig config, LabelledImages& images, Split split,
               const UNetTrainingOptions& options);

  const ModelConfig& config() const override { return config_; }
  Graph graph() const override;
  FloatTensors initial_weights() const override;
  std::vector<TensorType> largest_batch() const override { return {batch_type()}; }
  nlohmann::json settings() const override;
  std::int64_t batches() const override;
  TrainingSums add(Gradients& gradients, std::int64_t epoch, std::int64_t batch) override;
  std::optional<Evaluation> validate(const TensorViews& weights) override;

  const TileSampler& sampler() const { return sampler_; }
  TensorType batch_type() const;  // of a full batch's images

 private:
  ModelConfig config_;
  LabelledImages& images_;
  Split split_;
  UNetTrainingOptions options_;
  TileSampler sampler_;
};

// The tile that gives at least `output` pixels along both axes: with valid convolutions larger by
// what they lose.
TileShape tile_shape(const UNetConfig& config, std::int64_t output);

}  // namespace tessera
