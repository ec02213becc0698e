#include "models/segmenter.h"

#include <algorithm>
#include <map>

#include "engine/device/machine.h"

namespace tessera {

namespace {

// Memory left to the rest of the machine where the user sets no limit.
constexpr double kShareOfFreeMemory = 0.8;
constexpr std::size_t kMostUnasked = std::size_t{4} << 30;
// Tiles that compute more than so many times what the whole does are worth a word.
constexpr double kMostWork = 2;
constexpr std::int64_t kUntiled = std::int64_t{1} << 40;

std::int64_t largest_input(const Graph& graph, const std::vector<AxisPiece>& pieces) {
  std::int64_t largest = 0;
  for (const AxisPiece& piece : pieces) largest = std::max(largest, piece.input(graph).size());
  return largest;
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
                                                      std::int64_t tile) const {
  const Graph& graph = executor_.graph();
  const TensorType input = whole(height, width);
  const std::vector<TensorType> types = infer_types(graph, {&input, 1});
  const auto along = [&](int axis, std::int64_t pixels) -> std::vector<AxisPiece> {
    if (input.shape[axis] > tile) return cut(graph, axis, types, pixels, tile);
    const std::vector<std::int64_t> sizes = sizes_along(types, axis);
    return {window(graph, axis, sizes, {0, sizes[graph.outputs[0]]})};
  };
  Tiling tiling{along(1, height), along(2, width)};
  if (tiling.rows.empty() || tiling.columns.empty()) return std::nullopt;
  tiling.height = largest_input(graph, tiling.rows);
  tiling.width = largest_input(graph, tiling.columns);
  return tiling;
}

SegmentationPlan Segmenter::memory(std::int64_t height, std::int64_t width, const Tiling& tiling) {
  SegmentationPlan plan;
  plan.tiles = static_cast<std::int64_t>(tiling.rows.size() * tiling.columns.size());
  plan.tile_height = tiling.height;
  plan.tile_width = tiling.width;
  plan.work = work(height, width, tiling);
  const Graph& graph = executor_.graph();
  std::size_t tile_bytes = 0;
  for (const PieceShape& rows : shapes_of(tiling.rows)) {
    for (const PieceShape& columns : shapes_of(tiling.columns)) {
      const Graph piece = piece_of(graph, *rows.piece, *columns.piece);
      const std::vector<TensorType> input{
          sizes_.type(rows.piece->input(graph).size(), columns.piece->input(graph).size())};
      const std::vector<TensorType> types = infer_types(piece, input);
      std::size_t bytes = input[0].bytes();
      for (const ValueId value : graph.outputs) bytes += types[value].bytes();
      tile_bytes = std::max(tile_bytes, bytes);
      const Plan& one = executor_.plan(piece, input);
      if (one.peak < plan.arena) continue;
      plan.arena = one.peak;
      plan.memory_map = one.memory_map();
    }
  }
  plan.weights = executor_.packed_bytes();
  const auto pixels = static_cast<std::uint64_t>(height * width);
  const auto channels = static_cast<std::uint64_t>(image_channels(file_.config));
  // The session's copy of an 8-bit image, the image as floats, the tile, the mask, the caller's
  // own.
  plan.images = pixels * channels * (1 + sizeof(float)) + tile_bytes +
                pixels * (1 + options_.caller_bytes_per_pixel);
  if (options_.probabilities)
    plan.images += pixels * static_cast<std::uint64_t>(outputs_) * sizeof(float);
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

std::size_t Segmenter::limit() const {
  const auto share = [](std::size_t bytes) {
    return static_cast<std::size_t>(kShareOfFreeMemory * static_cast<double>(bytes));
  };
  const std::size_t fixed = on_gpu() ? executor_.packed_bytes() : held();
  std::size_t limit = options_.max_memory;
  if (limit == 0 && on_gpu())
    limit = share(executor_.device().available_bytes() + fixed + arena_bytes());
  if (limit == 0)
    limit = fixed + std::min(share(executor_.device().available_bytes()), kMostUnasked);
  const auto sharers = static_cast<std::size_t>(sharers_);
  return limit > fixed ? fixed + (limit - fixed) / sharers : limit;
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
  const double times = work(height, width, tiling);
  if (work_noted_ || !options_.on_note || times <= kMostWork) return;
  work_noted_ = true;
  // The smallest that do not, on the way down that the choice by memory takes.
  Tiling better = *cut_image(height, width, kUntiled);
  for (auto next = std::optional(better); next && work(height, width, *next) <= kMostWork;
       next = cut_image(height, width, next->largest_side() * 3 / 4)) {
    better = *next;
  }
  const std::uint64_t bytes = needed(memory(height, width, better));
  options_.on_note(fmt::format(
      "an image of {} x {} in tiles of up to {} x {} takes {:.1f} times the work of the whole: "
      "{:.0f} % is done twice. With {} it would be {:.1f} times, in {} of memory",
      height, width, tiling.height, tiling.width, times, 100 * (1 - 1 / times),
      options_.tile > 0 ? fmt::format("--tile {}", better.largest_side())
                        : fmt::format("--max-memory {}M", (bytes >> 20) + 1),
      work(height, width, better), format_bytes(bytes)));
}

Segmenter::Tiling Segmenter::choose_tiling(std::int64_t height, std::int64_t width) {
  require_readable_size(height, width, image_channels(file_.config), kMaxSamples);
  if (options_.tile > 0) {
    std::optional<Tiling> tiling = cut_image(height, width, options_.tile);
    if (tiling) {
      require_memory(height, width, *tiling);
      return *std::move(tiling);
    }
    const TensorType input = whole(height, width);
    const Graph& graph = executor_.graph();
    const std::vector<TensorType> types = infer_types(graph, {&input, 1});
    fail(
        "a tile of {} pixels is too small for what the network reads, {} x {} pixels for one; use "
        "{} or more (or leave the choice to --max-memory)",
        options_.tile, receptive_field(graph, 1, sizes_along(types, 1)),
        receptive_field(graph, 2, sizes_along(types, 2)),
        std::max(least_cut(graph, 1, types, height), least_cut(graph, 2, types, width)));
  }
  const std::size_t most = limit();
  std::uint64_t least = 0;
  for (auto tiling = cut_image(height, width, kUntiled); tiling;
       tiling = cut_image(height, width, tiling->largest_side() * 3 / 4)) {
    least = needed(memory(height, width, *tiling));
    if (least <= most) return *tiling;
  }
  fail(
      "an image of {} x {} pixels needs {} in the smallest tiles that run, the limit is {}; allow "
      "more with --max-memory",
      height, width, format_bytes(least), format_bytes(most));
}

SegmentationPlan Segmenter::plan(std::int64_t height, std::int64_t width) {
  return memory(height, width, choose_tiling(height, width));
}

Segmentation Segmenter::segment(const Image& image, const Session::Progress& progress,
                                std::vector<NodeTiming>* timings) {
  const std::int64_t height = image.height, width = image.width;
  const std::int64_t channels = image_channels(file_.config);
  const Tiling tiling = choose_tiling(height, width);
  note_work(height, width, tiling);
  std::vector<float> pixels(static_cast<std::size_t>(height * width * channels));
  normalise(image, file_.config.preprocessing, pixels);

  Segmentation result{
      .height = height, .width = width, .mask = {}, .probabilities = {}, .outputs = outputs_};
  result.mask.resize(static_cast<std::size_t>(height * width));
  if (options_.probabilities)
    result.probabilities.resize(result.mask.size() * static_cast<std::size_t>(outputs_));

  std::vector<float> input, probabilities;
  std::vector<std::uint8_t> mask;
  std::int64_t done = 0;
  const Graph& graph = executor_.graph();
  for (const AxisPiece& row : tiling.rows) {
    for (const AxisPiece& column : tiling.columns) {
      const Interval from_y = row.input(graph), from_x = column.input(graph);
      const Interval to_y = row.output(graph), to_x = column.output(graph);
      const TensorType in = sizes_.type(from_y.size(), from_x.size());
      const TensorType out{DType::kU8, {1, to_y.size(), to_x.size()}};
      input.resize(static_cast<std::size_t>(in.shape.elements()));
      mask.resize(static_cast<std::size_t>(out.shape.elements()));
      // The whole that the tiles are cut from begins a margin outside the image.
      mirror_pad(pixels, height, width, channels,
                 {from_y.begin - sizes_.margin(0), from_x.begin - sizes_.margin(1),
                  from_y.end - sizes_.margin(0), from_x.end - sizes_.margin(1)},
                 input);
      const std::vector<TensorView> inputs{{input.data(), in}};
      std::vector<TensorView> outputs{{mask.data(), out}};
      if (options_.probabilities) {
        const TensorType type{DType::kF32, {1, to_y.size(), to_x.size(), outputs_}};
        probabilities.resize(static_cast<std::size_t>(type.shape.elements()));
        outputs.push_back({probabilities.data(), type});
      }
      executor_.run(piece_of(graph, row, column), inputs, outputs, timings);

      const std::int64_t first_x = column.wanted.begin;
      const std::int64_t keep_x = std::min(column.wanted.end, width) - first_x;
      for (std::int64_t y = row.wanted.begin; y < std::min(row.wanted.end, height); ++y) {
        const std::int64_t from = (y - to_y.begin) * to_x.size() + first_x - to_x.begin;
        const std::int64_t to = y * width + first_x;
        std::copy_n(mask.data() + from, keep_x, result.mask.data() + to);
        if (options_.probabilities) {
          std::copy_n(probabilities.data() + from * outputs_, keep_x * outputs_,
                      result.probabilities.data() + to * outputs_);
        }
      }
      if (progress)
        progress(++done, static_cast<std::int64_t>(tiling.rows.size() * tiling.columns.size()));
    }
  }
  file_.weights.release_pages();
  return result;
}

}  // namespace tessera
