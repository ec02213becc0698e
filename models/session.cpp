#include "models/session.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <iterator>
#include <mutex>
#include <new>
#include <stdexcept>

#include "engine/device/device.h"
#include "engine/device/machine.h"
#include "models/classifier.h"
#include "models/image/image_rows.h"
#include "models/image/instances.h"
#include "models/image_view.h"
#include "models/import/import.h"
#include "models/segmenter.h"

namespace tessera {

namespace {

constexpr int kMostImages = 1024;  // that run as one

// Calls `work`; what the standard library throws for want of memory becomes an Error with a remedy.
template <class Work>
auto with_memory(const Work& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    fail("out of memory; allow smaller tiles (max_memory), or free some");
  } catch (const std::length_error&) {
    fail("out of memory: more than this machine can address; use smaller inputs");
  }
}

}  // namespace

// What a session and its clones have in common. Any thread reads it.
struct Session::Shared {
  explicit Shared(ModelFile opened) : file(std::move(opened)) {}

  ModelFile file;
  std::vector<ClassInfo> classes;
  std::uint64_t parameters = 0;
  std::shared_ptr<const Tokenizer> tokenizer;  // of a model of documents

  std::mutex mutex;                                       // of `compiled`, and of on_note
  std::vector<std::shared_ptr<const Compiled>> compiled;  // for each place: a device, or a stand-in
  std::atomic<std::size_t> clones = 0;
  std::array<std::atomic<bool>, std::variant_size_v<Image::Pixels>> ranges_noted{};
};

struct Session::State {
  std::shared_ptr<Shared> shared;
  SessionOptions options;
  int sharers = 1;                                     // sessions that divide a device's memory
  std::size_t place = 0;                               // of the device among them
  std::shared_ptr<const Compiled> compiled = nullptr;  // the shared one, or an earlier one
  std::unique_ptr<Segmenter> segmenter = nullptr;      // one of the two
  std::unique_ptr<Classifier> classifier = nullptr;
  bool keep_times = false;
  std::vector<NodeTiming> timings = {};

  const ModelConfig& config() const { return shared->file.config; }
  std::vector<NodeTiming>* sink() { return keep_times ? &timings : nullptr; }

  DeviceOptions wanted() const { return wanted(options.device); }
  DeviceOptions wanted(const std::string& device) const {
    return device_options(config().is_of_images(), device, options.precision, options.threads);
  }

  // Those that the options name.
  std::vector<std::shared_ptr<const Device>> open_devices() const {
    std::vector<std::shared_ptr<const Device>> devices;
    for (const std::string& name : device_names(options.device)) {
      OpenedDevice opened = open_device(wanted(name));
      note(opened.note);
      if (!devices.empty())
        require(
            opened.device->details() == devices[0]->details(),
            "device '{}': {} and {} differ, so an answer would depend on which of them gave it; "
            "name GPUs of one kind",
            options.device, devices[0]->name(), opened.device->name());
      devices.push_back(std::move(opened.device));
    }
    return devices;
  }

  // Once for each type of pixels, where nobody has chosen the range.
  void note_range(const Image& image) {
    std::atomic<bool>& noted = shared->ranges_noted[image.pixels.index()];
    if (noted || !options.range.empty()) return;
    const std::string line = range_note(image, config().preprocessing);
    if (line.empty() || noted.exchange(true)) return;
    const std::lock_guard lock(shared->mutex);
    note(line);
  }

  static bool answers(const Device& device) {
    try {
      device.available_bytes();
      return true;
    } catch (const DeviceError&) {
      return false;
    }
  }

  void note(const std::string& line) const {
    if (!line.empty() && options.on_note) options.on_note(line);
  }

  std::shared_ptr<const Compiled> compile(std::shared_ptr<const Device> device) const {
    if (config().is_of_images()) return Segmenter::compile(shared->file, options, device);
    return Classifier::compile(shared->file, device);
  }

