// Classifies documents: text to sentences and words, the network, and its attention back onto the
// bytes of the original text.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "engine/run/executor.h"
#include "models/model_file.h"
#include "models/session.h"

namespace tessera {

class Classifier {
 public:
  // The network of `file`, with all of its weights; `file` must outlive it.
  static std::shared_ptr<const Compiled> compile(ModelFile& file,
                                                 std::shared_ptr<const Device> device);
  // `compiled` is what `compile` made of `config`; classifiers of several threads share it.
  Classifier(const HanConfig& config, std::shared_ptr<const Tokenizer> tokenizer,
             std::shared_ptr<const Compiled> compiled, int threads);

  // One answer per text; one that has none (no words) carries its error.
  std::vector<Classification> classify(const std::vector<std::string_view>& texts,
                                       const Session::Progress& progress,
                                       std::vector<NodeTiming>* timings);

 private:
  // Fills in `answers`, in the order of `documents`.
  void run_batch(const std::vector<Document>& documents,
                 const std::vector<Classification*>& answers, std::vector<NodeTiming>* timings);

  const HanConfig config_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  Executor executor_;
};

}  // namespace tessera
