// nnU-Net v2 (MIC-DKFZ/dynamic-network-architectures), PlainConvUNet and ResidualEncoderUNet in
// 2-D: encoder.stages, decoder.transpconvs, decoder.stages, decoder.seg_layers; convolution,
// instance norm, LeakyReLU; (up, skip). Each tensor stands in the file under several names.
#include <algorithm>

#include "models/import/families/families.h"
#include "models/import/families/nnunet_plans.h"

namespace tessera {
namespace {

constexpr std::string_view kAliasOfEncoder = "decoder.encoder.";
constexpr std::string_view kAliasOfModule = ".all_modules.";

// `module` is LeakyReLU unless a whole module says otherwise.
ValueId leaky_relu(NetworkBuilder& net, const std::string& module, ValueId x) {
  const Activation usual{.kind = Activation::Kind::kLeakyRelu, .slope = 0.01};
  return net.add(module, net.activation_of(module, usual), {x});
}

// One of the library's ConvDropoutNormReLU, without its activation.
ValueId conv_norm(NetworkBuilder& net, const std::string& name, ValueId x,
                  const ConvLayout& layout = {}) {
  x = net.conv(name + ".conv", x, layout);
  if (!net.has(name + ".norm.weight")) throw OtherNetwork("there is no norm " + name + ".norm");
  return net.has(name + ".norm.running_mean") ? net.batch_norm(name + ".norm", x)
                                              : net.group_norm(name + ".norm", x);
}

// name.convs.{c}, all of them; the first has the stride.
ValueId stacked(NetworkBuilder& net, const std::string& name, ValueId x,
                const ConvLayout& first = {}) {
  const int convs = net.count(name + ".convs.{}.conv.weight");
  if (convs == 0) throw OtherNetwork("there is no tensor " + name + ".convs.0.conv.weight");
  for (int c = 0; c < convs; ++c) {
    const std::string one = fmt::format("{}.convs.{}", name, c);
    x = leaky_relu(net, one + ".nonlin", conv_norm(net, one, x, c == 0 ? first : ConvLayout{}));
  }
  return x;
}

// BasicBlockD: a shortcut of [average pool] and [1x1 convolution and norm].
ValueId residual_block(NetworkBuilder& net, const std::string& name, ValueId x,
                       const ConvLayout& first) {
  if (net.has(name + ".conv3.conv.weight"))
    throw OtherNetwork("bottleneck blocks are not known; no preset of nnU-Net has them");
  ValueId y = leaky_relu(net, name + ".conv1.nonlin", conv_norm(net, name + ".conv1", x, first));
  y = conv_norm(net, name + ".conv2", y);
  const bool strided = first.stride != std::array{1, 1};
  if (strided)
    x = net.add(name + ".skip.0",
                AvgPool{.window = {.kernel = first.stride, .stride = first.stride}}, {x});
  const std::string project = fmt::format("{}.skip.{}", name, strided ? 1 : 0);
  if (net.has(project + ".conv.weight")) x = conv_norm(net, project, x);
  return leaky_relu(net, name + ".nonlin2", net.add(name + "/add", Binary{}, {y, x}));
}

ValueId encoder_stage(NetworkBuilder& net, const std::string& name, ValueId x,
                      const ConvLayout& first) {
  const int blocks = net.count(name + ".blocks.{}.conv1.conv.weight");
  if (blocks == 0) return stacked(net, name + ".0", x, first);
  for (int b = 0; b < blocks; ++b)
    x = residual_block(net, fmt::format("{}.blocks.{}", name, b), x, b == 0 ? first : ConvLayout{});
  return x;
}

// Tensors under their second to fourth name must be equal to those under the first.
void ignore_aliases(NetworkBuilder& net, const Contents& contents) {
  for (const StoredTensor& tensor : contents.tensors) {
    std::string name = tensor.name;
    if (name.starts_with(kAliasOfEncoder)) name = "encoder." + name.substr(kAliasOfEncoder.size());
    if (const std::size_t at = name.find(kAliasOfModule); at != std::string::npos) {
      // all_modules is [conv, norm, activation], the norm second, or third behind a dropout.
      const std::string rest = name.substr(at + kAliasOfModule.size());
      const std::size_t dot = rest.find('.');
      if (dot == std::string::npos) continue;
      name =
          name.substr(0, at) + (rest.substr(0, dot) == "0" ? ".conv" : ".norm") + rest.substr(dot);
    }
    if (name == tensor.name || name.ends_with("num_batches_tracked")) continue;
    const StoredTensor& first = net.tensor(name, tensor.shape.size());
    const bool equal =
        first.type == tensor.type && first.shape == tensor.shape &&
        (first.bytes.data() == tensor.bytes.data() ||
         (first.strides == tensor.strides && std::ranges::equal(first.bytes, tensor.bytes)));
    if (!equal) throw OtherNetwork(fmt::format("{} is not equal to {}", tensor.name, name));
    net.ignore(tensor.name);
  }
}

NetworkEnd build_nnunet(NetworkBuilder& net, const Contents& contents, NnunetPlans& plans) {
  ignore_aliases(net, contents);
  const int ups = net.count("decoder.transpconvs.{}.weight");
  const auto transposed = [](int up) { return fmt::format("decoder.transpconvs.{}", up); };
  const bool has_stem = net.has("encoder.stem.convs.0.conv.weight");
  const int channels = net.extent(
      has_stem ? "encoder.stem.convs.0.conv.weight" : "encoder.stages.0.0.convs.0.conv.weight", 1);
  ValueId x = net.image(channels);
  if (has_stem) x = stacked(net, "encoder.stem", x);
  std::vector<ValueId> maps;
  std::array<std::int64_t, 2> multiple{1, 1};
  std::vector<std::array<int, 2>> strides;
  for (int stage = 0; stage <= ups; ++stage) {
    ConvLayout first;
    if (stage > 0) {
      for (const std::size_t axis : {0u, 1u}) {
        first.stride[axis] = net.extent(transposed(ups - stage) + ".weight", 2 + axis);
        multiple[axis] = std::min(multiple[axis] * first.stride[axis], std::int64_t{1} << 12);
      }
    }
    strides.push_back(first.stride);
    x = encoder_stage(net, fmt::format("encoder.stages.{}", stage), x, first);
    maps.push_back(x);
  }
  for (int up = 0; up < ups; ++up) {
    x = net.conv_transpose(transposed(up), x);
    x = net.add(fmt::format("decoder.stages.{}/concat", up),
                CropConcat{CropConcat::Align::kPadUp, false},
                {maps.at(static_cast<std::size_t>(ups - 1 - up)), x});
    x = stacked(net, fmt::format("decoder.stages.{}", up), x);
    // Of the others the training alone takes the answer.
    for (const char* parameter : {"weight", "bias"}) {
      if (up + 1 < ups) net.ignore(fmt::format("decoder.seg_layers.{}.{}", up, parameter));
    }
  }
  const std::string head = fmt::format("decoder.seg_layers.{}", ups - 1);
  const int classes = net.extent(head + ".weight", 0);
  try {
    plans = read_nnunet_plans(contents, strides, channels, classes);
  } catch (const Error& error) {
    fail("{}: {}", contents.file, error.what());
  }
  for (std::string& note : plans.notes) net.note(std::move(note));
  if (!plans.are_there)
    net.note(
        "the network alone, without its plans: nnU-Net cuts an image to what is not zero, "
        "normalises each channel, and averages overlapping windows of its patch size; instance "
        "norms make an answer depend on the window");
  return {.logits = net.conv(head, x),
          .output = "softmax",
          .input = plans.are_there ? "none" : "standardize",
          .input_said_by = plans.are_there ? "the plans" : "",
          .multiple = std::max(multiple[0], multiple[1]),
          .classes = plans.classes};
}

std::optional<Imported> match_nnunet(const Contents& contents, const ImportOptions& options,
                                     std::string& why) {
  const bool plain = std::ranges::any_of(contents.tensors, [](const StoredTensor& tensor) {
    return tensor.name.starts_with("decoder.transpconvs.0.");
  });
  if (!plain) return std::nullopt;
  NnunetPlans plans;
  auto imported = match_network(contents, options, why, [&](NetworkBuilder& net) {
    return build_nnunet(net, contents, plans);
  });
  if (imported && !options.choices.contains("input"))
    imported->config.preprocessing.steps = plans.steps;
  return imported;
}

}  // namespace

constinit const Family kNnunetFamily{
    "nnU-Net v2", "2-D, plain and with residual encoder; a model folder, or a checkpoint",
    match_nnunet};

}  // namespace tessera
