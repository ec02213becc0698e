// The operators of golden cases, from the attributes that the cases have in inference and training.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "kernels/ops/ops.h"

namespace tessera::test {

// The choice whose name the attribute `key` holds.
template <class Choice>
Choice choice(const nlohmann::json& attributes, const char* key,
              std::initializer_list<std::pair<const char*, Choice>> choices) {
  const std::string wanted_name = attributes.at(key);
  for (const auto& [name, value] : choices)
    if (wanted_name == name) return value;
  fail("{} is '{}', which is none of its choices", key, wanted_name);
}

inline Activation activation_of(const nlohmann::json& attributes) {
  return {choice<Activation::Kind>(
      attributes, "kind",
      {{"relu", Activation::Kind::kRelu}, {"sigmoid", Activation::Kind::kSigmoid}})};
}

inline Attention attention_of(const nlohmann::json& attributes) {
  return {attributes.at("units"), attributes.at("masked"), attributes.at("eps")};
}

inline Conv conv_of(const nlohmann::json& attributes) {
  Conv op;
  op.c_out = attributes.at("c_out");
  const int kernel = attributes.at("kernel");
  op.window = attributes.at("padding") == "same" ? same(kernel) : square(kernel);
  op.bias = attributes.at("bias");
  op.relu = attributes.at("relu");
  return op;
}

inline ConvTranspose conv_transpose_of(const nlohmann::json& attributes) {
  return {attributes.at("c_out"), attributes.at("kernel"), attributes.at("bias"),
          attributes.at("relu")};
}

inline CropConcat crop_concat_of(const nlohmann::json& attributes) {
  return {choice<CropConcat::Align>(
              attributes, "align",
              {{"crop_skip", CropConcat::Align::kCropSkip}, {"pad_up", CropConcat::Align::kPadUp}}),
          attributes.at("skip_first")};
}

inline Embedding embedding_of(const nlohmann::json& attributes) {
  return {attributes.at("words"), attributes.at("features")};
}

inline Linear linear_of(const nlohmann::json& attributes) {
  return {attributes.at("units"), attributes.at("bias")};
}

inline BiRnn rnn_of(const nlohmann::json& attributes) {
  BiRnn op;
  op.cell = choice<BiRnn::Cell>(attributes, "cell",
                                {{"lstm", BiRnn::Cell::kLstm}, {"gru", BiRnn::Cell::kGru}});
  op.units = attributes.at("units");
  op.gate = choice<BiRnn::Gate>(
      attributes, "gate",
      {{"sigmoid", BiRnn::Gate::kSigmoid}, {"hard_sigmoid", BiRnn::Gate::kHardSigmoid}});
  op.reset_after = attributes.at("reset_after");
  op.masked = attributes.at("masked");
  return op;
}

inline Upsample upsample_of(const nlohmann::json& attributes) {
  return {attributes.at("align_corners")};
}

}  // namespace tessera::test
