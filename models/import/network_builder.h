// Builds the network of a foreign image model from its tensors: a node for each layer, named as the
// file names it, with sizes from the tensors' shapes.
//
//   NetworkBuilder net(contents, options);
//   ValueId x = net.image_of("conv1");                        // channels of its weight
//   x = net.relu("relu", net.batch_norm("bn1", net.conv("conv1", x)));
//   return net.finish({.logits = net.conv("head", x)});
//
// Tensors of the file stay where they lie, under their own names. Layers stay apart, as a graph
// file has them (engine/graph/graph_file.h); passes join them later.
#pragma once

#include <array>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "models/import/import.h"

namespace tessera {

// The tensors are not those of the network that is being built.
class OtherNetwork : public Error {
 public:
  using Error::Error;
};

// What the shapes of a convolution do not say.
struct ConvLayout {
  std::array<int, 2> stride{1, 1};
  std::optional<int> pad{};  // on each side; none: half of an odd kernel, which keeps the size
  std::array<int, 2> dilation{1, 1};
  int groups = 1;
};

// Likewise of a transposed one. The output padding is PyTorch's.
struct ConvTransposeLayout {
  std::optional<std::array<int, 2>> stride{};  // none: the kernel, so that no windows overlap
  int pad = 0;
  int output_padding = 0;
  int groups = 1;
};

// The end of a network, and the beginning of its input.
struct NetworkEnd {
  ValueId logits = 0;
  // What follows them: "sigmoid" or "softmax", of the file or of the family's own code; empty:
  // guessed from the number of channels.
  std::string output{};
  bool is_activated = false;  // `output` is part of the network, as its author calls it
  // How pixels go in: "none", "unit" (/ 255), "bytes" (0 to 255), "symmetric" (-1 to 1),
  // "imagenet", "standardize" or "min_max" (models/image/image.h), and who says so; empty: nobody,
  // which makes it a guess.
  std::string input = "unit";
  std::string input_said_by{};
  std::int64_t multiple = 1;  // sizes beyond what the operators refuse
  std::vector<ModelClass> classes{};
};

class NetworkBuilder {
 public:
  // `contents` and `options` must outlive it.
  NetworkBuilder(const Contents& contents, const ImportOptions& options);

  // ---- tensors of the file

  bool has(const std::string& name) const { return by_name_.contains(name); }
  // Throws OtherNetwork where it is missing or has another rank, Error where it is the weight of a
  // 3-D convolution.
  const StoredTensor& tensor(const std::string& name, std::size_t rank) const;
  std::size_t rank(const std::string& name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? 0 : found->second->shape.size();
  }
  // An extent of a tensor, within 1 .. 2^20.
  int extent(const std::string& name, std::size_t axis, std::size_t rank = 4) const;
  // How many of pattern(0), pattern(1), ... there are, or of those from `first` on.
  int count(fmt::string_view pattern, int first = 0) const;
  // A tensor that the network has and its answer does not need: heads of training, aliases.
  void ignore(const std::string& name) {
    if (has(name)) used_.insert(by_name_.at(name)->name);
  }

  // ---- what whole modules say besides their tensors

  // The class of a module, without its package: "GroupNorm". Empty where the file has none.
  std::string class_of(const std::string& module) const;
  // A number among its attributes; `otherwise` where there is none.
  double attribute(const std::string& module, const char* key, double otherwise) const;
  // The activation that the module is; `otherwise` where the file does not say. Throws
  // OtherNetwork where it is one that Tessera does not know.
  Activation activation_of(const std::string& module, const Activation& otherwise) const;

  // ---- layers. `name` is the file's for the layer, "down1.0"; its tensors are "down1.0.weight"...

  ValueId image(int channels);
  // The image that the convolution `name` reads.
  ValueId image_of(const std::string& name) { return image(extent(name + ".weight", 1)); }
  // A node without weights, or whose weights `give` names. A name that exists gets a number.
  ValueId add(const std::string& name, Op op, std::vector<ValueId> from);
  // A parameter of the node that was added last: in place, or converted.
  void give(const std::string& parameter, const StoredTensor& tensor);
  void give(const std::string& parameter, FloatTensor tensor);

