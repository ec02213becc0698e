// Published networks by name: the ones that people hold weights of, as configurations.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "models/networks/han.h"
#include "models/networks/unet.h"

namespace tessera {

template <class Config>
struct NamedNetwork {
  std::string_view name;
  Config config;
  bool any_size = false;  // published as a family: depth and width are the user's
};

const std::vector<NamedNetwork<UNetConfig>>& named_unets();
const std::vector<NamedNetwork<HanConfig>>& named_hans();

// Throws Error, with the names there are.
const UNetConfig& named_unet(std::string_view name);
const HanConfig& named_han(std::string_view name);

// What a configuration is called. What its data decide takes no part: channels, classes and their
// activation, the vocabulary, the limits of a document. Empty where it is none of them.
std::string_view network_name(const UNetConfig& config);
std::string_view network_name(const HanConfig& config);

template <class Config>
std::vector<std::string> names_in(const std::vector<NamedNetwork<Config>>& networks) {
  std::vector<std::string> names;
  for (const NamedNetwork<Config>& one : networks) names.emplace_back(one.name);
  return names;
}

}  // namespace tessera
