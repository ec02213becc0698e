// A HAN out of an ONNX file: PyTorch's, Keras' or our own.
#pragma once

#include "models/import/import.h"
#include "models/import/onnx_model.h"

namespace tessera {

// Whether the graph has a table of words and two recurrent layers, or loops in their place.
bool may_be_onnx_han(const OnnxModel& model);

// Of one that looks words up in a table and is no HAN, what it is; else empty.
std::string onnx_word_network(const OnnxModel& model);

// Exporters write a layer in many ways, so weights are found by what reads them (the table that
// word ids pick from, recurrent layers, products with constants between them), and everything else
// (masks, eps, the order of steps) by trial: the HAN that has these weights must give what the file
// itself gives, of made-up documents. Throws Error where none does, with the nodes that cannot be
// computed, and where there are no words for it (ImportOptions::vocabulary; of our own exports the
// .words.json beside it).
Imported import_onnx_han(const OnnxModel& model, const ImportOptions& options);

}  // namespace tessera
