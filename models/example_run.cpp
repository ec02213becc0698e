#include "models/example_run.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "models/image/image.h"
#include "models/network_run.h"

namespace tessera {
namespace {

// The graph whose output is what the example expects.
Graph example_graph(const ModelConfig& config, Example::Answer answer) {
  Graph graph = answer == Example::Answer::kNetwork
                    ? build_network(config)
                    : segmentation_graph(config, answer == Example::Answer::kProbabilities);
  const bool is_second = answer == Example::Answer::kProbabilities;  // the mask is the first
  graph.outputs = {graph.outputs.at(is_second ? 1 : 0)};
  return graph;
}

}  // namespace

std::string Difference::to_string() const {
  return fmt::format("largest error {:.3g}, mean {:.3g}, of values up to {:.6g}", largest, mean,
                     scale);
}

Difference difference_of(std::span<const float> answer, std::span<const float> expected) {
  Difference result;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    double apart = std::abs(static_cast<double>(answer[i]) - expected[i]);
    if (std::isnan(apart)) apart = std::numeric_limits<double>::infinity();
    result.largest = std::max(result.largest, apart);
    result.mean += apart / static_cast<double>(expected.size());
    if (std::isfinite(expected[i]))
      result.scale = std::max(result.scale, std::abs(static_cast<double>(expected[i])));
  }
  return result;
}

Difference run_example(const ModelConfig& config, Weights& weights, const Example& example,
                       const std::shared_ptr<Device>& device) {
  const Shape& images = example.image.shape;
  const std::int64_t height = images[1], width = images[2], channels = image_channels(config);
  require(images[3] == 1 || images[3] == 3, "{}: an image of {} channels, expected 1 or 3",
          example.input, images[3]);
  NetworkAnswer input{{DType::kF32, {images[0], height, width, channels}}, {}};
  input.bytes.resize(input.type.bytes());
  const std::int64_t from = height * width * images[3], to = height * width * channels;
  for (std::int64_t n = 0; n < images[0]; ++n) {
    const auto begin = example.image.values.begin() + n * from;
    normalise({height, width, images[3], std::vector<float>(begin, begin + from)},
              config.preprocessing,
              {input.view().as<float>() + n * to, static_cast<std::size_t>(to)});
  }
  const NetworkAnswer made = std::move(
      run_graph(example_graph(config, example.answer), source_of(weights), {input}, device)[0]);
  require(example.expected.shape.elements() == made.type.shape.elements(),
          "{}: it is {}, but of the image {} the network makes {}", example.output,
          example.expected.shape, images, made.type.shape);
  return difference_of(floats_of(made), example.expected.values);
}

}  // namespace tessera
