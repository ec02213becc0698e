#include "tools/program/verify_layers.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <iostream>

#include "models/import/import.h"
#include "models/import/numpy_file.h"
#include "models/layer_check.h"
#include "tools/program/program.h"

namespace tessera {
namespace {

// Theirs and ours of the same name are said once.
std::string name_of(const CheckedLayer& layer) {
  return layer.name == layer.other ? layer.name : fmt::format("{} = {}", layer.name, layer.other);
}

void print(const LayerCheck& check) {
  std::size_t width = 0;
  for (const CheckedLayer& layer : check.layers) width = std::max(width, name_of(layer).size());
  for (const CheckedLayer& layer : check.layers) {
    std::cout << fmt::format(
        "{:<{}}  largest error {:9.3g}, mean {:9.3g}, of values up to {:9.4g}{}\n", name_of(layer),
        width, layer.difference.largest, layer.difference.mean, layer.difference.scale,
        layer.fits ? "" : "  diverges");
  }
  constexpr std::size_t kShown = 12;
  if (!check.without_partner.empty()) {
    const std::size_t shown = std::min(check.without_partner.size(), kShown);
    std::cout << fmt::format(
        "without a partner here: {}{}\n",
        fmt::join(check.without_partner.begin(),
                  check.without_partner.begin() + static_cast<std::ptrdiff_t>(shown), ", "),
        shown < check.without_partner.size()
            ? fmt::format(", and {} more", check.without_partner.size() - shown)
            : "");
  }
  if (check.agrees()) {
    std::cout << fmt::format("all {} layers agree\n", check.layers.size());
    return;
  }
  std::cout << fmt::format("first to diverge: {}\n", name_of(check.layers[check.first]));
  if (check.reasons.empty()) std::cout << "no usual reason makes it half as wrong\n";
  for (const Reason& reason : check.reasons)
    std::cout << fmt::format("  if {}: largest error {:.3g}{}\n", reason.what, reason.largest,
                             reason.explains ? ", which explains it" : "");
}

}  // namespace

std::string verdict(const Difference& difference, double tolerance) {
  return fmt::format("{}: {}", difference,
                     difference.is_within(tolerance)
                         ? "agrees"
                         : fmt::format("beyond {:.3g}", tolerance * difference.scale));
}

void print_note(std::string_view line) {
  fmt::print(stderr, "{}\n", line);
}

int verify_layers(const LayerOptions& options) {
  if (!options.activations.empty() && !options.against.empty())
    throw UsageError("--activations and --against exclude each other");
  const std::shared_ptr<Device> device = open_cpu_device(options.threads);
  ModelFile model = open_model(options.model, options.import, print_note);
  std::vector<NumpyArray> arrays;
  Activations expected;
  if (!options.activations.empty()) {
    expected = read_activations(options.activations);
    if (!options.inputs.empty()) expected.inputs.clear();
  }
  for (const std::string& path : options.inputs) {
    arrays.push_back(read_numpy(path));
    expected.inputs.push_back(arrays.back().tensor);
  }
  if (!options.against.empty()) {
    ModelFile other = open_model(options.against, {}, print_note);
    expected = activations_of(other, expected, device);
  }
  const LayerCheck check = check_layers(model, expected, options.tolerance, device);
  print(check);
  return check.agrees() ? kExitDone : kExitFailed;
}

int verify_example(const LayerOptions& options) {
  const Imported imported =
      is_package(options.model) ? import_model(options.model, options.import) : Imported();
  if (imported.example == nullptr)
    throw UsageError(
        "name what the answer should be: --input with --expect, --activations or --against; only "
        "packages bring their own test tensors along");
  const Difference difference = imported.run_example(open_cpu_device(options.threads));
  std::cout << fmt::format("{} -> {}\n{}\n", imported.example->input, imported.example->output,
                           verdict(difference, options.tolerance));
  return difference.is_within(options.tolerance) ? kExitDone : kExitFailed;
}

}  // namespace tessera
