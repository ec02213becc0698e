#include "models/segmenter.h"

#include <algorithm>

#include "engine/device/machine.h"

namespace tessera {

namespace {

// Memory left to the rest of the machine where the user sets no limit.
constexpr double kShareOfFreeMemory = 0.8;
constexpr std::size_t kMostUnasked = std::size_t{4} << 30;
// Tiles that compute more than so many times the pixels of the whole are worth a word.
constexpr double kMostWork = 2;
constexpr std::int64_t kUntiled = std::int64_t{1} << 40;

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

namespace {

std::int64_t largest(const std::vector<AxisTile>& tiles) {
  return std::ranges::max(tiles, {}, &AxisTile::input_size).input_size;
}

}  // namespace

std::int64_t Segmenter::Tiling::largest_height() const {
  return largest(rows);
}
std::int64_t Segmenter::Tiling::largest_width() const {
  return largest(columns);
}

std::int64_t Segmenter::Tiling::input_pixels() const {
  const auto sum = [](const std::vector<AxisTile>& tiles) {
    std::int64_t pixels = 0;
    for (const AxisTile& tile : tiles) pixels += tile.input_size;
    return pixels;
  };
  return sum(rows) * sum(columns);
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

std::optional<Segmenter::Tiling> Segmenter::cut(std::int64_t height, std::int64_t width,
                                                std::int64_t tile) const {
  const auto along = [&](int axis, std::int64_t pixels) -> std::optional<std::vector<AxisTile>> {
    const std::int64_t whole = sizes_.input(axis, pixels);
    if (whole <= tile) {
      const std::int64_t output = *sizes_.output(axis, whole);
      return std::vector<AxisTile>{{0, whole, 0, output, 0, output}};
    }
    return tile_axis(executor_.graph(), whole, tile,
                     [&](std::int64_t size) { return sizes_.output(axis, size).has_value(); });
  };
  auto rows = along(0, height);
  auto columns = along(1, width);
  if (!rows || !columns) return std::nullopt;
  return Tiling{std::move(*rows), std::move(*columns)};
}

SegmentationPlan Segmenter::memory(std::int64_t height, std::int64_t width, const Tiling& tiling) {
  SegmentationPlan plan;
  plan.tiles = static_cast<std::int64_t>(tiling.rows.size() * tiling.columns.size());
  plan.tile_height = tiling.largest_height();
  plan.tile_width = tiling.largest_width();
  plan.work = work(height, width, tiling);
  const std::vector<TensorType> input{sizes_.type(plan.tile_height, plan.tile_width)};
  plan.arena = executor_.plan(input).peak;
  plan.weights = executor_.packed_bytes();
  const auto pixels = static_cast<std::uint64_t>(height * width);
  const auto channels = static_cast<std::uint64_t>(image_channels(file_.config));
  // The session's copy of an 8-bit image, the image as floats, the tile, the mask, the caller's
  // own.
  plan.images = pixels * channels * (1 + sizeof(float)) + input[0].bytes() +
                pixels * (1 + options_.caller_bytes_per_pixel);
  for (const TensorType& output : executor_.output_types(input)) plan.images += output.bytes();
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
  const std::int64_t whole = sizes_.input(0, height) * sizes_.input(1, width);
  return static_cast<double>(tiling.input_pixels()) / static_cast<double>(whole);
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
  std::optional<Tiling> smaller = tiling;
  do {
    smaller = cut(height, width, smaller->largest_side() * 3 / 4);
  } while (smaller && needed(memory(height, width, *smaller)) > most);
  fail("tiles of {} x {} pixels need {}, {} is {}; {}", tiling.largest_height(),
       tiling.largest_width(), format_bytes(wanted),
       options_.max_memory > 0 ? "--max-memory" : "what is free", format_bytes(most),
       smaller ? fmt::format("use --tile {} or less, or leave the choice to --max-memory",
                             smaller->largest_side())
               : "no smaller ones fit; split the image, or use a machine with more");
}

void Segmenter::note_work(std::int64_t height, std::int64_t width, const Tiling& tiling) {
  const double times = work(height, width, tiling);
  if (work_noted_ || !options_.on_note || times <= kMostWork) return;
  work_noted_ = true;
  // The smallest that do not, on the way down that the choice by memory takes.
  Tiling better = *cut(height, width, kUntiled);
  for (auto next = std::optional(better); next && work(height, width, *next) <= kMostWork;
       next = cut(height, width, next->largest_side() * 3 / 4)) {
    better = *next;
  }
  const std::uint64_t bytes = needed(memory(height, width, better));
  options_.on_note(fmt::format(
      "an image of {} x {} in tiles of up to {} x {} takes {:.1f} times the work of the whole: "
      "{:.0f} % is done twice. With {} it would be {:.1f} times, in {} of memory",
      height, width, tiling.largest_height(), tiling.largest_width(), times, 100 * (1 - 1 / times),
      options_.tile > 0 ? fmt::format("--tile {}", better.largest_side())
                        : fmt::format("--max-memory {}M", (bytes >> 20) + 1),
      work(height, width, better), format_bytes(bytes)));
}

Segmenter::Tiling Segmenter::choose_tiling(std::int64_t height, std::int64_t width) {
  require_readable_size(height, width, image_channels(file_.config), kMaxSamples);
  if (options_.tile > 0) {
    auto tiling = cut(height, width, options_.tile);
    if (tiling) {
      require_memory(height, width, *tiling);
      return *tiling;
    }
    std::int64_t least = options_.tile + 1;
    while (!cut(height, width, least)) ++least;
    fail(
        "a tile of {} pixels is too small for the network's halo and grid; use {} or more (or "
        "leave the choice to --max-memory)",
        options_.tile, least);
  }
  const std::size_t most = limit();
  std::uint64_t least = 0;
  const auto fits = [&](const Tiling& tiling) {
    least = needed(memory(height, width, tiling));
    return least <= most;
  };
  std::int64_t tile = kUntiled;
  auto tiling = cut(height, width, tile);
  while (tiling) {
    if (fits(*tiling)) return *tiling;
    tile = tiling->largest_side() * 3 / 4;
    tiling = cut(height, width, tile);
  }
  // Between the last that ran and this, which does not: the smallest that does.
  while (!tiling) tiling = cut(height, width, ++tile);
  if (fits(*tiling)) return *tiling;
  fail(
      "an image of {} x {} pixels needs {} in the smallest tiles that run, the limit is {}; allow "
      "more with --max-memory",
      height, width, format_bytes(least), format_bytes(most));
}

SegmentationPlan Segmenter::plan(std::int64_t height, std::int64_t width) {
  const Tiling tiling = choose_tiling(height, width);
  SegmentationPlan plan = memory(height, width, tiling);
  const std::vector<TensorType> input{sizes_.type(plan.tile_height, plan.tile_width)};
  plan.memory_map = executor_.plan(input).memory_map();
  return plan;
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
  for (const AxisTile& row : tiling.rows) {
    for (const AxisTile& column : tiling.columns) {
      const TensorType in = sizes_.type(row.input_size, column.input_size);
      const TensorType out{DType::kU8, {1, row.output_size, column.output_size}};
      input.resize(static_cast<std::size_t>(in.shape.elements()));
      mask.resize(static_cast<std::size_t>(out.shape.elements()));
      // The whole that the tiles are cut from begins a margin outside the image.
      const std::int64_t y0 = row.input_begin - sizes_.margin(0);
      const std::int64_t x0 = column.input_begin - sizes_.margin(1);
      mirror_pad(pixels, height, width, channels,
                 {y0, x0, y0 + row.input_size, x0 + column.input_size}, input);
      const std::vector<TensorView> inputs{{input.data(), in}};
      std::vector<TensorView> outputs{{mask.data(), out}};
      if (options_.probabilities) {
        const TensorType type{DType::kF32, {1, row.output_size, column.output_size, outputs_}};
        probabilities.resize(static_cast<std::size_t>(type.shape.elements()));
        outputs.push_back({probabilities.data(), type});
      }
      executor_.run(inputs, outputs, timings);

      const std::int64_t keep_x = std::min(column.keep_end, width) - column.keep_begin;
      for (std::int64_t y = row.keep_begin; keep_x > 0 && y < std::min(row.keep_end, height); ++y) {
        const std::int64_t from =
            (y - row.output_begin) * column.output_size + (column.keep_begin - column.output_begin);
        const std::int64_t to = y * width + column.keep_begin;
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
