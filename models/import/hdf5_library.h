// What libhdf5 says of a file, as JSON.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <span>

namespace tessera {

// Loads the library. Throws Error, which names the Debian package, where there is none.
void load_hdf5_library();

// {"tensors": [{"name": "a/b", "type": 8, "shape": [..], "copied": false, "offset": 2048,
// "bytes": 64}], "groups": {"a": {"attribute": "text"}}, "notes": []}: a tensor lies at `offset` of
// the file, or of all that `copy` was given. Throws Error. Not safe with hostile files: for a
// process that nobody needs (hdf5.cpp).
nlohmann::json walk_hdf5(std::span<const std::byte> bytes,
                         const std::function<void(std::span<const std::byte>)>& copy);

}  // namespace tessera
