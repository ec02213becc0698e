#include "models/example_run.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/run/executor.h"
#include "models/image/image.h"

namespace tessera {
namespace {

std::size_t size_at(const Shape& shape, int first) {
  return static_cast<std::size_t>(shape.elements(first, shape.rank()));
}

// The graph whose output `index` is what the example expects.
Graph example_graph(const ModelConfig& config, Example::Answer answer, std::size_t& index) {
  index = 0;
  if (answer == Example::Answer::kMask) return segmentation_graph(config, false);
  if (answer == Example::Answer::kNetwork) return build_network(config);
  index = 1;
  return segmentation_graph(config, true);
}

void append_floats(const TensorView& answer, std::vector<float>& to) {
  const std::int64_t count = answer.shape().elements();
  for (std::int64_t i = 0; i < count; ++i)
    to.push_back(answer.type.dtype == DType::kU8
                     ? static_cast<float>(answer.as<const std::uint8_t>()[i])
                     : answer.as<const float>()[i]);
}

}  // namespace

double ExampleResult::relative() const {
  if (!std::isfinite(largest)) return largest;
  return scale > 0 ? largest / scale : largest;
}

std::string ExampleResult::to_string() const {
  return fmt::format("largest difference {:.3g}, mean {:.3g}, of values up to {:.6g}", largest,
                     mean, scale);
}

ExampleResult compare(std::span<const float> answer, std::span<const float> expected) {
  ExampleResult result;
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

ExampleResult run_example(const ModelConfig& config, const WeightSource& weights,
                          const Example& example, const std::shared_ptr<const Device>& device) {
  const Shape& image = example.image.shape;
  const std::int64_t height = image[1], width = image[2], channels = image_channels(config);
  require(image[3] == 1 || image[3] == 3, "{}: an image of {} channels, expected 1 or 3",
          example.input, image[3]);
  const std::vector<TensorType> input{{DType::kF32, {1, height, width, channels}}};
  std::size_t index = 0;
  Graph graph = example_graph(config, example.answer, index);
  Executor executor(device->optimise(std::move(graph), input, true), weights, input, device);
  const std::vector<TensorType> types = executor.output_types(input);
  const Shape& made = types.at(index).shape;
  require(example.expected.shape.elements() == image[0] * made.elements(),
          "{}: it is {}, but of the image {} the network makes {}", example.output,
          example.expected.shape.to_string(), image.to_string(), made.to_string());

  std::vector<float> answers, pixels(static_cast<std::size_t>(height * width * channels));
  std::vector<std::vector<std::byte>> memory;
  std::vector<TensorView> outputs;
  for (const TensorType& type : types) {
    memory.emplace_back(type.bytes());
    outputs.emplace_back(memory.back().data(), type);
  }
  const std::size_t each = size_at(image, 1);
  for (std::int64_t n = 0; n < image[0]; ++n) {
    const auto begin = example.image.values.begin() + n * static_cast<std::int64_t>(each);
    normalise({height, width, image[3],
               std::vector<float>(begin, begin + static_cast<std::int64_t>(each))},
              config.preprocessing, pixels);
    const std::vector<TensorView> inputs{{pixels.data(), input[0]}};
    executor.run(inputs, outputs);
    append_floats(outputs[index], answers);
  }
  return compare(answers, example.expected.values);
}

}  // namespace tessera