  // From now on this session runs what all share.
  void use_shared() {
    int places = 0;  // that a device stands in for
    {
      const std::lock_guard lock(shared->mutex);
      compiled = shared->compiled[place];
      places = static_cast<int>(std::ranges::count(shared->compiled, compiled));
    }
    if (config().is_of_images()) {
      segmenter = std::make_unique<Segmenter>(shared->file, options, compiled, sharers * places);
    } else {
      classifier =
          std::make_unique<Classifier>(*config().han, shared->tokenizer, compiled, options.threads);
    }
  }

  // The same, on a device that still works.
  void open() {
    for (;;) {
      try {
        return use_shared();
      } catch (const DeviceError& error) {
        if (!leave_device(error)) throw;
      }
    }
  }

  // Calls `work`; where a GPU fails, once more on another of those that the options name, or, where
  // nobody asked for one by name, on the CPU.
  template <class Work>
  auto on_device(const Work& work) {
    for (;;) {
      try {
        return with_memory(work);
      } catch (const DeviceError& error) {
        if (!leave_device(error)) throw;
      }
      open();
    }
  }

  // Lets another device stand in for this session's, which failed: the first session to meet the
  // fault gets it ready for all. False where there is none, and where several GPUs were named and
  // this one still answers, as it does when its memory is full: that is no reason to do without it.
  bool leave_device(const DeviceError& error) {
    if (compiled->device().is_host()) return false;
    if (options.device != "auto" && answers(compiled->device())) return false;
    const std::lock_guard lock(shared->mutex);
    if (shared->compiled[place] != compiled) return true;
    std::shared_ptr<const Compiled> other;
    for (const std::shared_ptr<const Compiled>& one : shared->compiled)
      if (one != compiled) other = one;
    if (!other && options.device != "auto") return false;
    note(fmt::format("going on with {}: {}", other ? other->device().name() : "the CPU",
                     error.what()));
    if (!other) other = compile(open_cpu_device(wanted().threads, wanted().precision));
    std::ranges::replace(shared->compiled, compiled, other);
    return true;
  }
};

