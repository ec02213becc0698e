#include "models/networks/unet.h"

#include "engine/files/json_fields.h"

namespace tessera {

namespace {

constexpr JsonNames<UNetConfig::Padding, 2> kPaddingNames{
    {{UNetConfig::Padding::kValid, "valid"}, {UNetConfig::Padding::kSame, "same"}}};
constexpr JsonNames<Conv::Norm, 3> kNormNames{{{Conv::Norm::kNone, "none"},
                                               {Conv::Norm::kBeforeRelu, "before_relu"},
                                               {Conv::Norm::kAfterRelu, "after_relu"}}};
constexpr JsonNames<UNetConfig::Up, 3> kUpNames{{{UNetConfig::Up::kTransposed2, "transposed2"},
                                                 {UNetConfig::Up::kTransposed3, "transposed3"},
                                                 {UNetConfig::Up::kBilinear, "bilinear"}}};
constexpr JsonNames<bool, 2> kConcatNames{{{true, "skip_up"}, {false, "up_skip"}}};
constexpr JsonNames<UNetConfig::HeadKind, 2> kHeadNames{
    {{UNetConfig::HeadKind::kConv1, "conv1"}, {UNetConfig::HeadKind::kConv3, "conv3"}}};
constexpr JsonNames<Head::Output, 2> kOutputNames{
    {{Head::Output::kSoftmax, "softmax"}, {Head::Output::kSigmoid, "sigmoid"}}};

constexpr int kMaxLevels = 8;
constexpr int kMaxChannels = 1 << 14;

// Appends the layers of one network; holds what they share.
class Builder {
 public:
  explicit Builder(const UNetConfig& config) : config_(config) {}

  Graph build(bool probabilities) {
    ValueId x = graph_.add_input("image");
    std::vector<ValueId> skips;
    for (int i = 0; i < config_.depth; ++i) {
      const std::string level = fmt::format("down{}", i);
      const int width = config_.base << i;
      x = convolution(level + "/conv2", convolution(level + "/conv1", x, width), width);
      skips.push_back(x);
      x = graph_.add(level + "/pool", MaxPool{}, {x});
    }
    const bool bilinear = config_.up == UNetConfig::Up::kBilinear;
    const int bottom = (config_.base << config_.depth) / (bilinear ? 2 : 1);
    x = convolution("bottom/conv2", convolution("bottom/conv1", x, bottom), bottom);
    for (int i = config_.depth - 1; i >= 0; --i) {
      const std::string level = fmt::format("up{}", i);
      const int width = config_.base << i;
      x = upsample(level + "/upsample", x, width);
      x = graph_.add(level + "/concat", concat(), {skips[static_cast<std::size_t>(i)], x});
      // Bilinear up-sampling cannot halve the channels; the second convolution does it instead.
      const int narrow = bilinear && i > 0 ? width / 2 : width;
      x = convolution(level + "/conv2", convolution(level + "/conv1", x, width), narrow);
    }
    head(x, probabilities);
    return std::move(graph_);
  }

 private:
  ValueId relu(const std::string& name, ValueId x) {
    return graph_.add(name, Activation{Activation::Kind::kRelu}, {x});
  }

  ValueId convolution(const std::string& name, ValueId x, int c_out) {
    const BatchNorm norm{config_.norm_eps};
    x = graph_.add(name,
                   Conv{.c_out = c_out,
                        .window = square(3, config_.padding == UNetConfig::Padding::kSame ? 1 : 0),
                        .bias = config_.conv_bias},
                   {x});
    if (config_.norm == Conv::Norm::kBeforeRelu) x = graph_.add(name + "/norm", norm, {x});
    x = relu(name + "/relu", x);
    if (config_.norm == Conv::Norm::kAfterRelu) x = graph_.add(name + "/norm", norm, {x});
    return x;
  }

  ValueId upsample(const std::string& name, ValueId x, int c_out) {
    if (config_.up == UNetConfig::Up::kBilinear)
      return graph_.add(name, Upsample{config_.align_corners}, {x});
    const int kernel = config_.up == UNetConfig::Up::kTransposed2 ? 2 : 3;
    x = graph_.add(name, ConvTranspose{.c_out = c_out, .kernel = kernel}, {x});
    return config_.up_relu ? relu(name + "/relu", x) : x;
  }

  CropConcat concat() const {
    const auto align = config_.padding == UNetConfig::Padding::kValid ? CropConcat::Align::kCropSkip
                                                                      : CropConcat::Align::kPadUp;
    return {align, config_.skip_first};
  }

