#include "models/segmenter.h"

#include <algorithm>
#include <array>
#include <map>
#include <span>

#include "engine/device/machine.h"

namespace tessera {

namespace {

// Memory left to the rest of the machine where the user sets no limit.
constexpr double kShareOfFreeMemory = 0.8;
constexpr std::size_t kMostUnasked = std::size_t{4} << 30;
// Maps of a whole image beyond this run in bands, which give the same bytes: the system takes
// longer to clear so much memory than the rows between bands cost (3000 x 3000 by the demo
// model: 3.9 s instead of 5.8).
constexpr std::uint64_t kLargestWhole = std::uint64_t{1} << 30;
// Tiles that compute more than so many times what the whole does are worth a word.
constexpr double kMostWork = 2;
constexpr std::int64_t kUntiled = std::int64_t{1} << 40;
// Rows of a band: fewer take less memory, and more time for each. With 1511 columns of the bundled
// UNet 128, 64, 32 and 16 take 0.80, 0.84, 0.98 and 1.05 times what the whole takes at once.
constexpr std::array<std::int64_t, 3> kBandRows{128, 64, 32};
constexpr std::array<std::int64_t, 1> kLowBandRows{16};
constexpr std::span<const std::int64_t> kBands(kBandRows), kLowBands(kLowBandRows);

// Images run as one on a GPU, where nobody says how many, up to so many pixels: those of a 2048 x
// 2048 image, whose deepest level alone has a tile for each multiprocessor.
constexpr std::int64_t kPixelsAtWork = std::int64_t{1} << 22, kMostUnaskedImages = 64;

// Whether images can be put behind one another along the first axis: every value made of the input
// has it, and nothing else in it changes.
bool runs_in_batches(const Graph& graph, TensorType input) {
  const std::vector<TensorType> one = infer_types(graph, {&input, 1});
  input.shape[0] = 2;
  std::vector<TensorType> two;
  try {
    two = infer_types(graph, {&input, 1});
  } catch (const Error&) {
    return false;
  }
  std::vector<bool> is_image(one.size());
  for (const ValueId value : graph.inputs) is_image[value] = true;
  for (const Node& node : graph.nodes) {
    if (std::ranges::none_of(node.inputs, [&](ValueId value) { return is_image[value]; })) continue;
    for (const ValueId value : node.outputs) {
      is_image[value] = true;
      Shape expected = one[value].shape;
      if (expected.rank() == 0 || expected[0] != 1) return false;
      expected[0] = 2;
      if (!(two[value].shape == expected)) return false;
    }
  }
  return true;
}

// Pieces whose maps have equal sizes take equal memory and work.
struct PieceShape {
  const AxisPiece* piece;  // one of them
  double count;
};
std::vector<PieceShape> shapes_of(const std::vector<AxisPiece>& pieces) {
  std::map<std::vector<std::int64_t>, PieceShape> shapes;
  for (const AxisPiece& piece : pieces) {
    std::vector<std::int64_t> sizes;
    for (const Interval& held : piece.values) sizes.push_back(held.size());
    ++shapes.try_emplace(std::move(sizes), PieceShape{&piece, 0}).first->second.count;
  }
  std::vector<PieceShape> found;
  for (const auto& [sizes, shape] : shapes) found.push_back(shape);
  return found;
}

}  // namespace

std::int64_t Segmenter::largest_input(const Graph& graph, const std::vector<AxisPiece>& pieces) {
  std::int64_t largest = 0;
  for (const AxisPiece& piece : pieces) largest = std::max(largest, piece.input(graph).size());
  return largest;
}

std::shared_ptr<const Compiled> Segmenter::compile(ModelFile& file, const SessionOptions& options,
                                                   std::shared_ptr<const Device> device) {
  const std::vector<TensorType> example{image_sizes(file.config).least()};
  const WeightSource weights = [&](const std::string& name, const Shape& shape) {
    return file.weights.take(name, shape);
  };
  const Graph network = build_network(file.config);
  const std::vector<TensorType> types = infer_types(network, example);
  // Outputs that segmenting does not need have weights too.
  for (const Node& node : network.nodes) {
    for (const Parameter& parameter : parameters_of(node, input_types(node, types)))
      weights(weight_name(node, parameter.name), parameter.shape);
  }
  Graph graph = device->optimise(segmentation_graph(file.config, options.probabilities), example,
                                 options.winograd);
  return std::make_shared<Compiled>(std::move(graph), weights, example, std::move(device));
}

Segmenter::Segmenter(const ModelFile& file, const SessionOptions& options,
                     std::shared_ptr<const Compiled> compiled, int sharers)
    : file_(file),
      options_(options),
      sharers_(sharers),
      sizes_(image_sizes(file.config)),
      executor_(std::move(compiled), options.threads) {
  if (options.probabilities)
    outputs_ = executor_.output_types(std::vector{sizes_.least()})[1].shape[-1];
}

TensorType Segmenter::whole(std::int64_t height, std::int64_t width) const {
  return sizes_.type(sizes_.input(0, height), sizes_.input(1, width));
}

std::optional<Segmenter::Tiling> Segmenter::cut_image(std::int64_t height, std::int64_t width,
                                                      std::int64_t tile_height,
                                                      std::int64_t tile_width) const {
  const Graph& graph = executor_.graph();
  const TensorType input = whole(height, width);
  const std::vector<TensorType> types = infer_types(graph, {&input, 1});
  const auto along = [&](int axis, std::int64_t pixels,
                         std::int64_t tile) -> std::vector<AxisPiece> {
    if (input.shape[axis] > tile) return cut(graph, axis, types, pixels, tile);
    const std::vector<std::int64_t> sizes = sizes_along(types, axis);
    return {window(graph, axis, sizes, {0, sizes[graph.outputs[0]]})};
  };
  Tiling tiling{along(1, height, tile_height), along(2, width, tile_width)};
  if (tiling.rows.empty() || tiling.columns.empty()) return std::nullopt;
  tiling.height = largest_input(graph, tiling.rows);
  tiling.width = largest_input(graph, tiling.columns);
  return tiling;
}

bool Segmenter::can_run_in_bands(std::int64_t height, std::int64_t width) const {
  if (on_gpu()) return false;
  const TensorType input = whole(height, width);
  return why_not_in_bands(executor_.graph(),
                          sizes_along(infer_types(executor_.graph(), {&input, 1}), 1))
      .empty();
}

BandedPlan Segmenter::bands_of(std::int64_t height, std::int64_t width, const Tiling& tiling,
                               const AxisPiece& columns) {
  const Graph& graph = executor_.graph();
  return executor_.plan_bands(
      piece_of(graph, columns),
      sizes_.type(whole(height, width).shape[1], columns.input(graph).size()),
      {tiling.rows[0].wanted.begin, std::min(tiling.rows[0].wanted.end, height)}, tiling.band);
}

SegmentationPlan Segmenter::memory(std::int64_t height, std::int64_t width, const Tiling& tiling,
                                   const HeldImage& image) {
  SegmentationPlan plan;
  plan.tiles = static_cast<std::int64_t>(tiling.rows.size() * tiling.columns.size());
  plan.tile_height = tiling.height;
  plan.tile_width = tiling.width;
  const Graph& graph = executor_.graph();
  const auto take_larger = [&](const Plan& one) {
    if (one.peak < plan.arena) return;
    plan.arena = one.peak;
    plan.memory_map = one.memory_map();
  };
  std::size_t tile_bytes = 0;
  double flops = 0;  // of all bands
  for (const PieceShape& columns : shapes_of(tiling.columns)) {
    if (tiling.band > 0) {
      const BandedPlan banded = bands_of(height, width, tiling, *columns.piece);
      plan.tiles = banded.layout.bands * static_cast<std::int64_t>(tiling.columns.size());
      flops += columns.count * banded.flops;
      take_larger(banded.plan);
      continue;
    }
    for (const PieceShape& rows : shapes_of(tiling.rows)) {
      const Graph piece = piece_of(graph, *rows.piece, *columns.piece);
      std::vector<TensorType> input{
          sizes_.type(rows.piece->input(graph).size(), columns.piece->input(graph).size())};
      input[0].shape[0] = tiling.batch;
      const std::vector<TensorType> types = infer_types(piece, input);
      std::size_t bytes = input[0].bytes();
      for (const ValueId value : graph.outputs) bytes += types[value].bytes();
      tile_bytes = std::max(tile_bytes, bytes);
      take_larger(executor_.plan(piece, input));
    }
  }
  plan.bands = tiling.band > 0;
  if (plan.bands) {
    const TensorType input = whole(height, width);
    plan.tile_height = tiling.band;
    plan.work = flops / flops_of(graph, {&input, 1});
  } else {
    plan.work = work(height, width, tiling);
  }
  plan.weights = executor_.packed_bytes();
  // The session's copy of an image, the mask, the caller's own; the tile.
  std::uint64_t each = image.pixels + image.kept * (1 + image.caller);
  if (options_.probabilities)
    each += image.kept * static_cast<std::uint64_t>(outputs_) * sizeof(float);
  plan.images = each * static_cast<std::uint64_t>(tiling.batch) + tile_bytes;
  file_.weights.release_pages();  // they are packed now
  plan.peak = held() + plan.images;
  if (on_gpu()) {
    plan.device = plan.weights + plan.arena;
  } else {
    plan.peak += plan.arena;
  }
  return plan;
}

double Segmenter::work(std::int64_t height, std::int64_t width, const Tiling& tiling) const {
  const Graph& graph = executor_.graph();
  const auto flops = [&](const Graph& one, const TensorType& input) {
    return flops_of(one, {&input, 1});
  };
  double sum = 0;
  for (const PieceShape& rows : shapes_of(tiling.rows)) {
    for (const PieceShape& columns : shapes_of(tiling.columns))
      sum +=
          rows.count * columns.count *
          flops(piece_of(graph, *rows.piece, *columns.piece),
                sizes_.type(rows.piece->input(graph).size(), columns.piece->input(graph).size()));
  }
  return sum / flops(graph, whole(height, width));
}

std::size_t Segmenter::arena_bytes() const {
  return sharers_ > 1 ? executor_.compiled().arena_bytes() : executor_.arena_bytes();
}

std::size_t Segmenter::held() const {
  const std::size_t resident = resident_bytes();
  return on_gpu() ? resident : resident - std::min(resident, arena_bytes());
}

std::size_t Segmenter::limit(std::size_t most, int sharers) const {
  const auto share = [](std::size_t bytes) {
    return static_cast<std::size_t>(kShareOfFreeMemory * static_cast<double>(bytes));
  };
  const std::size_t fixed = on_gpu() ? executor_.packed_bytes() : held();
  std::size_t limit = most;
  if (limit == 0 && on_gpu())
    limit = share(executor_.device().available_bytes() + fixed + arena_bytes());
  if (limit == 0)
    limit = fixed + std::min(share(executor_.device().available_bytes()), kMostUnasked);
  return limit > fixed ? fixed + (limit - fixed) / static_cast<std::size_t>(sharers) : limit;
}

std::size_t Segmenter::available() const {
  if (options_.max_memory > 0) return options_.max_memory;
  const std::size_t free = executor_.device().available_bytes() + arena_bytes();
  return free + (on_gpu() ? executor_.packed_bytes() : held());
}

void Segmenter::require_memory(std::int64_t height, std::int64_t width, const Tiling& tiling) {
  const std::size_t most = available();
  const std::uint64_t wanted = needed(memory(height, width, tiling));
  if (wanted <= most) return;
  std::optional<Tiling> other = tiling;
  do {
    other = cut_image(height, width, other->largest_side() * 3 / 4);
  } while (other && needed(memory(height, width, *other)) > most);
  fail("tiles of {} x {} pixels need {}, {} is {}; {}", tiling.height, tiling.width,
       format_bytes(wanted), options_.max_memory > 0 ? "--max-memory" : "what is free",
       format_bytes(most),
       other ? fmt::format("use --tile {} or less, or leave the choice to --max-memory",
                           other->largest_side())
             : "no smaller ones fit; split the image, or use a machine with more");
}

void Segmenter::note_work(std::int64_t height, std::int64_t width, const Tiling& tiling) {
  if (work_noted_ || !options_.on_note) return;
  const std::string text = advice(height, width, tiling);
  if (text.empty()) return;
  work_noted_ = true;
  options_.on_note(text);
}

std::string Segmenter::advice(std::int64_t height, std::int64_t width, const Tiling& tiling) {
  const double times = work(height, width, tiling);
  if (times <= kMostWork) return "";
  // The smallest that do not, on the way down that the choice by memory takes.
  Tiling better = *cut_image(height, width, kUntiled);
  better.band = tiling.band;
  for (auto next = std::optional(better);
       next && better.band == 0 && work(height, width, *next) <= kMostWork;
       next = cut_image(height, width, next->largest_side() * 3 / 4)) {
    better = *next;
  }
  const std::uint64_t bytes = needed(memory(height, width, better));
  std::string without;
  std::uint64_t least = 0;
  if (options_.tile > 0 && can_run_in_bands(height, width)) {
    if (const auto chosen = choose_by_memory(height, width, least)) {
      const SegmentationPlan plan = memory(height, width, *chosen);
      without = fmt::format("; without --tile {:.1f} times, in {}", plan.work,
                            format_bytes(needed(plan)));
    }
  }
  return fmt::format(
      "an image of {} x {} in tiles of up to {} x {} takes {:.1f} times the work of the whole: "
      "{:.0f} % is done twice. With {} it would be {:.1f} times, in {} of memory{}",
      height, width, tiling.height, tiling.width, times, 100 * (1 - 1 / times),
      options_.tile > 0 ? fmt::format("--tile {}", better.largest_side())
                        : fmt::format("--max-memory {}M", (bytes >> 20) + 1),
      work(height, width, better), format_bytes(bytes), without);
}

Segmenter::Tiling Segmenter::tiles_of(std::int64_t height, std::int64_t width,
                                      std::int64_t tile) const {
  if (std::optional<Tiling> tiling = cut_image(height, width, tile)) return *std::move(tiling);
  const TensorType input = whole(height, width);
  const Graph& graph = executor_.graph();
  const std::vector<TensorType> types = infer_types(graph, {&input, 1});
  fail(
      "a tile of {} pixels is too small for what the network reads, {} x {} pixels for one; use "
      "{} or more (or leave the choice to --max-memory)",
      tile, receptive_field(graph, 1, sizes_along(types, 1)),
      receptive_field(graph, 2, sizes_along(types, 2)),
      std::max(least_cut(graph, 1, types, height), least_cut(graph, 2, types, width)));
}

Segmenter::Tiling Segmenter::choose_tiling(std::int64_t height, std::int64_t width) {
  require_readable_size(height, width, image_channels(file_.config), kMaxSamples);
  if (options_.tile > 0) {
    Tiling tiling = tiles_of(height, width, options_.tile);
    require_memory(height, width, tiling);
    return tiling;
  }
  std::uint64_t least = 0;
  if (std::optional<Tiling> tiling = choose_by_memory(height, width, least))
    return *std::move(tiling);
  fail(
      "an image of {} x {} pixels needs {} in the smallest tiles that run, the limit is {}; allow "
      "more with --max-memory",
      height, width, format_bytes(least), format_bytes(limit()));
}

std::optional<Segmenter::Tiling> Segmenter::choose_by_memory(std::int64_t height,
                                                             std::int64_t width,
                                                             std::uint64_t& least) {
  const std::size_t most = limit();
  const auto fits = [&](const Tiling& tiling) {
    least = needed(memory(height, width, tiling));
    return least <= most;
  };
  std::optional<Tiling> tiling = cut_image(height, width, kUntiled);
  const bool in_bands = can_run_in_bands(height, width);
  const bool is_small = !in_bands || memory(height, width, *tiling).arena <= kLargestWhole;
  if (fits(*tiling) && is_small) return tiling;
  if (!in_bands) {
    while ((tiling = cut_image(height, width, tiling->largest_side() * 3 / 4)) && !fits(*tiling)) {
    }
    return tiling;
  }
  // Columns are cut before bands become so low that the rows between them take most of the time.
  for (const std::span<const std::int64_t> bands : {kBands, kLowBands}) {
    for (tiling = cut_image(height, width, kUntiled); tiling;
         tiling = cut_image(height, width, kUntiled, tiling->width * 3 / 4)) {
      for (const std::int64_t band : bands) {
        tiling->band = band;
        if (fits(*tiling)) return tiling;
      }
    }
  }
  return std::nullopt;
}

SegmentationPlan Segmenter::plan(std::int64_t height, std::int64_t width) {
  const Tiling tiling = choose_tiling(height, width);
  SegmentationPlan plan = memory(height, width, tiling);
  plan.advice = advice(height, width, tiling);
  plan.batch = batch_of(height, width, tiling);
  return plan;
}

std::int64_t Segmenter::batch(std::int64_t height, std::int64_t width) {
  return batch_of(height, width, choose_tiling(height, width));
}

std::int64_t Segmenter::batch_of(std::int64_t height, std::int64_t width, Tiling tiling) {
  tiling.batch = options_.batch;
  if (tiling.batch == 0)
    tiling.batch =
        on_gpu() ? std::clamp<std::int64_t>(kPixelsAtWork / (height * width), 1, kMostUnaskedImages)
                 : 1;
  if (tiling.batch == 1 || tiling.band > 0 || !runs_in_batches(executor_.graph(), sizes_.least()))
    return 1;
  const std::size_t most = limit();
  while (tiling.batch > 1 && needed(memory(height, width, tiling)) > most) tiling.batch /= 2;
  return tiling.batch;
}

}  // namespace tessera
