// Keras' files (https://keras.io): HDF5 of Keras 2, tf.keras and Keras 3, whole models or weights
// alone, and the .keras archive.
#pragma once

#include <span>
#include <string>

#include "models/import/contents.h"
#include "models/import/hdf5.h"
#include "models/import/zip.h"

namespace tessera {

// Tensors by their paths, "model_weights/conv2d/conv2d/kernel:0" or "layers/conv2d/vars/0". What
// the file says: "config", the model's own description where it is there or, of weights alone, in a
// file config.json or model.json beside them; and "keras":
//   {"version": "2.15.0",
//    "layers": {"conv2d": ["model_weights/conv2d/conv2d/kernel:0", ...]},  of the older layout
//    "names": {"layers/conv2d": "conv2d_38"}}                              of the newer one
// The state of optimizers is left out. Throws Error, as read_hdf5 does, and for HDF5 files that are
// not Keras' and those of Keras 1.
Contents read_keras_hdf5(std::span<const std::byte> bytes, const std::string& file);
// What an HDF5 file of Keras says, added to `contents`, whose file is named.
void add_keras_weights(Hdf5 hdf5, Contents& contents);
// A .keras archive.
bool is_keras_archive(const ZipArchive& archive);
Contents read_keras_archive(const ZipArchive& archive, const std::string& file);

}  // namespace tessera
