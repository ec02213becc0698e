// Classifies documents: text to sentences and words, the network, and its attention back onto the
// bytes of the original text.
#pragma once

#include <string_view>
#include <vector>

#include "engine/run/executor.h"
#include "models/model_file.h"
#include "models/session.h"

namespace tessera {

class Classifier {
 public:
  // Takes all weights of `file`, which must outlive it.
  Classifier(ModelFile& file, std::shared_ptr<Device> device);

  // One answer per text; one that has none (no words) carries its error.
  std::vector<Classification> classify(const std::vector<std::string_view>& texts,
                                       std::vector<NodeTiming>* timings);

 private:
  // Fills in `answers`, in the order of `documents`.
  void run(const std::vector<Document>& documents, const std::vector<Classification*>& answers,
           std::vector<NodeTiming>* timings);

  const HanConfig config_;
  Tokenizer tokenizer_;
  Executor executor_;
};

}  // namespace tessera
