#include "models/session.h"

#include <array>
#include <atomic>
#include <cstring>
#include <mutex>
#include <new>
#include <stdexcept>

#include "engine/device/device.h"
#include "engine/device/machine.h"
#include "models/classifier.h"
#include "models/import/import.h"
#include "models/segmenter.h"

namespace tessera {

namespace {

template <class T>
std::vector<T> copy_pixels(const ImageView& view) {
  const auto samples = static_cast<std::size_t>(view.height * view.width * view.channels);
  std::vector<T> pixels(samples);
  std::memcpy(pixels.data(), view.pixels, samples * sizeof(T));
  return pixels;
}

Image to_image(const ImageView& view) {
  require(view.pixels != nullptr, "the image has no pixels");
  require(view.channels == 1 || view.channels == 3,
          "an image has 1 (grey) or 3 (RGB) channels, not {}", view.channels);
  require_readable_size(view.height, view.width, view.channels, kMaxSamples);
  Image image{view.height, view.width, view.channels, {}};
  switch (view.type) {
    case ImageView::Type::kU8:
      image.pixels = copy_pixels<std::uint8_t>(view);
      break;
    case ImageView::Type::kU16:
      image.pixels = copy_pixels<std::uint16_t>(view);
      break;
    case ImageView::Type::kU32:
      image.pixels = copy_pixels<std::uint32_t>(view);
      break;
    case ImageView::Type::kF32:
      image.pixels = copy_pixels<float>(view);
      break;
  }
  return image;
}

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

// What was said once, by a session or a clone of it.
struct Noted {
  std::mutex mutex;  // of on_note
  std::array<std::atomic<bool>, std::variant_size_v<Image::Pixels>> ranges{};
};

}  // namespace

struct Session::State {
  std::shared_ptr<ModelFile> file;
  SessionOptions options;
  std::vector<ClassInfo> classes = {};
  std::shared_ptr<Device> device = nullptr;
  std::unique_ptr<Segmenter> segmenter = nullptr;  // one of the two
  std::unique_ptr<Classifier> classifier = nullptr;
  bool keep_times = false;
  std::vector<NodeTiming> timings = {};
  std::shared_ptr<Noted> noted = std::make_shared<Noted>();

  std::vector<NodeTiming>* sink() { return keep_times ? &timings : nullptr; }

  DeviceOptions wanted() const {
    return device_options(file->config.is_of_images(), options.device, options.precision,
                          options.threads);
  }

  // Once for each type of pixels.
  void note_range(const Image& image) {
    std::atomic<bool>& done = noted->ranges[image.pixels.index()];
    if (done) return;
    const std::string line = range_note(image, file->config.preprocessing);
    if (line.empty() || done.exchange(true)) return;
    const std::lock_guard lock(noted->mutex);
    note(line);
  }

  void note(const std::string& line) const {
    if (!line.empty() && options.on_note) options.on_note(line);
  }

  // Builds the network on `chosen`.
  void use(std::shared_ptr<Device> chosen) {
    device = std::move(chosen);
    segmenter.reset();
    classifier.reset();
    if (file->config.is_of_images()) {
      segmenter = std::make_unique<Segmenter>(*file, options, device);
    } else {
      classifier = std::make_unique<Classifier>(*file, device);
    }
  }

  // Calls `work`; where a GPU fails that nobody asked for by name, once more on the CPU.
  template <class Work>
  auto on_device(const Work& work) {
    try {
      return with_memory(work);
    } catch (const DeviceError& error) {
      if (options.device != "auto" || device->is_host()) throw;
      note(fmt::format("going on with the CPU: {}", error.what()));
    }
    use(open_cpu_device(wanted().threads, wanted().precision));
    return with_memory(work);
  }
};

Session::Session(std::unique_ptr<State> state) : state_(std::move(state)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

Session Session::open(const std::string& path, const SessionOptions& options) {
  auto state =
      std::make_unique<State>(State{std::make_shared<ModelFile>(open_model(path)), options});
  if (state->options.threads <= 0) state->options.threads = default_threads();
  for (const ModelClass& one : state->file->config.classes)
    state->classes.push_back({one.name, one.colour});
  if (!options.range.empty()) {
    require(state->file->config.is_of_images(),
            "{}: a range (--range) is for models of images; this one classifies documents", path);
    set_range(state->file->config.preprocessing, options.range);
  }
  OpenedDevice opened = open_device(state->wanted());
  state->note(opened.note);
  try {
    state->use(std::move(opened.device));
    state->file->weights.check_all_used();
  } catch (const Error& error) {
    const std::string_view text = error.what();
    if (text.starts_with(path)) throw;
    fail("{}: {}", path, text);
  }
  return Session(std::move(state));
}

Session Session::clone(int threads) const {
  auto state = std::make_unique<State>(State{state_->file, state_->options, state_->classes});
  state->noted = state_->noted;
  if (threads > 0) state->options.threads = threads;
  const Device& device = *state_->device;
  if (!device.is_host()) {
    state->use(device.another());
  } else if (task() == Task::kSegment) {
    state->use(device.with_threads(state->options.threads));
  } else {
    state->use(open_cpu_device(state->options.threads, device.precision()));
  }
  return Session(std::move(state));
}

Session::Task Session::task() const {
  return state_->segmenter ? Task::kSegment : Task::kClassify;
}

const std::vector<ClassInfo>& Session::classes() const {
  return state_->classes;
}

std::string Session::device() const {
  return state_->device->name();
}

std::string Session::precision() const {
  return std::string(name_of(state_->device->precision()));
}

int Session::threads() const {
  return state_->options.threads;
}

std::string Session::config_json() const {
  return to_json(state_->file->config).dump(2);
}

std::uint64_t Session::parameters() const {
  std::uint64_t count = 0;
  for (const std::string& name : state_->file->weights.names()) {
    if (name == "vocabulary") continue;
    count +=
        static_cast<std::uint64_t>(state_->file->weights.take_any_shape(name).shape().elements());
  }
  return count;
}

std::uint64_t Session::file_bytes() const {
  return state_->file->weights.total_bytes();
}

Segmentation Session::segment(const ImageView& image, const Progress& progress) {
  require(state_->segmenter != nullptr, "this model classifies documents; it segments no images");
  return state_->on_device([&] {
    const Image copy = to_image(image);
    state_->note_range(copy);
    return state_->segmenter->segment(copy, progress, state_->sink());
  });
}

SegmentationPlan Session::plan(std::int64_t height, std::int64_t width) {
  require(state_->segmenter != nullptr, "this model classifies documents; it segments no images");
  return state_->on_device([&] { return state_->segmenter->plan(height, width); });
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

std::vector<Classification> Session::classify(const std::vector<std::string_view>& texts) {
  require(state_->classifier != nullptr, "this model segments images; it classifies no documents");
  return state_->on_device([&] { return state_->classifier->classify(texts, state_->sink()); });
}

void Session::keep_node_times(bool keep) {
  state_->keep_times = keep;
}

std::vector<NodeTime> Session::node_times() {
  std::vector<NodeTime> times;
  for (NodeTiming& timing : state_->timings) {
    times.push_back({std::move(timing.name), std::move(timing.kind), timing.cost.flops,
                     timing.cost.bytes, timing.start, timing.seconds});
  }
  state_->timings.clear();
  return times;
}

}  // namespace tessera
