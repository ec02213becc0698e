// What an ONNX file's HAN consists of: weights by what reads them, and the network that has them.
#pragma once

#include <array>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "models/import/import.h"
#include "models/import/onnx_recurrence.h"

namespace tessera {

struct HanRecurrence {
  OnnxRecurrence layer;
  OnnxConstantPtr w, r, b;  // b may be null
};

// x W + b.
struct HanProduct {
  OnnxConstantPtr weight;  // (inputs, units)
  std::vector<double> bias{};
  bool is_bent = false;  // a tanh follows

  std::int64_t units() const { return weight->shape[1]; }
};

// By how many recurrent layers lie before: words, sentences.
struct HanLevel {
  std::vector<HanRecurrence> recurrences;
  std::vector<HanProduct> products;
};

struct HanStructure {
  OnnxConstantPtr table;           // of word vectors
  std::array<HanLevel, 2> levels;  // of words, of sentences
  std::set<double> small_numbers;  // which may be an attention's eps
  bool carried = false;            // a state goes from sentence to sentence
};

// Of the network, computed on these inputs. Throws Error that lists the nodes that cannot be.
HanStructure find_han_structure(const OnnxModel& model,
                                const std::map<std::string, OnnxConstantPtr>& inputs);

// Gives `imported` all weights but the embedding, and returns what they say of the network. Throws
// Error where they are not those of a HAN.
HanConfig give_han_network(const HanStructure& found, Imported& imported);

}  // namespace tessera
