// Keras' files: what Keras computes, we compute. tools/golden/make_keras_goldens.py wrote them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "engine/files/weights.h"
#include "models/import/import.h"
#include "models/session.h"
#include "tests/support/error.h"
#include "tests/support/network.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace tessera {
namespace {

using test::error_of;
using test::Tensor;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::filesystem::path golden(const std::string& name) {
  return test::source_dir() / "tests/golden/import" / name;
}

// What the file's own graph makes of `input`.
std::vector<float> probabilities_of(const Imported& imported, const TensorView& input) {
  const auto dims = input.shape().dims();
  // A Rescaling at the beginning is part of what a Tessera model does to its images.
  const Preprocessing& preprocessing = imported.config.preprocessing;
  const bool rescales = !preprocessing.mean.empty();
  std::vector<float> pixels(input.as<float>(), input.as<float>() + input.shape().elements());
  for (float& pixel : pixels) {
    if (rescales) pixel = (pixel / 255 - preprocessing.mean[0]) / preprocessing.std[0];
  }
  const std::vector<Tensor> outputs = test::run_graph_reference(
      segmentation_graph(imported.config, true),
      [&](const std::string& name, const Shape&) { return imported.tensors.at(name); },
      {Tensor::of({dims[0], dims[1], dims[2], dims[3]}, pixels)});
  return outputs[1].values();
}

class KerasImage : public testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(KerasImage, AnswersAsKerasDoes) {
  const auto [name, ending] = GetParam();
  const std::string framework = std::string(ending).substr(1, 2);
  const Imported imported = import_model(golden(std::string(name) + ending));
  Weights expected = Weights::open(golden(std::string(name) + ".safetensors"));
  const TensorView answer = expected.take_any_shape("output_" + framework);
  const std::vector<float> found = probabilities_of(imported, expected.take_any_shape("input"));
  ASSERT_EQ(found.size(), static_cast<std::size_t>(answer.shape().elements()));
  for (std::size_t i = 0; i < found.size(); ++i)
    ASSERT_TRUE(std::abs(found[i] - answer.as<float>()[i]) <= 1e-5f) << i << " of " << found.size();
  EXPECT_TRUE(imported.unused.empty()) << imported.unused[0];
  EXPECT_EQ(imported.config.provenance["imported"]["family"], "Keras model");
}

INSTANTIATE_TEST_SUITE_P(
    Files, KerasImage,
    testing::Values(std::tuple{"keras_zhixuhao", "_tf.hdf5"}, std::tuple{"keras_zerocost", "_tf.h5"},
                    std::tuple{"keras_zerocost", "_tf.keras"},
                    std::tuple{"keras_zerocost", "_k3.h5"},
                    std::tuple{"keras_zerocost", "_k3.keras"}, std::tuple{"keras_layers", "_tf.h5"},
                    std::tuple{"keras_layers", "_tf.keras"}, std::tuple{"keras_layers", "_k3.h5"},
                    std::tuple{"keras_layers", "_k3.keras"}),
    [](const auto& instance) {
      std::string name = std::string(std::get<0>(instance.param)) + std::get<1>(instance.param);
      std::ranges::replace(name, '.', '_');
      return name;
    });

}  // namespace
}  // namespace tessera
