// Checkpoints of PyTorch: torch.save as a zip (1.6 and later) and as pickles in a row (before), and
// TorchScript archives. State dicts, alone or inside of a checkpoint with others; whole modules.
#pragma once

#include <span>
#include <string>

#include "engine/files/mapped_file.h"
#include "models/import/contents.h"
#include "models/import/zip.h"

namespace tessera {

// Whether the archive is of torch.save or of TorchScript.
bool is_pytorch_zip(const ZipArchive& archive);
// Whether the file is one of torch.save before 1.6.
bool is_pytorch_pickles(std::span<const std::byte> bytes);

// Tensors stay in the file; a deflated storage is inflated. `name` is the file's path; `key` names
// the entry of a checkpoint that is wanted: its place ("ema/state_dict") or the last part of it;
// empty: the only one. Throws Error for what is malformed, of another byte order, without a network
// or with several of them where `key` names none.
Contents read_pytorch_zip(const MappedFile& file, const ZipArchive& archive,
                          const std::string& name, const std::string& key);
Contents read_pytorch_pickles(const MappedFile& file, const std::string& name,
                              const std::string& key);

}  // namespace tessera
