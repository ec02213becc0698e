// Our models for other programs: nobody is locked in.
#pragma once

#include <cstddef>
#include <filesystem>
#include <vector>

#include "models/export/onnx_writer.h"
#include "models/model_file.h"

namespace tessera {

// Both return the files that they wrote. The words of a HAN are one of them, PATH with the ending
// .words.json: {"the": 2, "film": 3, ...}; 0 is padding, 1 an unknown word. Both throw Error, which
// names the node, for what the other format cannot say, and where a file cannot be written.

// The network as ONNX, opset 17, for images of any size that it takes: maps are (n, c, h, w).
//
//   images:    image (or the network's own names) -> the network's outputs; of a UNet mask
//              (n, h, w), u8, and probabilities (n, classes, h, w)
//   documents: ids (documents, sentences, words), i64; if masked also word_counts
//              (documents, sentences) and sentence_counts (documents), i64
//              -> probabilities, word_attention, sentence_attention
//
// What prepares an image or a text is no part of it: the file's metadata "tessera" says it, as in a
// model file. Weights of more than `inline_bytes` lie in a second file, PATH.data.
std::vector<std::filesystem::path> export_onnx(ModelFile& file, const std::filesystem::path& path,
                                               std::size_t inline_bytes = OnnxWriter::kInlineBytes);

// The weights as a state dict, which torch.load reads with weights_only=True, and beside it, PATH
// with the ending .py, the module that loads them: plain PyTorch, whose forward takes and gives
// what the ONNX file does.
std::vector<std::filesystem::path> export_pytorch(ModelFile& file,
                                                  const std::filesystem::path& path);

// PATH with another ending: the words of `file`, if it has any. Adds the file to `written`.
void export_words(const ModelFile& file, const std::filesystem::path& path,
                  std::vector<std::filesystem::path>& written);

}  // namespace tessera
