// A model that a server holds, and the answers that it gives to requests. Any number of threads.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/session.h"
#include "tools/program/labels.h"
#include "tools/serve/request.h"
#include "tools/serve/settings.h"

namespace tessera::serve {

class ServedModel {
 public:
  ServedModel(const std::string& path, Settings settings);

  const Model& model() const { return model_; }

  // The outputs that an image request asks for. Throws what is wrong with it, and, between tiles,
  // that it was cancelled.
  std::vector<OutputTensor> segment(TritonRequest* request) const;

  // Documents of a request: they point into its tensor.
  struct Documents {
    Tensor tensor;
    std::vector<std::string_view> texts;
  };
  Documents read_documents(TritonRequest* request) const;
  // Ends early, by throwing, when all of `requests` were cancelled.
  std::vector<Classification> classify(const std::vector<std::string_view>& texts,
                                       std::span<TritonRequest* const> requests) const;
  // Of its documents' answers. Throws what is wrong with the first that has none.
  std::vector<OutputTensor> outputs(TritonRequest* request,
                                    std::span<const Classification> answers) const;

 private:
  Settings settings_;
  Model model_;
  LabelFormat format_;
};

}  // namespace tessera::serve
