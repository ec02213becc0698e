// qubvel-org/segmentation_models.pytorch, Unet with a ResNet of torchvision's kind as its encoder:
// encoder.{conv1,bn1,layer{s}.{b}.*} (encoder.model.* of timm's),
// decoder.blocks.{i}.conv{1,2}.{0,1}, segmentation_head.0. The map is enlarged to the next skip's
// size, the last one to the image's; (up, skip).
#include "models/import/families/families.h"
#include "models/import/network_builder.h"

namespace tessera {
namespace {

// The map times a weight for each channel, which two 1x1 convolutions make of the map's mean (Hu et
// al. 2018). Nothing where the file has none: `name` is timm's "se", or "se_module".
ValueId squeeze_excitation(NetworkBuilder& net, const std::string& name, ValueId x) {
  if (!net.has(name + ".fc1.weight")) return x;
  const ValueId mean = net.add(
      name + "/mean", Reduce{.kind = Reduce::Kind::kMean, .axes = {1, 2}, .keepdims = true}, {x});
  const ValueId squeezed = net.relu(name + "/relu", net.conv(name + ".fc1", mean));
  const ValueId gate = net.add(name + "/sigmoid", Activation{.kind = Activation::Kind::kSigmoid},
                               {net.conv(name + ".fc2", squeezed)});
  return net.add(name + "/gated", Binary{Binary::Kind::kMul}, {x, gate});
}

// A block of torchvision's resnet.py (He et al. 2015): BasicBlock, or Bottleneck with its stride in
// the 3x3 convolution, which may have groups (ResNeXt). ResNet-D (He et al. 2019) makes the short
// cut smaller by a mean of 2 x 2 pixels before its convolution, which the indices tell.
ValueId resnet_block(NetworkBuilder& net, const std::string& name, int stride, ValueId x) {
  const auto part = [&](const std::string& conv, const std::string& norm) {
    return std::pair{fmt::format("{}.{}", name, conv), fmt::format("{}.{}", name, norm)};
  };
  const auto [conv1, bn1] = part("conv1", "bn1");
  const auto [conv2, bn2] = part("conv2", "bn2");
  const auto [conv3, bn3] = part("conv3", "bn3");
  const auto [conv_down, bn_down] = part("downsample.0", "downsample.1");
  const bool bottleneck = net.has(conv3 + ".weight");
  const ConvLayout strided{.stride = {stride, stride}};
  ValueId y = net.conv_relu(conv1, bn1, x, bottleneck ? ConvLayout{} : strided);
  if (bottleneck) {
    ConvLayout middle = strided;
    middle.groups = net.extent(conv1 + ".weight", 0) / net.extent(conv2 + ".weight", 1);
    if (middle.groups < 1)
      throw OtherNetwork("the shapes of " + conv1 + " and its heir do not fit");
    y = net.conv_relu(conv2, bn2, y, middle);
    y = net.batch_norm(bn3, net.conv(conv3, y));
  } else {
    y = net.batch_norm(bn2, net.conv(conv2, y));
  }
  for (const char* gate : {".se", ".se_module"}) y = squeeze_excitation(net, name + gate, y);
  if (net.has(conv_down + ".weight")) {
    x = net.batch_norm(bn_down, net.conv(conv_down, x, strided));
  } else if (net.has(bn_down + ".weight")) {
    if (stride > 1)
      x = net.add(name + ".downsample.0", AvgPool{.ceil_mode = true, .count_include_pad = false},
                  {x});
    x = net.batch_norm(name + ".downsample.2", net.conv(bn_down, x));
  }
  return net.relu(name + "/relu", net.add(name + "/add", Binary{}, {y, x}));
}

// The convolution that reads the image: of ResNet-D the first of three.
std::string first_conv(const NetworkBuilder& net, const std::string& encoder) {
  return encoder + (net.has(encoder + ".conv1.0.weight") ? ".conv1.0" : ".conv1");
}

// A convolution of stride 2, which ResNet-D makes of three of 3x3.
ValueId stem(NetworkBuilder& net, const std::string& encoder, ValueId image) {
  const std::string conv = encoder + ".conv1", norm = encoder + ".bn1";
  if (first_conv(net, encoder) == conv) return net.conv_relu(conv, norm, image, {.stride = {2, 2}});
  const ValueId x = net.conv_relu(conv + ".0", conv + ".1", image, {.stride = {2, 2}});
  return net.conv_relu(conv + ".6", norm, net.conv_relu(conv + ".3", conv + ".4", x));
}

// The maps of the encoder, the image first; each level has half the size of that before.
std::vector<ValueId> resnet(NetworkBuilder& net, const std::string& encoder, int depth) {
  std::vector<ValueId> maps{net.image_of(first_conv(net, encoder))};
  maps.push_back(stem(net, encoder, maps[0]));
  ValueId x = net.add(encoder + ".maxpool", MaxPool{.window = square(3, 1, 2)}, {maps[1]});
  for (int stage = 1; stage < depth; ++stage) {
    const std::string layer = fmt::format("{}.layer{}", encoder, stage);
    const int blocks = net.count(layer + ".{}.conv1.weight");
    if (blocks == 0) throw OtherNetwork("the encoder has no " + layer);
    for (int b = 0; b < blocks; ++b)
      x = resnet_block(net, fmt::format("{}.{}", layer, b), b == 0 && stage > 1 ? 2 : 1, x);
    maps.push_back(x);
  }
  return maps;
}

// Of config.json; "" where it does not say.
std::string config_text(const nlohmann::json& config, const char* key) {
  const auto found = config.find(key);
  return config.is_object() && found != config.end() && found->is_string()
             ? found->get<std::string>()
             : "";
}

// SCSEModule (Roy et al. 2018): the map under a gate of its channels, plus under one of its pixels.
// Nothing where the file has none.
ValueId attention(NetworkBuilder& net, const std::string& name, ValueId x) {
  const std::string channels = name + ".attention.cSE", pixels = name + ".attention.sSE";
  if (!net.has(channels + ".1.weight")) return x;
  const auto gated = [&](const std::string& gate, const std::string& conv, ValueId from) {
    const ValueId scores = net.add(
        gate + "/sigmoid", Activation{.kind = Activation::Kind::kSigmoid}, {net.conv(conv, from)});
    return net.add(gate + "/gated", Binary{Binary::Kind::kMul}, {x, scores});
  };
  const ValueId mean = net.add(
      channels + ".0", Reduce{.kind = Reduce::Kind::kMean, .axes = {1, 2}, .keepdims = true}, {x});
  const ValueId squeezed = net.relu(channels + ".2", net.conv(channels + ".1", mean));
  return net.add(name + "/sum", Binary{},
                 {gated(channels, channels + ".3", squeezed), gated(pixels, pixels + ".0", x)});
}

// Of a decoder; without running statistics its norms are instance norms.
ValueId conv_norm_relu(NetworkBuilder& net, const std::string& name, ValueId x) {
  const std::string norm = name + ".1";
  if (!net.has(norm + ".weight") || net.has(norm + ".running_mean"))
    return net.conv_relu(name + ".0", norm, x);
  return net.relu(name + ".2", net.group_norm(norm, net.conv(name + ".0", x)));
}

// To the next skip's size.
Resize enlarging(const std::string& interpolation) {
  using Coordinates = Resize::Coordinates;
  Resize resize{.coordinates = Coordinates::kHalfPixel, .nearest = Resize::Nearest::kFloor};
  if (interpolation == "bilinear") {
    resize.mode = Resize::Mode::kLinear;
  } else if (interpolation == "bicubic") {
    resize.mode = Resize::Mode::kCubic;
  } else if (interpolation == "nearest-exact") {
    resize.nearest = Resize::Nearest::kRoundPreferCeil;
  } else if (interpolation == "nearest") {
    resize.coordinates = Coordinates::kAsymmetric;
  } else {
    throw OtherNetwork(
        fmt::format("its decoder_interpolation is {}, expected nearest, nearest-exact, bilinear or "
                    "bicubic",
                    in_quotes(interpolation)));
  }
  return resize;
}

// Where the encoder's ResNet lies, timm's or SMP's own; empty where it is none.
std::string encoder_of(const Contents& contents) {
  for (const char* encoder : {"encoder", "encoder.model"})
    for (const char* conv : {".conv1.weight", ".conv1.0.weight"})
      if (contents.find(encoder + std::string(conv)) != nullptr) return encoder;
  return "";
}

NetworkEnd build_smp(NetworkBuilder& net, const Contents& contents) {
  const auto found = contents.said.find("config");
  const nlohmann::json config = found == contents.said.end() ? nlohmann::json() : *found;
  const int depth = net.count("decoder.blocks.{}.conv1.0.weight");
  const std::string encoder = encoder_of(contents);
  std::vector<ValueId> maps = resnet(net, encoder, depth);
  for (const StoredTensor& tensor : contents.tensors) {
    // Deeper levels of the encoder are in the file, and not in the network; nor is what tells the
    // class of the whole image.
    for (int stage = std::max(depth, 1); stage <= 4; ++stage) {
      if (tensor.name.starts_with(fmt::format("{}.layer{}.", encoder, stage)))
        net.ignore(tensor.name);
    }
    if (tensor.name.starts_with("classification_head.")) net.ignore(tensor.name);
  }
  std::string interpolation = config_text(config, "decoder_interpolation");
  if (interpolation.empty())
    interpolation =
        net.choose("interpolation", "nearest", {"nearest", "nearest-exact", "bilinear", "bicubic"},
                   "decoder_interpolation stands in config.json alone");
  const Resize resize = enlarging(interpolation);
  ValueId x = maps.back();
  for (int i = 0; i < depth; ++i) {
    const std::string name = fmt::format("decoder.blocks.{}", i);
    const ValueId skip = maps.at(static_cast<std::size_t>(depth - 1 - i));
    x = net.add(name + "/up", resize, {x, skip});
    if (i + 1 < depth) {
      x = net.add(name + "/concat", CropConcat{CropConcat::Align::kPadUp, false}, {skip, x});
      x = attention(net, name + ".attention1", x);
    }
    for (const int k : {1, 2}) x = conv_norm_relu(net, fmt::format("{}.conv{}", name, k), x);
    x = attention(net, name + ".attention2", x);
  }
  // The last block has nothing to join, and an attention for it all the same.
  for (const char* tensor :
       {"cSE.1.weight", "cSE.1.bias", "cSE.3.weight", "cSE.3.bias", "sSE.0.weight", "sSE.0.bias"})
    net.ignore(fmt::format("decoder.blocks.{}.attention1.attention.{}", depth - 1, tensor));
  std::string activation = config_text(config, "activation");
  if (activation == "softmax2d") activation = "softmax";
  const std::string type = net.class_of("segmentation_head.2.activation");
  if (type == "Sigmoid") activation = "sigmoid";
  if (type == "Softmax") activation = "softmax";
  if (activation != "sigmoid" && activation != "softmax") activation.clear();
  const bool rgb = net.extent(first_conv(net, encoder) + ".weight", 1) == 3;
  return {.logits = net.conv("segmentation_head.0", x),
          .output = activation,
          .is_activated = true,
          .input = rgb ? "imagenet" : "unit"};
}

std::optional<Imported> match_smp(const Contents& contents, const ImportOptions& options,
                                  std::string& why) {
  if (contents.find("segmentation_head.0.weight") == nullptr) return std::nullopt;
  if (encoder_of(contents).empty()) {
    why = "its encoder is no ResNet: of segmentation_models.pytorch, those with a resnet are read";
    return std::nullopt;
  }
  return match_network(contents, options, why,
                       [&](NetworkBuilder& net) { return build_smp(net, contents); });
}

}  // namespace

constinit const Family kSmpFamily{"segmentation_models.pytorch Unet",
                                  "with resnet18 to resnet152 and their like", match_smp};

}  // namespace tessera
