#include "models/session.h"

#include <cstring>
#include <new>
#include <stdexcept>

#include "engine/device.h"
#include "models/classifier.h"
#include "models/model_file.h"
#include "models/segmenter.h"

namespace tessera {

namespace {

DType precision_of(const std::string& name) {
  if (name == "fp32" || name == "auto") return DType::kF32;
  if (name == "bf16") return DType::kBF16;
  fail("precision '{}': expected fp32, bf16 or auto", name);
}

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

}  // namespace

struct Session::State {
  ModelFile file;
  SessionOptions options;
  DType precision;
  std::vector<ClassInfo> classes = {};
  std::unique_ptr<Segmenter> segmenter = nullptr;  // one of the two
  std::unique_ptr<Classifier> classifier = nullptr;
  bool keep_times = false;
  std::vector<NodeTiming> timings = {};

  std::vector<NodeTiming>* sink() { return keep_times ? &timings : nullptr; }
};

Session::Session(std::unique_ptr<State> state) : state_(std::move(state)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

Session Session::open(const std::string& path, const SessionOptions& options) {
  parse_device(options.device);
  const DType precision = precision_of(options.precision);
  auto state = std::make_unique<State>(State{ModelFile::open(path), options, precision});
  if (state->options.threads <= 0) state->options.threads = default_threads();
  for (const ModelClass& one : state->file.config.classes)
    state->classes.push_back({one.name, one.colour});
  try {
    if (state->file.config.unet) {
      state->segmenter = std::make_unique<Segmenter>(state->file, state->options, precision);
    } else {
      state->classifier = std::make_unique<Classifier>(state->file, state->options.threads);
    }
    state->file.weights.check_all_used();
  } catch (const Error& error) {
    const std::string_view text = error.what();
    if (text.starts_with(path)) throw;
    fail("{}: {}", path, text);
  }
  return Session(std::move(state));
}

Session::Task Session::task() const {
  return state_->segmenter ? Task::kSegment : Task::kClassify;
}

const std::vector<ClassInfo>& Session::classes() const {
  return state_->classes;
}

std::string Session::precision() const {
  return state_->segmenter && state_->precision == DType::kBF16 ? "bf16" : "fp32";
}

int Session::threads() const {
  return state_->options.threads;
}

std::string Session::config_json() const {
  return to_json(state_->file.config).dump(2);
}

std::uint64_t Session::parameters() const {
  std::uint64_t count = 0;
  for (const std::string& name : state_->file.weights.names()) {
    if (name == "vocabulary") continue;
    count +=
        static_cast<std::uint64_t>(state_->file.weights.take_any_shape(name).shape().elements());
  }
  return count;
}

std::uint64_t Session::file_bytes() const {
  return state_->file.weights.total_bytes();
}

Segmentation Session::segment(const ImageView& image, const Progress& progress) {
  require(state_->segmenter != nullptr, "this model classifies documents; it segments no images");
  return with_memory(
      [&] { return state_->segmenter->segment(to_image(image), progress, state_->sink()); });
}

SegmentationPlan Session::plan(std::int64_t height, std::int64_t width) {
  require(state_->segmenter != nullptr, "this model classifies documents; it segments no images");
  return with_memory([&] { return state_->segmenter->plan(height, width); });
}

std::vector<std::int64_t> Session::input_sizes(int count) const {
  std::vector<std::int64_t> sizes;
  if (!state_->file.config.unet) return sizes;
  for (std::int64_t size = 1; static_cast<int>(sizes.size()) < count; ++size) {
    if (unet_output_size(*state_->file.config.unet, size)) sizes.push_back(size);
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
  return with_memory([&] { return state_->classifier->classify(texts, state_->sink()); });
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
