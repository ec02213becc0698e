// HDF5 files: the tensors of their datasets and the texts of their attributes.
//
// The HDF5 C library reads them. Its memory errors on damaged files are many and public, so it runs
// in a process of its own, without rights to open or send anything, which ends with the file: what
// goes wrong there is an Error here. The library is loaded when the first such file is opened, for
// that takes 20 ms (it brings an HTTP client).
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/import/contents.h"

namespace tessera {

struct Hdf5 {
  std::vector<StoredTensor> tensors;  // named by their paths, "model_weights/conv/kernel:0"
  // The attributes of each group that are texts or lists of texts, by the group's path; "" is the
  // outermost: {"keras_version": "2.15.0", "layer_names": ["conv", ...]}.
  std::map<std::string, nlohmann::json> groups;
  std::vector<std::string> notes;    // what was passed over
  std::shared_ptr<const void> copy;  // of the tensors that do not lie in the file as they are
};

inline constexpr std::string_view kHdf5Magic = "\x89HDF\r\n\x1a\n";

// `bytes` of the whole file, which the result reads further; `file` names it in errors. Throws
// Error for a damaged file, links that are not hard or make a cycle, data outside of the file or
// virtual, filters other than gzip, shuffle and Fletcher's checksum, and where this build or
// machine has no HDF5 library.
Hdf5 read_hdf5(std::span<const std::byte> bytes, const std::string& file);

// What the library's process said of `bytes` (hdf5_library.h); tensors lie there or in what it
// `copied`. Throws Error, or one of nlohmann's, for what cannot be so.
Hdf5 hdf5_of_walk(std::string_view walked, std::span<const std::byte> bytes,
                  std::span<const std::byte> copied);

}  // namespace tessera
