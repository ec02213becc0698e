// A network out of an ONNX file: the graph that its operators become, and what is known of images
// and answers.
#pragma once

#include "engine/files/mapped_file.h"
#include "models/import/import.h"
#include "models/import/onnx_model.h"

namespace tessera {

// `name` is the file's path. A network of images that gives a map of classes becomes one that
// segments; of all others the outputs have the kind `tensor`, and `tessera run` computes them.
// Choices (ImportOptions): "output" (softmax, sigmoid: what logits need; probabilities; tensor),
// "scale" (of the preprocessing), "shape" or "shape.NAME" (an input's extents: "1x3x64x64").
// Throws Error as read_onnx does, and for operators that are not supported: all of them at once.
Imported import_onnx(const MappedFile& file, const std::string& name, const ImportOptions& options);
// The same of a model that was read.
Imported import_onnx(const OnnxModel& model, const ImportOptions& options);

// What the model file said that an ONNX file was exported from by us; nothing, with a note, where
// it does not fit.
std::optional<ModelConfig> exported_config(const OnnxModel& model, Imported& imported);

// How the file's own tensor of this name lies in memory, if the model came from an ONNX file
// or a package: "NCHW" where ours is (n, h, w, c). Else empty: as ours.
std::string native_axes(const ModelConfig& config, const std::string& tensor);

}  // namespace tessera
