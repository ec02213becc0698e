// A HAN learns from labelled documents.
#pragma once

#include <map>

#include "models/text/word_vectors.h"
#include "models/training/training.h"
#include "models/training/training_text.h"

namespace tessera {

struct HanTaskOptions {
  std::int64_t batch = 64;     // documents
  double dropout = 0.5;        // of the document's vector, before the output layer
  bool tune_embedding = true;  // false: the embedding stays as it is
  std::uint64_t seed = 0;
  int threads = 1;
};

class HanTraining : public TrainingTask {
 public:
  // `text` and `vectors` must outlive this. config.han, .text and .classes follow `text`; only the
  // architecture is read of `config`. With `vectors` the embedding begins with them, else at
  // random.
  HanTraining(ModelConfig config, const TextData& text, const WordVectors* vectors,
              const HanTaskOptions& options);

  const ModelConfig& config() const override { return config_; }
  std::optional<Vocabulary> vocabulary() const override { return text_.vocabulary; }
  Graph graph() const override;
  FloatTensors initial_weights() const override;
  std::vector<std::string> frozen() const override;
  std::vector<TensorType> largest_batch() const override;
  nlohmann::json settings() const override;
  std::int64_t batches() const override;
  LossResult add(Gradients& gradients, std::int64_t epoch, std::int64_t batch) override;
  std::optional<Evaluation> validate(const TensorViews& weights, const Device& device,
                                     Ranks& ranks) override;

 private:
  ModelConfig config_;
  const TextData& text_;
  const WordVectors* vectors_;
  HanTaskOptions options_;
  std::int64_t order_epoch_ = -1;  // of `order_`
  std::vector<std::vector<std::uint32_t>> order_;
};

}  // namespace tessera
