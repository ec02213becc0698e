// A UNet, or any network of images, learns from labelled images: tiles, their loss, and validation
// by tiles that cover the images held out.
#pragma once

#include <future>

#include "kernels/train/loss/loss.h"
#include "models/training/augmentation.h"
#include "models/training/training.h"

namespace tessera {

struct UNetTaskOptions {
  Loss loss = {};
  std::int64_t tile = 256;  // pixels of the output along both axes, at least
  std::int64_t batch = 1;   // tiles
  std::int64_t tiles = 0;   // of an epoch; 0: as many as there are training images
  Augmentation augmentation = {};
  double dropout = 0;  // at the end of the contracting path (Ronneberger et al. 2015, section 3.1)
  double norm_momentum = 0.1;  // share of a batch in the running statistics of batch norms
  std::uint64_t seed = 0;
  FloatTensors weights = {};       // to begin with; none: random ones
  std::string pixels_digest = {};  // of all images and masks: a run is resumed with the same alone
  int threads = 1;
};

class UNetTraining : public TrainingTask {
 public:
  // `images` must outlive this. Its masks have config.classes.size() classes; a network with one
  // output has the sigmoid's two. A graph may be any that segments and ends in a softmax, or in a
  // sigmoid of one output. Throws Error where it is another, or options.weights are not its own.
  UNetTraining(ModelConfig config, LabelledImages& images, Split split,
               const UNetTaskOptions& options);

  const ModelConfig& config() const override { return config_; }
  Graph graph() const override;
  FloatTensors initial_weights() const override;
  std::vector<TensorType> largest_batch() const override { return {batch_type()}; }
  nlohmann::json settings() const override;
  std::int64_t batches() const override;
  LossResult add(Gradients& gradients, std::int64_t epoch, std::int64_t batch) override;
  std::optional<Evaluation> validate(const TensorViews& weights, const Device& device,
                                     Ranks& ranks) override;

  const TileSampler& sampler() const { return sampler_; }
  TensorType batch_type() const;  // of a full batch's images

 private:
  // Tiles as the network reads them.
  struct Batch {
    std::int64_t number = -1;  // from the first of the training
    std::int64_t count = 0;
    std::vector<float> images = {};  // (count, input height, input width, channels)
    std::vector<std::uint8_t> classes = {};
    std::vector<float> weights = {};  // both (count, output height, output width)

    void append(const TrainingTile& tile);
  };
  Batch make_batch(std::int64_t number) const;

  ModelConfig config_;
  LabelledImages& images_;
  Split split_;
  UNetTaskOptions options_;
  TileSampler sampler_;
  bool sigmoid_ = false;      // it ends in one
  std::future<Batch> ahead_;  // what the CPU makes while a GPU works on the batch before it
};

// Whether the network of a model of images ends in a sigmoid of one output rather than in a
// softmax: the loss takes either upon itself. Throws Error where it ends in neither.
bool ends_in_sigmoid(const ModelConfig& config);

// The tile that gives at least `output` pixels along both axes: with valid convolutions larger by
// what they lose. Throws Error where the network gives no map in the middle of its image.
TileShape tile_shape(const ModelConfig& config, std::int64_t output);

}  // namespace tessera