  void head(ValueId x, bool probabilities) {
    if (config_.head == UNetConfig::HeadKind::kConv3) {
      x = graph_.add("head/conv", Conv{.c_out = config_.classes, .window = same(3)}, {x});
      x = relu("head/conv/relu", x);
      x = graph_.add("head/conv/norm", BatchNorm{config_.norm_eps}, {x});
    } else {
      x = graph_.add("head/conv", Conv{.c_out = config_.classes, .window = square(1)}, {x});
      if (config_.head_relu) x = relu("head/conv/relu", x);
    }
    x = config_.output == Head::Output::kSoftmax
            ? graph_.add("head/softmax", Softmax{}, {x})
            : graph_.add("head/sigmoid", Activation{Activation::Kind::kSigmoid}, {x});
    graph_.outputs.push_back(graph_.add("head/argmax", Argmax{}, {x}));
    if (probabilities) graph_.outputs.push_back(x);
  }

  const UNetConfig& config_;
  Graph graph_;
};

}  // namespace

nlohmann::json to_json(const UNetConfig& config) {
  return {{"depth", config.depth},
          {"base", config.base},
          {"channels", config.channels},
          {"classes", config.classes},
          {"padding", json_name(config.padding, kPaddingNames)},
          {"norm", json_name(config.norm, kNormNames)},
          {"norm_eps", config.norm_eps},
          {"conv_bias", config.conv_bias},
          {"up", json_name(config.up, kUpNames)},
          {"align_corners", config.align_corners},
          {"up_relu", config.up_relu},
          {"concat", json_name(config.skip_first, kConcatNames)},
          {"head", json_name(config.head, kHeadNames)},
          {"head_relu", config.head_relu},
          {"output", json_name(config.output, kOutputNames)}};
}

UNetConfig unet_config_from_json(const nlohmann::json& object) {
  UNetConfig config;
  JsonFields fields(object, "unet");
  fields.read("depth", config.depth, 1, kMaxLevels);
  fields.read("base", config.base, 1, kMaxChannels);
  fields.read("channels", config.channels, 1, 3);
  fields.read("classes", config.classes, 1, 256);
  fields.read("padding", config.padding, kPaddingNames);
  fields.read("norm", config.norm, kNormNames);
  fields.read("norm_eps", config.norm_eps);
  fields.read("conv_bias", config.conv_bias);
  fields.read("up", config.up, kUpNames);
  fields.read("align_corners", config.align_corners);
  fields.read("up_relu", config.up_relu);
  fields.read("concat", config.skip_first, kConcatNames);
  fields.read("head", config.head, kHeadNames);
  fields.read("head_relu", config.head_relu);
  fields.read("output", config.output, kOutputNames);
  fields.refuse_unknown();
  require(config.norm_eps > 0, "unet.norm_eps: expected a number above 0, found {}",
          config.norm_eps);
  require((config.base << config.depth) <= kMaxChannels,
          "unet: base {} at depth {} has {} channels at the bottom, at most {} are supported",
          config.base, config.depth, config.base << config.depth, kMaxChannels);
  require(config.channels != 2, "unet.channels: expected 1 (grey) or 3 (RGB), found 2");
  require(config.up != UNetConfig::Up::kBilinear || config.base % 2 == 0,
          "unet.base: bilinear up-sampling needs an even number, found {}", config.base);
  require(config.classes > 1 || config.output == Head::Output::kSigmoid,
          "unet.classes: a softmax needs at least 2 classes, found 1; use \"output\": \"sigmoid\"");
  return config;
}

Graph build_unet(const UNetConfig& config, bool probabilities) {
  return Builder(config).build(probabilities);
}

std::optional<std::int64_t> unet_output_size(const UNetConfig& config, std::int64_t input) {
  if (config.padding == UNetConfig::Padding::kSame)
    return input >> config.depth >= 1 ? std::optional(input) : std::nullopt;
  constexpr std::int64_t kLost = 4;  // by two valid 3x3 convolutions
  std::int64_t size = input;
  for (int i = 0; i < config.depth; ++i) {
    size -= kLost;
    if (size <= 0 || size % 2 != 0) return std::nullopt;
    size /= 2;
  }
  for (int i = 0; i < config.depth; ++i) {
    size -= kLost;
    if (size <= 0) return std::nullopt;
    size *= 2;
  }
  size -= kLost;
  return size > 0 ? std::optional(size) : std::nullopt;
}

std::int64_t unet_input_size(const UNetConfig& config, std::int64_t output) {
  std::int64_t input = output;
  while (unet_output_size(config, input).value_or(0) < output) ++input;
  return input;
}

std::int64_t unet_margin(const UNetConfig& config) {
  const std::int64_t input = unet_input_size(config, 1);
  return (input - *unet_output_size(config, input)) / 2;
}

}  // namespace tessera
