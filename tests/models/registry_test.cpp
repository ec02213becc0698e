// Names of published networks.
#include "models/networks/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/error.h"

namespace tessera {
namespace {

TEST(Registry, EachNetworkIsFoundByItsNameAndByWhatItIs) {
  for (const auto& one : named_unets()) {
    EXPECT_EQ(network_name(one.config), one.name);
    EXPECT_EQ(named_unet(one.name), one.config);
    EXPECT_EQ(unet_config_from_json(to_json(one.config)), one.config) << one.name;
  }
  for (const auto& one : named_hans()) {
    EXPECT_EQ(network_name(one.config), one.name);
    EXPECT_EQ(named_han(one.name), one.config);
  }
  EXPECT_THAT(test::error_of([] { named_unet("unet-2016"); }),
              testing::AllOf(testing::HasSubstr("'unet-2016'"), testing::HasSubstr("tf_unet")));
}

TEST(Registry, WhatDataDecideHasNoSayInTheName) {
  UNetConfig unet = named_unet("deepresearch");
  unet.channels = 3, unet.classes = 1, unet.output = Head::Output::kSigmoid;
  EXPECT_EQ(network_name(unet), "deepresearch");
  unet.base = 32;
  EXPECT_EQ(network_name(unet), "");
  UNetConfig family = named_unet("tf_unet");
  family.base = 4, family.depth = 1;
  EXPECT_EQ(network_name(family), "tf_unet");
  HanConfig han = named_han("keras-tutorial");
  han.words = 100, han.classes = 30, han.max_words = 7;
  EXPECT_EQ(network_name(han), "keras-tutorial");
  han.units = 50;
  EXPECT_EQ(network_name(han), "");
}

}  // namespace
}  // namespace tessera
