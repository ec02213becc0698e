// Model: Sessions for the threads that call at once.
#include <condition_variable>
#include <mutex>
#include <utility>

#include "models/session.h"

namespace tessera {

struct Model::State {
  Session first;  // alone cloned
  int most;       // Sessions beside it

  std::mutex mutex;  // of what follows
  std::condition_variable freed;
  std::vector<Session> idle = {};
  int made = 0;
};

// A Session for one call.
class Model::Lease {
 public:
  explicit Lease(State& state) : state_(state), session_(take(state)) {}
  ~Lease() {
    {
      const std::lock_guard lock(state_.mutex);
      state_.idle.push_back(std::move(session_));  // there is room since it was made
    }
    state_.freed.notify_one();
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  Session* operator->() { return &session_; }

 private:
  static Session take(State& state) {
    std::unique_lock lock(state.mutex);
    state.freed.wait(lock, [&] { return !state.idle.empty() || state.made < state.most; });
    if (!state.idle.empty()) {
      Session session = std::move(state.idle.back());
      state.idle.pop_back();
      return session;
    }
    ++state.made;
    lock.unlock();
    try {
      return state.first.clone_for(state.most);
    } catch (...) {
      lock.lock();
      --state.made;
      lock.unlock();
      state.freed.notify_one();
      throw;
    }
  }

  State& state_;
  Session session_;
};

Model::Model(std::unique_ptr<State> state) : state_(std::move(state)) {}
Model::~Model() = default;
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;

Model Model::open(const std::string& path, const SessionOptions& options) {
  Session first = Session::open(path, options);
  const int most = first.device() == "cpu" ? first.threads() : kGpuSessions;
  std::unique_ptr<State> state(new State{std::move(first), most, {}, {}});
  state->idle.reserve(static_cast<std::size_t>(most));
  return Model(std::move(state));
}

Session::Task Model::task() const {
  return state_->first.task();
}

const std::vector<ClassInfo>& Model::classes() const {
  return state_->first.classes();
}

std::string Model::device() const {
  return state_->first.device();
}

std::string Model::precision() const {
  return state_->first.precision();
}

std::uint64_t Model::parameters() const {
  return state_->first.parameters();
}

std::string Model::config_json() const {
  return state_->first.config_json();
}

Segmentation Model::segment(const ImageView& image, const Session::Progress& progress) const {
  return Lease(*state_)->segment(image, progress);
}

std::vector<Segmentation> Model::segment(std::span<const ImageView> images,
                                         const Session::Progress& progress) const {
  return Lease(*state_)->segment(images, progress);
}

SegmentationPlan Model::plan(std::int64_t height, std::int64_t width) const {
  return Lease(*state_)->plan(height, width);
}

std::vector<SegmentationWindow> Model::windows(std::int64_t height, std::int64_t width,
                                               std::int64_t tile) const {
  return Lease(*state_)->windows(height, width, tile);
}

SegmentationWindow Model::window(std::int64_t image_height, std::int64_t image_width,
                                 std::int64_t y, std::int64_t x, std::int64_t height,
                                 std::int64_t width) const {
  return Lease(*state_)->window(image_height, image_width, y, x, height, width);
}

Segmentation Model::segment_window(const ImageView& pixels, const SegmentationWindow& window,
                                   const PixelScale* scale,
                                   const Session::Progress& progress) const {
  return Lease(*state_)->segment_window(pixels, window, scale, progress);
}

PixelScale Model::pixel_scale(const ImageView& image) const {
  return state_->first.pixel_scale(image);
}

bool Model::needs_pixel_scale() const {
  return state_->first.needs_pixel_scale();
}

PixelScale Model::pixel_scale(const Session::RowReader& rows) const {
  return state_->first.pixel_scale(rows);
}

SegmentationPlan Model::plan(const SegmentationWindow& window, std::uint64_t pixel_bytes) const {
  return Lease(*state_)->plan(window, pixel_bytes);
}

WindowGrid Model::window_grid(std::int64_t height, std::int64_t width,
                              const WindowWish& wish) const {
  return Lease(*state_)->window_grid(height, width, wish);
}

Classification Model::classify(std::string_view text) const {
  return Lease(*state_)->classify(text);
}

std::vector<Classification> Model::classify(const std::vector<std::string_view>& texts,
                                            const Session::Progress& progress) const {
  return Lease(*state_)->classify(texts, progress);
}

}  // namespace tessera
