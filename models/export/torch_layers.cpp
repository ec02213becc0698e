// The operators in PyTorch's words, one function each.
#include "engine/graph/node_checks.h"
#include "kernels/error.h"
#include "models/export/torch_module_writer.h"

namespace tessera {
namespace {

using fmt::format;

}  // namespace

// ---- windows

void TorchModuleWriter::write(const Conv& op) {
  require(!op.relu && op.norm == Conv::Norm::kNone && !op.concat && !op.pool, "it is fused");
  Window window = op.window;
  std::string x = image(0);
  if (!is_even(window)) x = padded(x, window);
  set_image(
      format("{}({})",
             layer(format("nn.Conv2d({}, {}, {}{}, bias={})", channels(0), op.c_out,
                          pair_of(window.kernel), options(window, op.groups), text_of(op.bias))),
             x));
}

std::string TorchModuleWriter::options(const Window& w, int groups) {
  std::string text;
  if (w.stride != std::array{1, 1}) text += ", stride=" + pair_of(w.stride);
  if (w.pads != std::array{0, 0, 0, 0}) text += ", padding=" + pair_of({w.pads[0], w.pads[2]});
  if (w.dilation != std::array{1, 1}) text += ", dilation=" + pair_of(w.dilation);
  if (groups != 1) text += format(", groups={}", groups);
  return text;
}

void TorchModuleWriter::write(const ConvTranspose& op) {
  require(!op.relu, "it is fused");
  Window window = window_of(op);
  std::array<int, 2> more{};
  bool fits = true;
  for (const std::size_t axis : {0u, 1u}) {
    more[axis] = window.before(axis) - window.behind(axis);
    fits = fits && window.before(axis) >= 0 && more[axis] >= 0 &&
           more[axis] < std::max(window.stride[axis], window.dilation[axis]);
  }
  const Window given = window;
  if (!fits) window.pads = {0, 0, 0, 0}, more = {0, 0};
  std::string text = options(window, op.groups);
  if (more != std::array{0, 0}) text += ", output_padding=" + pair_of(more);
  const std::string module =
      layer(format("nn.ConvTranspose2d({}, {}, {}{}, bias={})", channels(0), op.c_out,
                   pair_of(window.kernel), text, text_of(op.bias)));
  if (fits) return set_image(format("{}({})", module, image(0)));
  // What is added holds the bias, which comes last.
  const std::string whole =
      line(node_->name + "_whole",
           format("F.conv_transpose2d({}, {}.weight, stride={}, groups={}, dilation={})", image(0),
                  module, tuple_of(window.stride), op.groups, tuple_of(window.dilation)));
  const auto& p = given.pads;
  set_image(format("F.pad({}, {}){}", whole, tuple_of(std::array{-p[2], -p[3], -p[0], -p[1]}),
                   op.bias ? format(" + {}.bias[:, None, None]", module) : ""));
}

void TorchModuleWriter::write(const MaxPool& op) {
  Window window = op.window;
  std::string x = image(0);
  if (!fits_pool(window)) {
    require(!op.ceil_mode, "PyTorch rounds up with equal pads alone");
    x = padded(x, window, "-torch.inf");
  }
  set_image(format("F.max_pool2d({}, {}, {}, {}, {}, {})", x, tuple_of(window.kernel),
                   tuple_of(window.stride), tuple_of(std::array{window.pads[0], window.pads[2]}),
                   tuple_of(window.dilation), text_of(op.ceil_mode)));
}

bool TorchModuleWriter::fits_pool(const Window& w) {
  return is_even(w) && 2 * w.pads[0] <= w.kernel[0] && 2 * w.pads[2] <= w.kernel[1];
}

void TorchModuleWriter::write(const AvgPool& op) {
  require(op.window.dilation == std::array{1, 1}, "PyTorch averages neighbouring pixels alone");
  Window window = op.window;
  const bool fits = fits_pool(window);
  const std::array pads{fits ? window.pads[0] : 0, fits ? window.pads[2] : 0};
  const auto pool = [&](const std::string& x) {
    return format("F.avg_pool2d({}, {}, {}, {}, {}, {})", x, tuple_of(window.kernel),
                  tuple_of(window.stride), tuple_of(pads), text_of(op.ceil_mode),
                  text_of(op.count_include_pad));
  };
  if (fits) return set_image(pool(image(0)));
  require(!op.ceil_mode, "PyTorch rounds up with equal pads alone");
  const std::string x = image(0);
  Window again = window;
  std::string text = pool(padded(x, window));
  if (!op.count_include_pad) text += " / " + pool(padded(format("torch.ones_like({})", x), again));
  set_image(text);
}

// ---- element by element

void TorchModuleWriter::write(const Activation& op) {
  const Layout as = layout(0);
  const std::string x = input(0, as);
  set(activated(op, x, as), as);
}

std::string TorchModuleWriter::activated(const Activation& op, const std::string& x, Layout as) {
  using Kind = Activation::Kind;
  switch (op.kind) {
    case Kind::kRelu:
      return format("F.relu({})", x);
    case Kind::kSigmoid:
      return format("{}.sigmoid()", x);
    case Kind::kLeakyRelu:
      return format("F.leaky_relu({}, {})", x, text_of(op.slope));
    case Kind::kPrelu: {
      const std::string module = layer(format("nn.PReLU({})", op.per_channel ? channels(0) : 1));
      if (as == Layout::kChannelsFirst) return format("{}({})", module, x);
      return format("torch.where({0} < 0, {0} * {1}.weight, {0})", x, module);
    }
    case Kind::kElu:
      return format("F.elu({}, {})", x, text_of(op.alpha));
    case Kind::kSelu:
      return format("F.selu({})", x);
    case Kind::kSilu:
      return format("F.silu({})", x);
    case Kind::kGelu:
      return format("F.gelu({})", x);
    case Kind::kGeluTanh:
      return format("F.gelu({}, approximate=\"tanh\")", x);
    case Kind::kTanh:
      return format("{}.tanh()", x);
    case Kind::kHardSigmoid:
      return format("({} * {} + {}).clamp(0, 1)", x, text_of(op.gain), text_of(op.offset));
    case Kind::kHardSwish:
      return format("F.hardswish({})", x);
    case Kind::kSoftplus:
      return format("F.softplus({})", x);
    case Kind::kClip:
      return format("{}.clamp({}, {})", x, text_of(op.min), text_of(op.max));
  }
  fail("it is of an unknown kind");
}

void TorchModuleWriter::write(const Binary& op) {
  constexpr std::array kForms{
      "{} + {}", "{} - {}", "{} * {}", "{} / {}", "torch.minimum({}, {})", "torch.maximum({}, {})"};
  Layout as = common_layout();
  std::string a, b;
  if (op.constant.empty()) {
    if (rank(0) != rank(1)) as = Layout::kOurs;
    a = input(0, as), b = input(1, as);
  } else {
    use("Constant");
    const int given = static_cast<int>(op.constant.size());
    if (given > rank(0)) as = Layout::kOurs;
    a = input(0, as);
    b = layer(format("Constant({})", fmt::join(op.constant, ", "))) + ".value";
    if (as == Layout::kChannelsFirst) {
      std::vector<int> extents = op.constant;
      extents.insert(extents.begin(), static_cast<std::size_t>(4 - given), 1);
      b += format(".reshape{}.permute(0, 3, 1, 2)", tuple_of(extents));
    }
    if (op.reversed) std::swap(a, b);
  }
  set(format(fmt::runtime(kForms.at(static_cast<std::size_t>(op.kind))), a, b), as);
}

void TorchModuleWriter::write(const Dropout& op) {
  const Layout as = layout(0);
  set(format("F.dropout({}, {}, self.training)", input(0, as), text_of(op.rate)), as);
}

// ---- norms

void TorchModuleWriter::set_channels_second(const std::string& form) {
  if (rank(0) == 4) return set_image(format("{}({})", form, image(0)));
  if (rank(0) == 2) return set_ours(format("{}({})", form, ours(0)));
  set_ours(format("{}({}.movedim(-1, 1)).movedim(1, -1)", form, ours(0)));
}

void TorchModuleWriter::write(const BatchNorm& op) {
  set_channels_second(layer(format("nn.BatchNorm{}d({}, {}, {})", rank(0) == 4 ? 2 : 1, channels(0),
                                   text_of(op.eps), text_of(op.momentum))));
}

void TorchModuleWriter::write(const GroupNorm& op) {
  const std::string arguments =
      format("{}, {}, {}", op.groups == 0 ? channels(0) : op.groups, channels(0), text_of(op.eps));
  if (op.affine) return set_channels_second(layer(format("nn.GroupNorm({})", arguments)));
  set_channels_second(format("nn.GroupNorm({}, False)", arguments));
}

void TorchModuleWriter::write(const LayerNorm& op) {
  const std::string module =
      format("nn.LayerNorm({}, {}, {})", channels(0), text_of(op.eps), text_of(op.affine));
  set_ours(format("{}({})", op.affine ? layer(module) : module, ours(0)));
}

// ---- sizes

void TorchModuleWriter::write(const Upsample& op) {
  require(!op.piece[0] && !op.piece[1], "it is a piece of a map");
  set_image(format("F.interpolate({}, scale_factor=2, mode=\"bilinear\", align_corners={})",
                   image(0), text_of(op.align_corners)));
}

void TorchModuleWriter::write(const Resize& op) {
  use("resize");
  const auto name = [](const auto& value) {
    return std::string(names_of(value)[static_cast<std::size_t>(value)]);
  };
  std::string sizes = "None";
  if (node_->inputs.size() > 1)
    sizes = image(1) + ".shape[2:]";
  else if (op.sizes != std::array{0, 0})
    sizes = tuple_of(op.sizes);
  require(op.sizes == std::array{0, 0} || (op.sizes[0] > 0 && op.sizes[1] > 0),
          "it has a size along one axis and a scale along the other");
  set_image(format("resize({}, {}, {}, {}, ({}, {}), {}, {})", image(0), text_of(name(op.mode)),
                   text_of(name(op.coordinates)), text_of(name(op.nearest)), text_of(op.scale_h),
                   text_of(op.scale_w), sizes, text_of(op.stretch)));
}

void TorchModuleWriter::write(const CropConcat& op) {
  require(!op.piece[0] && !op.piece[1], "it is a piece of a map");
  const bool crops = op.align == CropConcat::Align::kCropSkip;
  use(crops ? "crop" : "surround");
  std::string skip = image(0), up = image(1);
  (crops ? skip : up) =
      crops ? format("crop({}, {})", skip, up) : format("surround({}, {})", up, skip);
  if (!op.skip_first) std::swap(skip, up);
  set_image(format("torch.cat([{}, {}], 1)", skip, up));
}

void TorchModuleWriter::write(const Concat& op) {
  const Layout as = common_layout();
  std::vector<std::string> maps;
  for (std::size_t i = 0; i < node_->inputs.size(); ++i) maps.push_back(input(i, as));
  set(format("torch.cat([{}], {})", fmt::join(maps, ", "), placed_axis(op.axis, rank(0), as)), as);
}

void TorchModuleWriter::write(const Pad& op) {
  constexpr std::array kNames{"constant", "reflect", "replicate"};
  const Layout as = layout(0);
  const int axes = rank(0);
  std::vector<int> pads(2 * static_cast<std::size_t>(axes), 0);  // PyTorch's: the last axis first
  for (int axis = 0; axis < axes; ++axis) {
    const auto from = static_cast<std::size_t>(axis);
    const auto to = 2 * static_cast<std::size_t>(axes - 1 - placed_axis(axis, axes, as));
    pads[to] = op.pads[from];
    pads[to + 1] = op.pads[from + static_cast<std::size_t>(axes)];
  }
  while (pads.size() > 2 && pads.back() == 0 && pads[pads.size() - 2] == 0)
    pads.resize(pads.size() - 2);
  const std::string mode = kNames.at(static_cast<std::size_t>(op.mode));
  if (op.mode == Pad::Mode::kConstant)
    return set(format("F.pad({}, {}, value={})", input(0, as), tuple_of(pads), text_of(op.value)),
               as);
  require(axes == 4 && as == Layout::kChannelsFirst && pads.size() <= 4,
          "PyTorch mirrors and repeats the edges of images alone");
  pads.resize(4, 0);
  set(format("F.pad({}, {}, \"{}\")", input(0, as), tuple_of(pads), mode), as);
}

void TorchModuleWriter::write(const Slice& op) {
  use("take");
  const Layout as = layout(0);
  std::string text = input(0, as);
  for (std::size_t i = 0; i < op.starts.size(); ++i) {
    const int axis = op.axes.empty() ? static_cast<int>(i) : op.axes[i];
    text = format("take({}, {}, {}, {}, {})", text, placed_axis(axis, rank(0), as), op.starts[i],
                  op.ends[i], op.steps.empty() ? 1 : op.steps[i]);
  }
  set(text, as);
}

void TorchModuleWriter::write(const Reshape& op) {
  std::vector<std::string> extents;
  const std::string& x = ours(0);
  for (std::size_t i = 0; i < op.shape.size(); ++i)
    extents.push_back(op.shape[i] == 0 ? format("{}.shape[{}]", x, i)
                                       : std::to_string(op.shape[i]));
  set_ours(format("{}.reshape(({},))", x, fmt::join(extents, ", ")));
}

void TorchModuleWriter::write(const Transpose& op) {
  set_ours(format("{}.permute({})", ours(0), fmt::join(order_of(op, type(0)), ", ")));
}

void TorchModuleWriter::write(const Reduce& op) {
  constexpr std::array kNames{"mean", "sum", "amax", "amin"};
  const Layout as = op.keepdims ? layout(0) : Layout::kOurs;
  std::vector<int> axes;
  for (const int axis : op.axes) axes.push_back(placed_axis(axis, rank(0), as));
  for (int axis = 0; op.axes.empty() && axis < rank(0); ++axis) axes.push_back(axis);
  set(format("{}.{}({}, {})", input(0, as), kNames.at(static_cast<std::size_t>(op.kind)),
             tuple_of(axes), text_of(op.keepdims)),
      as);
}

// ---- classes

std::string TorchModuleWriter::class_ids(const std::string& x, int axis,
                                         std::int64_t classes) const {
  if (classes > 1) return format("{}.argmax({}).to(torch.uint8)", x, axis);
  return format("({} > 0.5).to(torch.uint8).squeeze({})", x, axis);
}

void TorchModuleWriter::write(const Argmax&) {
  const Layout as = layout(0);
  set_ours(class_ids(input(0, as), placed_axis(-1, rank(0), as), channels(0)));
}

void TorchModuleWriter::write(const Softmax&) {
  const Layout as = layout(0);
  set(format("{}.softmax({})", input(0, as), placed_axis(-1, rank(0), as)), as);
}

void TorchModuleWriter::write(const Head& op) {
  std::string y = format(
      "{}({})",
      layer(format("nn.Conv2d({}, {}, 1, bias={})", channels(0), op.classes, text_of(op.bias))),
      image(0));
  if (op.relu) y = format("F.relu({})", y);
  y += op.output == Head::Output::kSoftmax ? ".softmax(1)" : ".sigmoid()";
  const std::string probabilities = line(node_->name + "_probabilities", y);
  set_ours(class_ids(probabilities, 1, op.classes));
  if (op.probabilities) set(probabilities, Layout::kChannelsFirst, 1);
}

// ---- documents

void TorchModuleWriter::write(const Embedding& op) {
  set_ours(format("{}({})", layer(format("nn.Embedding({}, {})", op.words, op.features)), ours(0)));
}

void TorchModuleWriter::write(const Linear& op) {
  set_ours(
      format("{}({})",
             layer(format("nn.Linear({}, {}, bias={})", channels(0), op.units, text_of(op.bias))),
             ours(0)));
}

void TorchModuleWriter::write(const BiRnn& op) {
  require(!op.embedding, "it is fused");
  const std::string cell = op.cell == BiRnn::Cell::kLstm ? "LSTM" : "GRU";
  const bool hard = op.gate == BiRnn::Gate::kHardSigmoid;
  const bool plain = !hard && !op.carried && (op.reset_after || op.cell == BiRnn::Cell::kLstm);
  use("within");
  use(plain ? "recurrent" : "Recurrent");
  if (plain) {
    const std::string module = layer(
        format("nn.{}({}, {}, batch_first=True, bidirectional=True)", cell, channels(0), op.units));
    return set_ours(format("recurrent({}, {}{})", module, ours(0), lengths(op.masked)));
  }
  const std::string module =
      layer(format("Recurrent(\"{}\", {}, {}, {}, {}, {})", cell, channels(0), op.units,
                   text_of(hard), text_of(op.reset_after), text_of(op.carried)));
  set_ours(format("{}({}{})", module, ours(0), lengths(op.masked)));
}

void TorchModuleWriter::write(const Attention& op) {
  require(!op.dense, "it is fused");
  use("within");
  use("Attention");
  const std::string module = layer(format("Attention({}, {}, {}, {})", op.units, channels(0),
                                          text_of(op.eps), text_of(op.tanh_score)));
  const std::string both =
      line(node_->name, format("{}({}{})", module, ours(0), lengths(op.masked)));
  layouts_.set(node_->outputs[0], both + "[0]", Layout::kOurs);
  layouts_.set(node_->outputs[1], both + "[1]", Layout::kOurs);
}

}  // namespace tessera
