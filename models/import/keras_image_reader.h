// The reader of Keras' models of images: keras_image.cpp knows how maps, windows and weights go
// together, keras_image_layers.cpp the layers.
#pragma once

#include <array>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "models/import/import.h"
#include "models/import/keras_model.h"
#include "models/import/keras_settings.h"
#include "models/import/network_builder.h"

namespace tessera {

// A value on its way through the network.
struct KerasMap {
  ValueId value = 0;
  std::int64_t channels = 0;
  std::array<std::int64_t, 2> size{0, 0};  // of the size that the model was made for; 0: any
  // Pixels of the image for one of this map, along both axes, as a fraction.
  std::array<std::int64_t, 2> image_pixels{1, 1}, map_pixels{1, 1};
  // Rows and columns that the map lacks of that part of the image; below 0: that it has besides.
  std::array<std::int64_t, 2> lost{0, 0};
  bool is_vector = false;  // one pixel for the whole image
  bool is_flat = false;    // rows are joined: nothing but an activation may follow
  std::string pending;     // "sigmoid" or "softmax", which may be the network's last

  bool is_whole() const { return lost[0] == 0 && lost[1] == 0; }
};

class KerasImageReader {
 public:
  KerasImageReader(const KerasModel& model, const Contents& contents, const ImportOptions& options)
      : model_(model), contents_(contents), weights_(contents), net_(contents, options) {}

  // Throws Error that names the layer.
  Imported read();

 private:
  using Inputs = std::vector<std::size_t>;
  using Handler = KerasMap (*)(KerasImageReader&, const KerasLayer&, const Inputs&);

  // Of several answers the one that is asked for; layers that it does not need are left out.
  void choose_answer();
  void refuse_unknown_layers() const;
  Imported finish();

  // ---- values

  // The values for a layer to read.
  KerasMap& resolved(std::size_t input);
  KerasMap& take(std::size_t input);
  static std::size_t one_of(const Inputs& inputs);
  KerasMap only(const Inputs& inputs) { return take(one_of(inputs)); }
  // Sizes that need no pads of their own: multiples of `stride` of this map.
  void require_multiple(const KerasMap& map, std::size_t axis, std::int64_t stride);
  static void scale(KerasMap& map, std::size_t axis, std::int64_t larger, std::int64_t smaller);
  // The window of a convolution or pool, padded as TensorFlow does: "same" pads
  // max((ceil(size / stride) - 1) stride + reach - size, 0), the odd one behind. That depends on
  // the size; for multiples of the stride it is max(reach - stride, 0).
  Window window_of(const KerasLayer& layer, KerasMap& map, const char* kernel_key);

  // ---- weights

  KerasMap activated(const KerasLayer& layer, KerasMap map);
  KerasMap apply_activation(const KerasLayer& layer, KerasMap map,
                            const KerasActivation& activation);
  void give_bias(const KerasLayer& layer, const std::vector<std::string>& order, bool has_bias);
  // A vector of one number for each channel: the layer's own, or `value` where `order` has it not.
  void give_or_fill(const char* parameter, const KerasLayer& layer,
                    const std::vector<std::string>& order, const char* name, std::int64_t channels,
                    float value);
  // An affine map of each channel, as a batch norm of known statistics.
  ValueId affine(const std::string& name, ValueId x, std::vector<float> factor,
                 std::vector<float> shift);
  // Vanishes beside 1 in double.
  static constexpr double kNoEps = 1e-300;
  static std::int64_t channels_of(const KerasMap& map);

  // ---- layers, one function each

  KerasMap input(const KerasLayer& layer, const Inputs&);
  KerasMap conv(const KerasLayer& layer, const Inputs& inputs);
  // A filter (or `multiplier` of them) for each channel.
  KerasMap depthwise(const std::string& name, const Window& window, KerasMap map,
                     const StoredTensor& kernel, bool bias);
  KerasMap depthwise_conv(const KerasLayer& layer, const Inputs& inputs);
  KerasMap separable_conv(const KerasLayer& layer, const Inputs& inputs);
  // "same" keeps size x stride pixels of the whole map, which has kernel - stride more; the odd one
  // is cropped at the end. Where the kernel is smaller than the stride, pixels are missing instead.
  KerasMap conv_transpose(const KerasLayer& layer, const Inputs& inputs);
  KerasMap dense(const KerasLayer& layer, const Inputs& inputs);
  KerasMap batch_norm(const KerasLayer& layer, const Inputs& inputs);
  KerasMap group_norm(const KerasLayer& layer, const Inputs& inputs);
  KerasMap rescaling(const KerasLayer& layer, const Inputs& inputs);
  // (x - mean) / max(sqrt(variance), 1e-7)
  KerasMap normalization(const KerasLayer& layer, const Inputs& inputs);
  // A model that normalises first is given pixels as they are.
  void expect_raw_pixels(const Inputs& inputs);
  static void require_last_axis(const KerasLayer& layer);
  KerasMap activation(const KerasLayer& layer, const Inputs& inputs);
  KerasMap prelu(const KerasLayer& layer, const Inputs& inputs);
  KerasMap pool(const KerasLayer& layer, const Inputs& inputs);
  KerasMap global_pool(const KerasLayer& layer, const Inputs& inputs);
  KerasMap upsample(const KerasLayer& layer, const Inputs& inputs);
  // To a size in numbers: by as much as it changes the size that the model was made for.
  KerasMap resizing(const KerasLayer& layer, const Inputs& inputs);
  KerasMap borders(const KerasLayer& layer, const Inputs& inputs);
  KerasMap concatenate(const KerasLayer& layer, const Inputs& inputs);
  // Pools drop a last odd row, and Keras then refuses to join the maps: images of other sizes than
  // multiples are refused here.
  void require_whole_maps();
  KerasMap merge(const KerasLayer& layer, const Inputs& inputs);
  // What leaves every number in its place: of a vector (1, 1, c); of a map its own size, or rows
  // joined, at the network's end.
  KerasMap reshape(const KerasLayer& layer, const Inputs& inputs);
  KerasMap pass(const KerasLayer&, const Inputs& inputs) { return only(inputs); }

  template <KerasMap (KerasImageReader::*Function)(const KerasLayer&, const Inputs&)>
  static KerasMap call(KerasImageReader& reader, const KerasLayer& layer, const Inputs& inputs) {
    return (reader.*Function)(layer, inputs);
  }
  static const std::map<std::string, Handler, std::less<>> kHandlers;

  const KerasModel& model_;
  const Contents& contents_;
  KerasWeights weights_;
  NetworkBuilder net_;
  std::size_t answer_ = 0;      // a call
  std::vector<bool> needed_;    // of each call, by the answer
  std::vector<KerasMap> maps_;  // likewise
  std::map<std::size_t, int> readers_;
  std::int64_t multiple_ = 1;
  std::string input_ = "unit", input_said_by_;
};

}  // namespace tessera
