// Safetensors files of other programs: names and shapes alone.
#pragma once

#include <string>

#include "engine/files/mapped_file.h"
#include "models/import/contents.h"

namespace tessera {

// `name` is the file's path. Throws Error as parse_safetensors does.
Contents read_safetensors(const MappedFile& file, const std::string& name);

}  // namespace tessera
