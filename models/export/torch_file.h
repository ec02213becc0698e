// A state dict as torch.save writes it since 1.6: a zip archive of a pickle and, each in a member
// of its own, the tensors' bytes. torch.load reads it with weights_only=True.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "engine/train/float_tensor.h"

namespace tessera {

// A tensor that is made when it is written, so that one at a time takes memory.
struct TorchEntry {
  std::string name;
  Shape shape;
  std::function<FloatTensor()> read;
};

// `texts` are entries beside the tensors. Equal content gives equal bytes. Throws Error where the
// file cannot be written, or would be 4 GiB or more.
void write_torch_file(const std::filesystem::path& path, const std::vector<TorchEntry>& tensors,
                      const std::vector<std::pair<std::string, std::string>>& texts);

}  // namespace tessera
