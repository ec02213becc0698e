#include "models/import/bioimage_description.h"

#include <algorithm>
#include <array>
#include <utility>

#include "engine/files/safetensors.h"
#include "kernels/error.h"
#include "models/import/yaml_text.h"

namespace tessera {
namespace {

using nlohmann::json;

constexpr std::int64_t kMostPixels = 1 << 20;

const json* yaml_member(const json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() && !found->is_null() ? &*found : nullptr;
}

const json& yaml_needed(const json& object, const char* key, const std::string& where) {
  const json* const found = yaml_member(object, key);
  require(found != nullptr, "{}: \"{}\" is missing", where, key);
  return *found;
}

// A text, or a number that was meant as one (format_version: 0.4).
std::string yaml_text(const json& value, const std::string& where) {
  require(value.is_string() || value.is_number(), "{} is {}, expected a text", where,
          value.type_name());
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::string yaml_text_at(const json& object, const char* key, const std::string& otherwise = "") {
  const json* const found = yaml_member(object, key);
  return found != nullptr && found->is_string() ? found->get<std::string>() : otherwise;
}

std::int64_t extent_of(const json& value, const std::string& where, std::int64_t least) {
  const bool fits = value.is_number_integer() && value >= least && value <= kMostPixels;
  require(fits, "{} is {}, expected a whole number from {} to {}", where, value.dump(), least,
          kMostPixels);
  return value.get<std::int64_t>();
}

std::string digest_at(const json& object, const std::string& where) {
  const json* const given = yaml_member(object, "sha256");
  require(given == nullptr || given->is_null() || given->is_string(),
          "{}: sha256 is {}, which YAML takes for a number; write it in quotes", where,
          given == nullptr ? "" : given->dump());
  const std::string digest = yaml_text_at(object, "sha256");
  const bool fits =
      digest.empty() ||
      (digest.size() == 64 && digest.find_first_not_of("0123456789abcdef") == std::string::npos);
  require(fits, "{}: sha256 is '{}', expected 64 digits of 0-9 and a-f", where, digest);
  return digest;
}

BioimageFile file_of(const json& value, const std::string& where) {
  if (value.is_string()) return {value.get<std::string>(), ""};
  return {yaml_text(yaml_needed(value, "source", where), where + ".source"),
          digest_at(value, where)};
}

std::vector<BioimageStep> steps_of(const json* list, const char* name, const std::string& where) {
  std::vector<BioimageStep> steps;
  if (list == nullptr) return steps;
  constexpr std::size_t kMostListed = 32;
  require(list->is_array() && list->size() <= kMostListed,
          "{} is {} of {}, expected a list of at most {} steps", where, list->type_name(),
          list->size(), kMostListed);
  for (const json& one : *list) {
    const json* const arguments = yaml_member(one, "kwargs");
    require(arguments == nullptr || arguments->is_object(), "{}: kwargs is {}, expected a map",
            where, arguments == nullptr ? "" : arguments->type_name());
    steps.push_back({yaml_text(yaml_needed(one, name, where), where + "." + name),
                     arguments == nullptr ? json::object() : *arguments});
  }
  return steps;
}

// ---- 0.4

void read_shape(const json& shape, BioimageTensor& tensor, const std::string& where) {
  if (yaml_member(shape, "reference_tensor") != nullptr) return;
  const bool open = shape.is_object();
  const json& least = open ? yaml_needed(shape, "min", where) : shape;
  const json* const step = open ? &yaml_needed(shape, "step", where) : nullptr;
  for (const json* list : {&least, step == nullptr ? &least : step})
    require(list->is_array() && list->size() == tensor.axes.size(),
            "{}.shape has {} numbers, expected one for each of the axes \"{}\"", where,
            list->size(), tensor.axes);
  for (std::size_t i = 0; i < tensor.axes.size(); ++i) {
    const std::string at = fmt::format("{}.shape[{}]", where, i);
    const BioimageExtent extent{extent_of(least[i], at, 1),
                                step == nullptr ? 0 : extent_of((*step)[i], at, 0)};
    if (tensor.axes[i] == 'y') tensor.y = extent;
    if (tensor.axes[i] == 'x') tensor.x = extent;
  }
}

BioimageTensor read_tensor_4(const json& object, const char* steps, const std::string& where) {
  BioimageTensor tensor;
  tensor.name = yaml_text(yaml_needed(object, "name", where), where + ".name");
  tensor.axes = yaml_text(yaml_needed(object, "axes", where), where + ".axes");
  read_shape(yaml_needed(object, "shape", where), tensor, where);
  tensor.steps = steps_of(yaml_member(object, steps), "name", where + "." + steps);
  return tensor;
}

// ---- 0.5

void read_axis(const json& axis, BioimageTensor& tensor, const std::string& where) {
  constexpr std::array<std::pair<std::string_view, char>, 4> kTypes{
      {{"batch", 'b'}, {"channel", 'c'}, {"time", 't'}, {"index", 'i'}}};
  const std::string type = yaml_text(yaml_needed(axis, "type", where), where + ".type");
  char letter = 0;
  std::string id = type;
  for (const auto& [known, of] : kTypes)
    if (type == known) letter = of;
  if (type == "space") {
    id = yaml_text_at(axis, "id", "x");
    if (id == "x" || id == "y" || id == "z") letter = id[0];
  }
  require(letter != 0,
          "{}: an axis of the type '{}' and the id '{}', expected batch, channel, time, "
          "index, or space with x, y or z",
          where, type, id);
  tensor.axes += letter;
  tensor.ids[yaml_text_at(axis, "id", id)] = std::string(1, letter);
  if (letter == 'c') {
    if (const json* names = yaml_member(axis, "channel_names");
        names != nullptr && names->is_array()) {
      for (const json& name : *names) tensor.channels.push_back(yaml_text(name, where));
    }
  }
  const json* const size = yaml_member(axis, "size");
  if ((letter != 'y' && letter != 'x') || size == nullptr) return;
  std::optional<BioimageExtent>& extent = letter == 'y' ? tensor.y : tensor.x;
  if (size->is_number()) extent = BioimageExtent{extent_of(*size, where + ".size", 1), 0};
  if (yaml_member(*size, "min") != nullptr && yaml_member(*size, "step") != nullptr)
    extent = BioimageExtent{extent_of((*size)["min"], where + ".size.min", 1),
                            extent_of((*size)["step"], where + ".size.step", 1)};
}

BioimageTensor read_tensor_5(const json& object, const char* steps, const std::string& where) {
  BioimageTensor tensor;
  tensor.name = yaml_text(yaml_needed(object, "id", where), where + ".id");
  tensor.ids = json::object();
  const json& axes = yaml_needed(object, "axes", where);
  constexpr std::size_t kMostAxes = 6;
  require(axes.is_array() && axes.size() <= kMostAxes, "{}.axes is {}, expected a list of up to {}",
          where, axes.type_name(), kMostAxes);
  for (std::size_t i = 0; i < axes.size(); ++i)
    read_axis(axes[i], tensor, fmt::format("{}.axes[{}]", where, i));
  tensor.steps = steps_of(yaml_member(object, steps), "id", where + "." + steps);
  if (const json* example = yaml_member(object, "test_tensor"))
    tensor.example = file_of(*example, where + ".test_tensor");
  return tensor;
}

// ---- both

void check_axes(const BioimageTensor& tensor, const std::string& where) {
  std::string sorted = tensor.axes;
  std::ranges::sort(sorted);
  const bool twice = std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end();
  const bool known = sorted.find_first_not_of("bcitxyz") == std::string::npos;
  require(!twice && known && sorted.find('y') != sorted.npos && sorted.find('x') != sorted.npos,
          "{}.axes are \"{}\", expected y and x, and besides b, c, z, t or i, each once", where,
          tensor.axes);
}

const json& only_one(const json& root, const char* key, const std::string& file) {
  const json& list = yaml_needed(root, key, file);
  require(list.is_array() && list.size() == 1,
          "{}: {} has {} tensors, and models of one image and one answer are read; `tessera run` "
          "computes its weights by themselves",
          file, key, list.is_array() ? list.size() : 0);
  return list[0];
}

BioimageWeights weights_of(const std::string& kind, const json& entry, const std::string& where) {
  BioimageWeights weights{kind, file_of(entry, where)};
  const json* arguments = yaml_member(entry, "kwargs");
  if (const json* architecture = yaml_member(entry, "architecture");
      architecture != nullptr && architecture->is_object())
    arguments = yaml_member(*architecture, "kwargs");
  if (arguments != nullptr && arguments->is_object()) weights.arguments = *arguments;
  return weights;
}

}  // namespace

std::string BioimageTensor::axes_of(const BioimageStep& step) const {
  const json* const given = yaml_member(step.arguments, "axes");
  if (given == nullptr) return "";
  std::string letters;
  if (given->is_string()) {
    letters = given->get<std::string>();
  } else {
    require(given->is_array(), "{}: axes are {}, expected a list", step.name, given->type_name());
    for (const json& one : *given) {
      const std::string id = yaml_text(one, step.name + ".axes");
      // Early packages of 0.5 have letters here as well.
      const std::string letter = ids.is_object() ? ids.value(id, id) : id;
      letters += letter;
    }
  }
  for (const char letter : letters)
    require(axes.find(letter) != axes.npos, "{}: its axes are \"{}\", but the tensor {} has \"{}\"",
            step.name, letters, in_quotes(name), axes);
  return letters;
}

BioimageDescription read_bioimage(std::string_view yaml, const std::string& file) {
  try {
    const json root = parse_yaml(yaml);
    BioimageDescription result;
    result.version =
        yaml_text(yaml_needed(root, "format_version", "the description"), "format_version");
    const bool is_4 = result.version.starts_with("0.4"), is_5 = result.version.starts_with("0.5");
    require(is_4 || is_5,
            "its format_version is {}, expected 0.4 or 0.5; bioimageio.core writes older ones anew",
            in_quotes(result.version));
    const std::string type = yaml_text_at(root, "type", "model");
    require(type == "model", "it describes {}, expected a model", in_quotes(type));
    result.name = yaml_text_at(root, "name");
    const json& input = only_one(root, "inputs", "the description");
    const json& output = only_one(root, "outputs", "the description");
    const auto read = is_4 ? read_tensor_4 : read_tensor_5;
    result.input = read(input, "preprocessing", "inputs[0]");
    result.output = read(output, "postprocessing", "outputs[0]");
    require(result.input.name != result.output.name,
            "the input and the output are both called {}; expected names of their own",
            in_quotes(result.input.name));
    for (const auto& [tensor, list] :
         {std::pair{&result.input, "test_inputs"}, {&result.output, "test_outputs"}}) {
      check_axes(*tensor, tensor == &result.input ? "inputs[0]" : "outputs[0]");
      const json* const files = is_4 ? yaml_member(root, list) : nullptr;
      if (files != nullptr && files->is_array() && files->size() == 1)
        tensor->example = file_of((*files)[0], list);
    }
    const json& weights = yaml_needed(root, "weights", "the description");
    require(weights.is_object(), "weights is {}, expected a map", weights.type_name());
    for (const auto& [kind, entry] : weights.items())
      if (entry.is_object()) result.weights.push_back(weights_of(kind, entry, "weights." + kind));
    return result;
  } catch (const Error& error) {
    fail("{}: {}", file, error.what());
  }
}

}  // namespace tessera
