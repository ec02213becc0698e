#include "models/networks/published_images.h"

namespace tessera {

namespace {

constexpr CropConcat kUpThenSkip{CropConcat::Align::kPadUp, false};

class PublishedBuilder {
 public:
  explicit PublishedBuilder(int channels) {
    network_.network.channels = {channels};
    image_ = network_.network.graph.add_input("image");
  }

  ValueId image() const { return image_; }

  ValueId add(const std::string& name, Op op, std::vector<ValueId> from) {
    return network_.network.graph.add(name, std::move(op), std::move(from));
  }

  ValueId batch_unit(const std::string& name, ValueId x, int c_out, Window window, bool relu) {
    x = add(name, Conv{.c_out = c_out, .window = window, .bias = false}, {x});
    x = add(name + "/norm", BatchNorm{.eps = 1e-5}, {x});
    return relu ? add(name + "/relu", Activation{}, {x}) : x;
  }

  ValueId instance_unit(const std::string& name, ValueId x, int c_out, int stride) {
    x = add(name, Conv{.c_out = c_out, .window = square(3, 1, stride)}, {x});
    x = add(name + "/norm", GroupNorm{}, {x});
    return add(name + "/activation", Activation{.kind = Activation::Kind::kLeakyRelu}, {x});
  }

  ImageNetwork finish(ValueId logits, std::int64_t multiple) {
    network_.network.graph.outputs = {logits};
    network_.network.outputs = {{"logits", NetworkOutput::Kind::kLogits}};
    network_.multiple = multiple;
    return std::move(network_);
  }

 private:
  ImageNetwork network_;
  ValueId image_ = 0;
};

}  // namespace

ImageNetwork resnet_unet(const std::vector<int>& blocks, int base, int classes) {
  PublishedBuilder net(3);
  std::vector<std::pair<ValueId, int>> skips;  // with their channels
  ValueId x = net.batch_unit("stem", net.image(), base, square(7, 3, 2), true);
  skips.emplace_back(x, base);
  x = net.add("stem/pool", MaxPool{.window = square(3, 1, 2)}, {x});
  int c = base;
  for (std::size_t stage = 0; stage < blocks.size(); ++stage) {
    const int wide = base << stage;
    for (int b = 0; b < blocks[stage]; ++b, c = wide) {
      const std::string name = fmt::format("stage{}/block{}", stage, b);
      const int stride = b == 0 && stage > 0 ? 2 : 1;
      ValueId y = net.batch_unit(name + "/conv1", x, wide, square(3, 1, stride), true);
      y = net.batch_unit(name + "/conv2", y, wide, same(3), false);
      if (c != wide) x = net.batch_unit(name + "/short", x, wide, square(1, 0, stride), false);
      x = net.add(name + "/relu", Activation{}, {net.add(name + "/sum", Binary{}, {y, x})});
    }
    skips.emplace_back(x, wide);
  }
  skips.pop_back();
  // The decoder's widths: those of the encoder's levels, then two smaller ones.
  for (std::size_t i = 0; i <= blocks.size(); ++i) {
    const std::string name = fmt::format("up{}", i);
    const std::size_t levels = blocks.size();
    const int wide = i + 1 < levels ? base << (levels - 2 - i) : base >> (i + 2 - levels);
    x = net.add(name + "/resize",
                Resize{.coordinates = Resize::Coordinates::kAsymmetric,
                       .nearest = Resize::Nearest::kFloor,
                       .scale_h = 2,
                       .scale_w = 2},
                {x});
    if (!skips.empty()) {
      x = net.add(name + "/concat", kUpThenSkip, {skips.back().first, x});
      skips.pop_back();
    }
    x = net.batch_unit(name + "/conv1", x, wide, same(3), true);
    x = net.batch_unit(name + "/conv2", x, wide, same(3), true);
  }
  return net.finish(net.add("head", Conv{.c_out = classes, .window = same(3)}, {x}),
                    std::int64_t{2} << blocks.size());
}

ImageNetwork plain_nnunet(int channels, const std::vector<int>& widths, int classes) {
  PublishedBuilder net(channels);
  std::vector<std::pair<ValueId, int>> skips;
  ValueId x = net.image();
  for (std::size_t level = 0; level < widths.size(); ++level) {
    const std::string name = fmt::format("down{}", level);
    x = net.instance_unit(name + "/conv1", x, widths[level], level > 0 ? 2 : 1);
    x = net.instance_unit(name + "/conv2", x, widths[level], 1);
    skips.emplace_back(x, widths[level]);
  }
  skips.pop_back();
  while (!skips.empty()) {
    const auto [skip, wide] = skips.back();
    skips.pop_back();
    const std::string name = fmt::format("up{}", skips.size());
    x = net.add(name + "/upsample", ConvTranspose{.c_out = wide}, {x});
    x = net.add(name + "/concat", kUpThenSkip, {skip, x});
    x = net.instance_unit(name + "/conv1", x, wide, 1);
    x = net.instance_unit(name + "/conv2", x, wide, 1);
  }
  return net.finish(net.add("head", Conv{.c_out = classes, .window = square(1)}, {x}),
                    std::int64_t{1} << (widths.size() - 1));
}

}  // namespace tessera
