// The U-Net (Ronneberger, Fischer & Brox 2015) and its common variants, as one builder over one
// configuration.
//
//   down{i}/conv1, conv2, pool     i = 0 .. depth - 1, base * 2^i channels
//   bottom/conv1, conv2            base * 2^depth channels (half of it with bilinear up-sampling)
//   up{i}/upsample, concat, conv1, conv2      i = depth - 1 .. 0
//   head/conv, head/softmax (or sigmoid), head/argmax
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "engine/graph/graph.h"

namespace tessera {

struct UNetConfig {
  enum class Up : std::uint8_t { kTransposed2, kTransposed3, kBilinear };
  enum class HeadKind : std::uint8_t {
    kConv1,  // 1x1 convolution (optional ReLU: tf_unet)
    kConv3,  // 3x3 convolution with padding 1 -> ReLU -> BatchNorm (the DeepResearch tutorial)
  };
  enum class Padding : std::uint8_t { kValid, kSame };  // of the 3x3 convolutions
  using Norm = Conv::Norm;

  int depth = 4;     // poolings
  int base = 64;     // channels of the first level
  int channels = 1;  // of the image
  int classes = 2;   // 1 with a sigmoid: foreground or not
  Padding padding = Padding::kValid;
  Norm norm = Norm::kNone;  // of every 3x3 convolution of the two paths
  double norm_eps = 1e-5;
  bool conv_bias = true;
  Up up = Up::kTransposed2;
  bool align_corners = true;  // of kBilinear
  bool up_relu = false;       // after a transposed convolution
  bool skip_first = true;     // channel order of the concatenation
  HeadKind head = HeadKind::kConv1;
  bool head_relu = false;  // of kConv1
  Head::Output output = Head::Output::kSoftmax;

  bool operator==(const UNetConfig&) const = default;
};

nlohmann::json to_json(const UNetConfig& config);
// Throws Error for unknown keys, wrong types and values out of range.
UNetConfig unet_config_from_json(const nlohmann::json& object);

// The network, unfused. Input: image (n, h, w, channels), f32. Outputs: mask (n, ho, wo), u8, and
// with `probabilities` also (n, ho, wo, classes), f32.
Graph build_unet(const UNetConfig& config, bool probabilities);

// Pixels of the output along one axis for `input` pixels; none where the network does not run: with
// valid convolutions every pooling must see an even size (the paper's rule, n = 16k + 12 at depth
// 4).
std::optional<std::int64_t> unet_output_size(const UNetConfig& config, std::int64_t input);

// Smallest input that runs and gives at least `output` pixels along one axis.
std::int64_t unet_input_size(const UNetConfig& config, std::int64_t output);

// Input pixels lost on each side: 92 for the paper's network, 0 with same padding.
std::int64_t unet_margin(const UNetConfig& config);

}  // namespace tessera
