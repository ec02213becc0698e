// Model: Sessions for the threads that call at once.
#include <fmt/ranges.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <iterator>
#include <mutex>
#include <numeric>
#include <utility>

#include "engine/device/at_once.h"
#include "models/image_view.h"
#include "models/session.h"

namespace tessera {

struct Model::State {
  struct Gpu {  // or the CPU
    int busy = 0;
    std::vector<Session> idle = {};
  };
  Session first;          // alone cloned
  int sharers;            // Sessions of a device, beside it
  std::vector<Gpu> gpus;  // under the mutex

  std::mutex mutex = {};
  std::condition_variable freed = {};
};

// A Session for one call, on the GPU that has the least to do.
class Model::Lease {
 public:
  explicit Lease(State& state) : state_(state), place_(take_place(state)), session_(take()) {}
  ~Lease() { give_back(&session_); }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  Session& operator*() { return session_; }
  Session* operator->() { return &session_; }

 private:
  static std::size_t take_place(State& state) {
    std::unique_lock lock(state.mutex);
    for (;;) {
      const auto gpu = std::ranges::min_element(state.gpus, {}, &State::Gpu::busy);
      if (gpu->busy < state.sharers) {
        ++gpu->busy;
        return static_cast<std::size_t>(gpu - state.gpus.begin());
      }
      state.freed.wait(lock);
    }
  }
  Session take() {
    {
      const std::lock_guard lock(state_.mutex);
      std::vector<Session>& idle = state_.gpus[place_].idle;
      if (!idle.empty()) {
        Session session = std::move(idle.back());
        idle.pop_back();
        return session;
      }
    }
    try {
      return state_.first.clone_on(place_, 0, state_.sharers);
    } catch (...) {
      give_back(nullptr);
      throw;
    }
  }
  void give_back(Session* session) {
    {
      const std::lock_guard lock(state_.mutex);
      State::Gpu& gpu = state_.gpus[place_];
      --gpu.busy;
      if (session != nullptr) gpu.idle.push_back(std::move(*session));  // there is room: see open()
    }
    state_.freed.notify_one();
  }

  State& state_;
  std::size_t place_;
  Session session_;
};

namespace {

std::vector<Segmentation> answer(Session& session, std::span<const ImageView> images,
                                 const Session::Progress& progress) {
  return session.segment(images, progress);
}
std::vector<Classification> answer(Session& session, std::span<const std::string_view> texts,
                                   const Session::Progress& progress) {
  return session.classify({texts.begin(), texts.end()}, progress);
}

}  // namespace

// Each GPU answers a part of a list, equal parts in order.
template <class Answer, class Input>
std::vector<Answer> Model::divided(std::span<const Input> all,
                                   const Session::Progress& progress) const {
  const std::size_t parts = std::clamp<std::size_t>(all.size(), 1, state_->gpus.size());
  if (parts == 1) return answer(*Lease(*state_), all, progress);
  std::vector<std::vector<Answer>> answers(parts);
  std::mutex mutex;  // of what follows, and of `progress`
  std::vector<std::int64_t> done(parts);
  std::exception_ptr error;  // the first, which ends the other parts too
  struct Ended {};
  run_at_once(parts, [&](std::size_t part) {
    const std::size_t begin = all.size() * part / parts, end = all.size() * (part + 1) / parts;
    const auto tell = [&](std::int64_t now, std::int64_t) {
      const std::lock_guard lock(mutex);
      if (error) throw Ended();
      done[part] = now;
      if (progress)
        progress(std::accumulate(done.begin(), done.end(), std::int64_t{0}),
                 static_cast<std::int64_t>(all.size()));
    };
    try {
      answers[part] = answer(*Lease(*state_), all.subspan(begin, end - begin), tell);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
  });
  if (error) std::rethrow_exception(error);
  for (std::size_t part = 1; part < parts; ++part)
    std::ranges::move(answers[part], std::back_inserter(answers[0]));
  return std::move(answers[0]);
}

Model::Model(std::unique_ptr<State> state) : state_(std::move(state)) {}
Model::~Model() = default;
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;

Model Model::open(const std::string& path, const SessionOptions& options) {
  Session first = Session::open(path, options);
  const int sharers = first.device() == "cpu" ? first.threads() : kGpuSessions;
  std::vector<State::Gpu> gpus(first.devices().size());
  for (State::Gpu& gpu : gpus) gpu.idle.reserve(static_cast<std::size_t>(sharers));
  return Model(std::unique_ptr<State>(new State{std::move(first), sharers, std::move(gpus)}));
}

Session::Task Model::task() const {
  return state_->first.task();
}

const std::vector<ClassInfo>& Model::classes() const {
  return state_->first.classes();
}

std::string Model::device() const {
  return fmt::format("{}", fmt::join(state_->first.devices(), ", "));
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
  require_one_size(images);
  return divided<Segmentation>(images, progress);
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
  return divided<Classification>(std::span(texts), progress);
}

}  // namespace tessera
