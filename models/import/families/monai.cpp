// MONAI (Project-MONAI/MONAI), UNet and BasicUNet. A unit is convolution, norm and activation,
// which its adn_ordering puts in order: {conv, adn.N, adn.A}.
#include <charconv>

#include "models/import/families/families.h"
#include "models/import/families/u_shape.h"

namespace tessera {
namespace {

// What the names do not tell of the norms and activations without tensors.
struct MonaiUnits {
  NetworkBuilder& net;
  const Contents& contents;
  std::string norm, activation;
  int groups = 0;
  bool norm_is_last = false;

  // Of a network whose first unit is `first`.
  MonaiUnits(NetworkBuilder& builder, const Contents& file, const std::string& first,
             const std::string& usual_activation)
      : net(builder), contents(file) {
    const std::string adn = first + ".adn";
    const auto modules = contents.said.find("modules");
    const bool listed = modules != contents.said.end() && modules->is_object() && !modules->empty();
    if (net.has(adn + ".N.weight")) {
      if (!net.has(adn + ".N.running_mean") && net.class_of(adn + ".N").empty())
        norm = net.choose("norm", "instance", {"instance", "layer", "group"},
                          "a norm with parameters and without statistics");
      if (norm == "layer") groups = 1;
      if (norm == "group") groups = net.choose("groups", 8, "of its norms");
    } else if (listed) {
      norm = modules->contains(adn + ".N") ? "instance" : "none";
    } else {
      norm = net.choose("norm", "instance", {"instance", "none"},
                        "an instance norm has no tensors, as none has");
    }
    if (!net.has(adn + ".A.weight") && net.class_of(adn + ".A").empty())
      activation = net.choose("activation", usual_activation,
                              {"relu", "leaky_relu_0.1", "leaky_relu_0.01"}, "it has no tensors");
    norm_is_last = norm != "none" && net.choose("adn_ordering", "NDA", {"NDA", "ADN"},
                                                "names do not tell whether the norm comes before "
                                                "the activation") == "ADN";
  }

  // `adn` of the unit `name` behind x.
  ValueId after(const std::string& name, ValueId x) const {
    const std::string adn = name + ".adn";
    return norm_is_last ? normalised(adn, activated(adn, x)) : activated(adn, normalised(adn, x));
  }

 private:
  ValueId normalised(const std::string& adn, ValueId x) const {
    if (net.has(adn + ".N.running_mean")) return net.batch_norm(adn + ".N", x);
    return norm == "none" ? x : net.group_norm(adn + ".N", x, groups);
  }

  ValueId activated(const std::string& adn, ValueId x) const {
    const std::string a = adn + ".A";
    if (net.has(a + ".weight")) return net.prelu(a, x);
    Activation chosen{};
    if (activation.starts_with("leaky"))
      chosen = {.kind = Activation::Kind::kLeakyRelu,
                .slope = activation == "leaky_relu_0.1" ? 0.1 : 0.01};
    return net.add(a, net.activation_of(a, chosen), {x});
  }
};

// "2,2,1"
std::vector<int> read_strides(const std::string& text, std::size_t count) {
  std::vector<int> strides;
  const char* at = text.data();
  const char* const end = at + text.size();
  for (int stride = 0; at < end;) {
    const auto [behind, error] = std::from_chars(at, end, stride);
    if (error != std::errc() || stride < 1 || stride > 8 || (behind < end && *behind != ',')) break;
    strides.push_back(stride);
    at = behind == end ? end : behind + 1;
  }
  require(at == end && strides.size() == count,
          "--set strides={}: expected {} whole numbers from 1 to 8 with commas between them", text,
          count);
  return strides;
}

// UNet nests: level i is P.0 (down), P.1.submodule (the next level, or the bottom), P.2 (up).
class MonaiUNet {
 public:
  MonaiUNet(NetworkBuilder& net, const Contents& contents)
      : net_(net),
        residual_(net.has("model.0.conv.unit0.conv.weight")),
        units_(net, contents, residual_ ? "model.0.conv.unit0" : "model.0", "relu") {
    std::string path = "model";
    while (net.has(path + ".0" + kernel_of_down())) {
      levels_.push_back(path);
      path += ".1.submodule";
    }
    bottom_ = path;
  }

  NetworkEnd build() {
    std::vector<std::string> usual(levels_.size(), "2");
    for (std::size_t i = 0; i < levels_.size(); ++i) {
      // A shortcut of one pixel's width changes the channels alone.
      const std::string shortcut = levels_[i] + ".0.residual.weight";
      if (residual_ && (!net_.has(shortcut) || net_.extent(shortcut, 2) == 1)) usual[i] = "1";
    }
    const std::string text = net_.choose("strides", fmt::format("{}", fmt::join(usual, ",")), {},
                                         "a level's stride is not in the shapes; another is 2,1");
    const std::vector<int> strides = read_strides(text, levels_.size());
    std::vector<ValueId> maps;
    ValueId x = net_.image_of("model.0" + (residual_ ? std::string(".conv.unit0.conv") : ".conv"));
    std::int64_t multiple = 1;
    for (std::size_t i = 0; i < levels_.size(); ++i) {
      x = down(levels_[i] + ".0", x, strides[i]);
      maps.push_back(x);
      multiple = std::min<std::int64_t>(multiple * strides[i], 1 << 12);
    }
    x = down(bottom_, x, 1);
    for (std::size_t i = levels_.size(); i-- > 0;) {
      x = net_.add(levels_[i] + ".1", CropConcat{CropConcat::Align::kPadUp, true}, {maps[i], x});
      x = up(levels_[i] + ".2", x, strides[i], i == 0);
    }
    return {.logits = x, .multiple = multiple};
  }