Session::Session(std::unique_ptr<State> state) : state_(std::move(state)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

Session Session::open(const std::string& path, const SessionOptions& options) {
  auto state = std::make_unique<State>(
      State{std::make_shared<Shared>(open_model(path, options.foreign, options.on_note)), options});
  require(options.batch >= 0 && options.batch <= kMostImages,
          "expected 0 to {} images of a batch (--batch), found {}", kMostImages, options.batch);
  if (state->options.threads <= 0) state->options.threads = default_threads();
  Shared& shared = *state->shared;
  ModelConfig& config = shared.file.config;
  for (const ModelClass& one : config.classes) shared.classes.push_back({one.name, one.colour});
  if (!options.range.empty()) {
    require(config.is_of_images(),
            "{}: a range (--range) is for models of images; this one classifies documents", path);
    set_range(config.preprocessing, options.range);
  }
  std::vector<std::shared_ptr<const Device>> devices = state->open_devices();
  try {
    if (!config.is_of_images())
      shared.tokenizer = std::make_shared<Tokenizer>(config.text, *shared.file.vocabulary);
    for (std::shared_ptr<const Device>& device : devices)
      shared.compiled.push_back(state->compile(std::move(device)));
    shared.file.weights.check_all_used();
    state->use_shared();
  } catch (const Error& error) {
    const std::string_view text = error.what();
    if (text.starts_with(path)) throw;
    fail("{}: {}", path, text);
  }
  for (const std::string& name : shared.file.weights.names()) {
    if (name == "vocabulary") continue;
    shared.parameters +=
        static_cast<std::uint64_t>(shared.file.weights.take_any_shape(name).shape().elements());
  }
  return Session(std::move(state));
}

Session Session::clone(int threads, int sharers) const {
  Shared& shared = *state_->shared;
  return clone_on(++shared.clones % shared.compiled.size(), threads, sharers);
}

Session Session::clone_on(std::size_t place, int threads, int sharers) const {
  auto state = std::make_unique<State>(State{state_->shared, state_->options, sharers, place});
  if (threads > 0) state->options.threads = threads;
  state->open();
  return Session(std::move(state));
}

Session::Task Session::task() const {
  return state_->segmenter ? Task::kSegment : Task::kClassify;
}

const std::vector<ClassInfo>& Session::classes() const {
  return state_->shared->classes;
}

std::string Session::device() const {
  return state_->compiled->device().name();
}

std::vector<std::string> Session::devices() const {
  const std::lock_guard lock(state_->shared->mutex);
  std::vector<std::string> names;
  for (const auto& compiled : state_->shared->compiled) {
    const std::string name = compiled->device().name();
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  }
  return names;
}

std::string Session::precision() const {
  return std::string(name_of(state_->compiled->device().precision()));
}

int Session::threads() const {
  return state_->options.threads;
}

std::string Session::config_json() const {
  return to_json(state_->config()).dump(2);
}

std::uint64_t Session::parameters() const {
  return state_->shared->parameters;
}

std::uint64_t Session::file_bytes() const {
  return state_->shared->file.weights.total_bytes();
}

Segmentation Session::segment(const ImageView& image, const Progress& progress) {
  require(state_->segmenter != nullptr, "this model classifies documents; it segments no images");
  return state_->on_device([&] {
    const Image copy = to_image(image);
    state_->note_range(copy);
    return state_->segmenter->segment(copy, progress, state_->sink());
  });
}

std::vector<Segmentation> Session::segment(std::span<const ImageView> images,
                                           const Progress& progress) {
  require(state_->segmenter != nullptr, "this model classifies documents; it segments no images");
  std::vector<Segmentation> results;
  if (images.empty()) return results;
  require_one_size(images);
  const std::int64_t height = images[0].height, width = images[0].width;
  while (results.size() < images.size()) {
    std::vector<Segmentation> some = state_->on_device([&] {
      const auto most = static_cast<std::size_t>(state_->segmenter->batch(height, width));
      std::vector<Image> copies;
      for (const ImageView& image : images.subspan(results.size())) {
        copies.push_back(to_image(image));
        state_->note_range(copies.back());
        if (copies.size() == most) break;
      }
      return state_->segmenter->segment(copies, {}, state_->sink());
    });
    std::ranges::move(some, std::back_inserter(results));
    if (progress)
      progress(static_cast<std::int64_t>(results.size()), static_cast<std::int64_t>(images.size()));
  }
  return results;
}

SegmentationPlan Session::plan(std::int64_t height, std::int64_t width) {
  require(state_->segmenter != nullptr, "this model classifies documents; it segments no images");
  return state_->on_device([&] { return state_->segmenter->plan(height, width); });
}

SegmentationPlan Session::plan(const SegmentationWindow& window, std::uint64_t pixel_bytes) {
  require(state_->segmenter != nullptr, "this model classifies documents; it segments no images");
  return state_->on_device([&] { return state_->segmenter->plan(window, pixel_bytes); });
}

std::vector<SegmentationWindow> Session::windows(std::int64_t height, std::int64_t width,
                                                 std::int64_t tile) {
  require(state_->segmenter != nullptr, "this model classifies documents; it segments no images");
  return state_->segmenter->windows(height, width, tile);
}

SegmentationWindow Session::window(std::int64_t image_height, std::int64_t image_width,
                                   std::int64_t y, std::int64_t x, std::int64_t height,
                                   std::int64_t width) {
  require(state_->segmenter != nullptr, "this model classifies documents; it segments no images");
  return state_->segmenter->window_of(image_height, image_width, y, x, height, width);
}

WindowGrid Session::window_grid(std::int64_t height, std::int64_t width, const WindowWish& wish) {
  require(state_->segmenter != nullptr, "this model classifies documents; it segments no images");
  return state_->on_device([&] { return state_->segmenter->window_grid(height, width, wish); });
}

PixelScale Session::pixel_scale(const ImageView& image) const {
  require(state_->segmenter != nullptr, "this model classifies documents; it segments no images");
  const Image copy = to_image(image);
  const LinearScale scale = RowNormaliser(copy, state_->config().preprocessing).scale();
  return {scale.offset, scale.divisor};
}

bool Session::needs_pixel_scale() const {
  return state_->segmenter && needs_all_pixels(state_->config().preprocessing);
}

PixelScale Session::pixel_scale(const RowReader& rows) const {
  require(needs_pixel_scale(), "the model's preprocessing takes nothing from all pixels");
  const LinearScale scale = scale_of(
      [&](const auto& take) { rows([&](const ImageView& some) { take(to_image(some)); }); },
      state_->config().preprocessing);
  return {scale.offset, scale.divisor};
}

Segmentation Session::segment_window(const ImageView& pixels, const SegmentationWindow& window,
                                     const PixelScale* scale, const Progress& progress) {
  require(state_->segmenter != nullptr, "this model classifies documents; it segments no images");
  state_->segmenter->require_window(window, pixels.height, pixels.width);
  require(needs_pixel_scale() == (scale != nullptr),
          "the scale of all pixels of an image was {}, the model's preprocessing {} it",
          scale != nullptr ? "given" : "not given", scale != nullptr ? "does not take" : "needs");
  require(
      scale == nullptr ||
          (std::isfinite(scale->offset) && scale->divisor > 0 && std::isfinite(scale->divisor)),
      "the image's scale is not finite, or its divisor not above 0; take it from pixel_scale()");
  std::optional<LinearScale> whole;
  if (scale != nullptr) whole = LinearScale{scale->offset, scale->divisor};
  return state_->on_device([&] {
    const Image copy = to_image(pixels);
    state_->note_range(copy);
    return state_->segmenter->segment(copy, window, whole, progress, state_->sink());
  });
}

std::vector<std::int64_t> Session::input_sizes(int count) const {
  std::vector<std::int64_t> sizes;
  if (!state_->segmenter) return sizes;
  for (std::int64_t size = 1; static_cast<int>(sizes.size()) < count; ++size) {
    size = state_->segmenter->sizes().next(0, size);
    sizes.push_back(size);
  }
  return sizes;
}

Classification Session::classify(std::string_view text) {
  Classification answer = std::move(classify(std::vector{text})[0]);
  require(answer.error.empty(), "{}", answer.error);
  return answer;
}

std::vector<Classification> Session::classify(const std::vector<std::string_view>& texts,
                                              const Progress& progress) {
  require(state_->classifier != nullptr, "this model segments images; it classifies no documents");
  return state_->on_device(
      [&] { return state_->classifier->classify(texts, progress, state_->sink()); });
}

Objects find_objects(const std::uint8_t* mask, std::int64_t height, std::int64_t width,
                     const ObjectOptions& options) {
  require(height > 0 && width > 0, "a mask of {} x {} pixels has no objects; give it at least one",
          width, height);
  const Instances found =
      find_instances({mask, static_cast<std::size_t>(height * width)}, height, width,
                     {options.background, options.connectivity, options.min_area});
  Objects result;
  std::visit([&](const auto& labels) { result.labels.assign(labels.begin(), labels.end()); },
             found.labels.pixels);
  for (const Instance& one : found.objects) {
    result.objects.push_back({one.label, one.class_id, one.area, one.x, one.y, one.width,
                              one.height, one.centroid_x, one.centroid_y});
  }
  return result;
}

void Session::keep_node_times(bool keep) {
  state_->keep_times = keep;
}

std::vector<NodeTime> Session::node_times() {
  std::vector<NodeTime> times;
  for (NodeTiming& timing : state_->timings) {
    times.push_back({std::move(timing.name), std::move(timing.kind), timing.cost.flops,
                     timing.cost.bytes, timing.start, timing.seconds, std::move(timing.choice)});
  }
  state_->timings.clear();
  return times;
}

}  // namespace tessera
