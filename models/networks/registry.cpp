#include "models/networks/registry.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "kernels/error.h"

namespace tessera {

namespace {

using Up = UNetConfig::Up;
using Padding = UNetConfig::Padding;

template <class Config>
const Config& find(const std::vector<NamedNetwork<Config>>& networks, std::string_view name) {
  const auto found = std::ranges::find(networks, name, &NamedNetwork<Config>::name);
  require(found != networks.end(), "no network is called '{}'; there are {}", name,
          fmt::join(names_in(networks), ", "));
  return found->config;
}

// `config` with what the data decide as in `other`.
UNetConfig with_data_of(UNetConfig config, const UNetConfig& other, bool any_size) {
  config.channels = other.channels;
  config.classes = other.classes;
  config.output = other.output;
  if (config.norm == Conv::Norm::kNone) config.norm_eps = other.norm_eps;
  if (config.up != Up::kBilinear) config.align_corners = other.align_corners;
  if (any_size) config.depth = other.depth, config.base = other.base;
  return config;
}
HanConfig with_data_of(HanConfig config, const HanConfig& other, bool) {
  config.words = other.words;
  config.features = other.features;
  config.classes = other.classes;
  config.max_sentences = other.max_sentences;
  config.max_words = other.max_words;
  return config;
}

template <class Config>
std::string_view name_of(const std::vector<NamedNetwork<Config>>& networks, const Config& config) {
  for (const NamedNetwork<Config>& one : networks) {
    if (with_data_of(one.config, config, one.any_size) == config) return one.name;
  }
  return {};
}

}  // namespace

const std::vector<NamedNetwork<UNetConfig>>& named_unets() {
  static const std::vector<NamedNetwork<UNetConfig>> networks{
      // Ronneberger, Fischer & Brox 2015.
      {"unet-2015", {}, false},
      // The PyTorch tutorial of DeepResearch.
      {"deepresearch",
       {.depth = 3,
        .norm = Conv::Norm::kAfterRelu,
        .up = Up::kTransposed3,
        .skip_first = false,
        .head = UNetConfig::HeadKind::kConv3},
       false},
      // Akeret et al. 2017, as the package starts it: three layers of 16 features.
      {"tf_unet", {.depth = 2, .base = 16, .up_relu = true, .head_relu = true}, true},
      // milesial/Pytorch-UNet, and with its option `bilinear`.
      {"pytorch-unet",
       {.padding = Padding::kSame, .norm = Conv::Norm::kBeforeRelu, .conv_bias = false},
       false},
      {"pytorch-unet-bilinear",
       {.padding = Padding::kSame,
        .norm = Conv::Norm::kBeforeRelu,
        .conv_bias = false,
        .up = Up::kBilinear},
       false},
  };
  return networks;
}

const std::vector<NamedNetwork<HanConfig>>& named_hans() {
  static const std::vector<NamedNetwork<HanConfig>> networks{
      // Yang et al. 2016, whose GRU resets before the product.
      {"han-2016", {.features = 200, .reset_after = false}, false},
      // The Keras tutorial, whose padding takes part.
      {"keras-tutorial",
       {.cell = BiRnn::Cell::kLstm, .units = 150, .dense = 200, .attention = 200, .masked = false},
       false},
  };
  return networks;
}

const UNetConfig& named_unet(std::string_view name) {
  return find(named_unets(), name);
}
const HanConfig& named_han(std::string_view name) {
  return find(named_hans(), name);
}
std::string_view network_name(const UNetConfig& config) {
  return name_of(named_unets(), config);
}
std::string_view network_name(const HanConfig& config) {
  return name_of(named_hans(), config);
}

}  // namespace tessera