 private:
  std::string kernel_of_down() const {
    return residual_ ? ".conv.unit0.conv.weight" : ".conv.weight";
  }

  // ResidualUnit: units in a row, and around them a convolution, or nothing where shapes agree.
  ValueId down(const std::string& name, ValueId x, int stride, bool bare = false) {
    const ConvLayout strided{.stride = {stride, stride}};
    if (!residual_) return units_.after(name, net_.conv(name + ".conv", x, strided));
    ValueId y = x;
    const int count = net_.count(name + ".conv.unit{}.conv.weight");
    if (count == 0) throw OtherNetwork("there is no tensor " + name + ".conv.unit0.conv.weight");
    for (int k = 0; k < count; ++k) {
      const std::string unit = fmt::format("{}.conv.unit{}", name, k);
      y = net_.conv(unit + ".conv", y, k == 0 ? strided : ConvLayout{});
      if (!bare || k + 1 < count) y = units_.after(unit, y);
    }
    if (net_.has(name + ".residual.weight")) x = net_.conv(name + ".residual", x, strided);
    return net_.add(name + "/add", Binary{}, {y, x});
  }

  ValueId up(const std::string& name, ValueId x, int stride, bool top) {
    const std::string first = residual_ ? name + ".0" : name;
    const int kernel = net_.extent(first + ".conv.weight", 2);
    x = net_.conv_transpose(first + ".conv", x,
                            {.stride = std::array{stride, stride},
                             .pad = (kernel - 1) / 2,
                             .output_padding = stride - 1});
    if (residual_ || !top) x = units_.after(first, x);
    return residual_ ? down(name + ".1", x, 1, top) : x;
  }

  NetworkBuilder& net_;
  bool residual_;  // num_res_units above 0
  MonaiUnits units_;
  std::vector<std::string> levels_;
  std::string bottom_;
};

std::optional<Imported> match_monai_unet(const Contents& contents, const ImportOptions& options,
                                         std::string& why) {
  if (contents.find("model.0.conv.weight") == nullptr &&
      contents.find("model.0.conv.unit0.conv.weight") == nullptr)
    return std::nullopt;
  return match_network(contents, options, why,
                       [&](NetworkBuilder& net) { return MonaiUNet(net, contents).build(); });
}

std::optional<Imported> match_basic_unet(const Contents& contents, const ImportOptions& options,
                                         std::string& why) {
  if (contents.find("conv_0.conv_0.conv.weight") == nullptr) return std::nullopt;
  return match_network(contents, options, why, [&](NetworkBuilder& net) -> NetworkEnd {
    const MonaiUnits units(net, contents, "conv_0.conv_0", "leaky_relu_0.1");
    const auto two = [&](const std::string& name, ValueId x) {
      for (const int k : {0, 1}) {
        const std::string unit = fmt::format("{}.conv_{}", name, k);
        x = units.after(unit, net.conv(unit + ".conv", x));
      }
      return x;
    };
    const int depth = net.count("down_{}.convs.conv_0.conv.weight", 1);
    std::vector<ValueId> maps{two("conv_0", net.image_of("conv_0.conv_0.conv"))};
    for (int i = 1; i <= depth; ++i) {
      const std::string name = fmt::format("down_{}", i);
      maps.push_back(two(name + ".convs", net.max_pool(name + ".max_pooling", maps.back())));
    }
    ValueId x = maps.back();
    for (int i = depth; i > 0; --i) {
      const std::string name = fmt::format("upcat_{}", i);
      if (net.has(name + ".upsample.deconv.weight")) {
        x = net.conv_transpose(name + ".upsample.deconv", x);
      } else {
        // The library leaves the convolution out where it would keep the channels.
        const std::string before = name + ".upsample.preconv";
        if (net.has(before + ".weight")) x = net.conv(before, x);
        x = net.add(name + ".upsample", Upsample{.align_corners = true}, {x});
      }
      // Of an odd size the last row or column is repeated.
      const ValueId skip = maps.at(static_cast<std::size_t>(i - 1));
      x = net.add(name + "/replicate",
                  Resize{.coordinates = Resize::Coordinates::kAsymmetric,
                         .nearest = Resize::Nearest::kFloor,
                         .stretch = false},
                  {x, skip});
      x = net.add(name + "/concat", CropConcat{CropConcat::Align::kPadUp, true}, {skip, x});
      x = two(name + ".convs", x);
    }
    return {.logits = net.conv("final_conv", x)};
  });
}

}  // namespace

constinit const Family kMonaiUnetFamily{"MONAI UNet", "with and without residual units",
                                        match_monai_unet};
constinit const Family kMonaiBasicUnetFamily{"MONAI BasicUNet", "deconv and nontrainable",
                                             match_basic_unet};

}  // namespace tessera
