// Packages of bioimage.io, formats 0.4 and 0.5, whole: weights, pre- and postprocessing, sizes,
// names of channels, and the test tensors that go with them.
#pragma once

#include <functional>

#include "models/import/import.h"
#include "models/import/package_files.h"

namespace tessera {

// Reads one file of weights; `name` is its path.
using WeightsReader =
    std::function<Imported(const MappedFile& file, const std::string& name, const ImportOptions&)>;

// Of several weights the first that can be read: ONNX, Keras, PyTorch's state dict, TorchScript.
// Choices (ImportOptions): "weights" (a kind, or the name of a file in the package),
// "preprocessing" and "postprocessing" (package, or ignore: the steps are left out). Throws Error
// for a file whose SHA-256 is not the one that the package says, with both; for steps that have no
// counterpart here; and where no weights can be read, with the reason of each.
Imported import_bioimage(const PackageFiles& files, const ImportOptions& options,
                         const WeightsReader& read_weights);

}  // namespace tessera