  // weight (c_out, c_in / groups, kh, kw), and bias (c_out) if the file has one.
  ValueId conv(const std::string& name, ValueId x, const ConvLayout& layout = {});
  // weight (c_in, c_out / groups, kh, kw), bias (c_out) if there.
  ValueId conv_transpose(const std::string& name, ValueId x,
                         const ConvTransposeLayout& layout = {});
  // running_mean, running_var, and weight and bias if there. A module's own eps goes before.
  ValueId batch_norm(const std::string& name, ValueId x, double eps = 1e-5);
  // weight and bias if there. `groups` 0: of each channel (instance normalisation). A module's own
  // eps and num_groups go before.
  ValueId group_norm(const std::string& name, ValueId x, int groups = 0, double eps = 1e-5);
  ValueId prelu(const std::string& name, ValueId x);
  ValueId relu(const std::string& name, ValueId x) { return add(name, Activation{}, {x}); }
  ValueId max_pool(const std::string& name, ValueId x) { return add(name, MaxPool{}, {x}); }
  // Twice as many rows and columns, each pixel repeated.
  ValueId nearest2(const std::string& name, ValueId x);
  // Convolution, batch norm if the file has one, ReLU.
  ValueId conv_relu(const std::string& name, const std::string& norm, ValueId x,
                    const ConvLayout& layout = {});

  // ---- what the file does not say

  // The user's choice for `name`, else `value`; recorded as a guess. Throws Error where the user's
  // is none of `values`; without values any text will do.
  std::string choose(const std::string& name, const std::string& value,
                     const std::vector<std::string>& values, const std::string& why);
  // Likewise a whole number of at least 1.
  int choose(const std::string& name, int value, const std::string& why);
  void note(std::string text) { imported_.notes.push_back(std::move(text)); }

  // ---- the end

  // Throws OtherNetwork where the file has a tensor that no layer took, but counters of
  // batches.
  void require_all_used() const;
  // Everything but the family. Throws OtherNetwork where a tensor has a shape that does not fit,
  // Error where the network is none that segments images, and for choices that nothing asked for.
  Imported finish(const NetworkEnd& end);

  // ---- a network of ours that is no graph of layers (han_builder.h)

  // A tensor of the model file, by its name there. Throws OtherNetwork unless it has this shape,
  // extents of 1 left out or added.
  void give_as(const std::string& name, const StoredTensor& tensor, const Shape& shape);
  void give_as(const std::string& name, FloatTensor tensor) {
    imported_.add(name, std::move(tensor));
  }
  Imported finish(ModelConfig config, std::optional<Vocabulary> vocabulary);

 private:
  void check_weights(const ModelConfig& config) const;
  Preprocessing preprocessing(const NetworkEnd& end, int channels);
  void activate(const std::string& output);
  void check_choices() const;

  const Contents& contents_;
  const ImportOptions& options_;
  std::map<std::string, const StoredTensor*> aliases_;  // more names of the tensors
  std::unordered_map<std::string_view, const StoredTensor*> by_name_;
  std::set<std::string> used_, names_, asked_;
  NetworkGraph network_;
  Imported imported_;
};

// A family's `match`: the network that `build` makes, if all tensors of the file are in it.
// Nothing, with the reason in `why`, where it throws OtherNetwork.
template <class Build>
std::optional<Imported> match_network(const Contents& contents, const ImportOptions& options,
                                      std::string& why, const Build& build) {
  try {
    NetworkBuilder net(contents, options);
    const NetworkEnd end = build(net);
    net.require_all_used();
    return net.finish(end);
  } catch (const OtherNetwork& error) {
    why = error.what();
    return std::nullopt;
  }
}

}  // namespace tessera
