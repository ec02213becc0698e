// Tessera's C++ interface: a model, a device, and what a user does with them.
//
//   tessera::Session session = tessera::Session::open("unet.safetensors");
//   tessera::Segmentation result = session.segment({pixels, height, width, channels});
//
// Standard C++ alone: no CUDA and no library type appears here. All members throw
// std::runtime_error, whose text says what was expected, what was found and what to do. A Session
// is used by one thread at a time; several, clones of one, may run side by side. A Model is used by
// any number of threads at once: it keeps Sessions for them.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

// What a file that another program made does not say; `tessera import FILE --dry-run` shows what is
// guessed. Our own files say all of it.
struct ImportOptions {
  std::string family = "";      // the only network to look for, as `tessera import --list` names it
  std::string key = "";         // of several networks in one file, the entry to take
  std::string vocabulary = "";  // a file: the words of a HAN whose own has none
  // Guesses to overrule, by their names: {"concat": "up_first"}.
  std::map<std::string, std::string> choices = {};
};

struct SessionOptions {
  // "cpu", "cuda", "cuda:N", or "auto": a GPU, and the CPU where there is none or it fails. Several
  // GPUs of one kind are "cuda:N,M" or "cuda:all": each Session runs on one of them, its clones
  // take them in turn, and a Model divides its lists among them. Where one fails another does its
  // work.
  std::string device = "auto";
  // "fp32", "bf16", on a GPU also "tf32" and "fp16", or "auto": the fastest that keeps the answer.
  // For images that is bf16 on a GPU; on a CPU fp32, whose Winograd convolutions outrun bf16. For
  // documents it is fp32; on a CPU they know no other.
  std::string precision = "auto";
  // Of a file that another program made.
  ImportOptions foreign = {};
  // Hears, in one line: what is taken for granted of a file that another program made; why "auto"
  // runs on the CPU; once, that images fill an odd range of their
  // type; once, that small tiles do most of the work twice.
  std::function<void(std::string_view line)> on_note = {};
  int threads = 0;  // 0: OMP_NUM_THREADS, else every processor
  // Bytes the whole process, or on a GPU its memory there, may take; picks bands, or tiles. 0: 80%
  // of what is free, on a CPU at most 4 GiB beyond what the process holds.
  std::uint64_t max_memory = 0;
  std::uint64_t caller_bytes_per_pixel = 0;  // counted in plans: what the caller makes of a result
  int tile = 0;  // largest side of a tile in input pixels; 0: as large as memory allows
  // Images of one size that run as one, at most and as far as memory allows. 0: on a GPU as many as
  // keep it at work; on a CPU one, since the rows of an image keep all threads at work.
  int batch = 0;
  // "LO,HI" or "auto" (each image's own least and greatest value): the values that become 0 and 1
  // instead of the ends of the pixels' type, for a model of scale "unit". Empty: as the model says.
  std::string range = "";
  bool probabilities = false;  // of a segmentation: also return each class's probability
  bool winograd = true;        // false: direct convolutions only (slower; rounds less)
};

struct ClassInfo {
  std::string name;
  std::array<std::uint8_t, 3> colour{};  // red, green, blue
};

// Pixels in rows without gaps, (height, width, channels), grey or RGB. Not owned.
struct ImageView {
  enum class Type : std::uint8_t { kU8, kU16, kU32, kF32 };

  const void* pixels = nullptr;
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::int64_t channels = 1;
  Type type = Type::kU8;
};

struct Segmentation {
  std::int64_t height = 0;  // those of the image, whatever the network's padding
  std::int64_t width = 0;
  std::vector<std::uint8_t> mask;    // (height, width): index into Session::classes
  std::vector<float> probabilities;  // (height, width, outputs), if asked for; a sigmoid model of
                                     // two classes has one output, the second class's
  std::int64_t outputs = 0;          // channels of `probabilities`, 0 without them
};

struct ObjectOptions {
  std::vector<std::uint8_t> background{0};  // classes that are no objects
  int connectivity = 8;                     // 4: pixels touch by edges; 8: by corners too
  std::int64_t min_area = 1;                // pixels; smaller components become background
};

// A connected component of a class. Lengths in pixels; the centroid is the mean of its pixels'
// (column, row).
struct Object {
  std::int64_t label = 0;  // its value in Objects::labels, from 1, in reading order
  std::uint8_t class_id = 0;
  std::int64_t area = 0;
  std::int64_t x = 0, y = 0, width = 0, height = 0;  // bounding box
  double centroid_x = 0, centroid_y = 0;
};
struct Objects {
  std::vector<std::uint32_t> labels;  // (height, width); 0: background
  std::vector<Object> objects;        // by label
};

// The objects of a mask, (height, width) class ids. Throws on a connectivity other than 4 or 8.
Objects find_objects(const std::uint8_t* mask, std::int64_t height, std::int64_t width,
                     const ObjectOptions& options = {});

// How an image of some size would run.
struct SegmentationPlan {
  std::int64_t tiles = 0;        // 1: the whole image at once
  std::int64_t tile_height = 0;  // input pixels of the largest tile
  std::int64_t tile_width = 0;
  bool bands =
      false;        // the tiles are bands of rows: each reads the pixels that follow the last one
  double work = 1;  // operations of all tiles, over those of the whole at once
  std::int64_t batch = 1;     // images of this size that run as one; the bytes are those of one
  std::uint64_t weights = 0;  // bytes: packed for the kernels
  std::uint64_t arena = 0;    // intermediate maps and scratch
  std::uint64_t images = 0;   // the image's copy, tile in and out, result
  std::uint64_t device = 0;   // on a GPU: of its memory, weights and maps; else 0
  std::uint64_t peak = 0;     // of the process: what it holds now, and the above that lies there
  std::string memory_map;     // offset, size and life of every buffer of the largest tile
  std::string advice;         // not empty: tiles repeat most of the work; what would not
};

// A part of an image that is segmented by itself, on any machine and in any order: the rectangle
// that is kept of the answer, and the one of the image whose pixels that needs.
struct SegmentationWindow {
  std::int64_t image_height = 0, image_width = 0;
  std::int64_t y = 0, x = 0, height = 0, width = 0;
  std::int64_t read_y = 0, read_x = 0, read_height = 0, read_width = 0;

  bool operator==(const SegmentationWindow&) const = default;
};

// Equal windows for an image that is read part by part, one after the other.
struct WindowWish {
  // Of which their height and width are multiples, as a file's tiles or a store's chunks want.
  std::int64_t height_multiple = 1, width_multiple = 1;
  bool or_any = false;                 // where no multiples fit, other sizes
  std::uint64_t pixel_bytes = 1;       // of the image
  std::uint64_t beside_bytes = 0;      // that the caller holds whatever the windows' size
  std::int64_t at_least = 1;           // windows, if the image is large enough for as many
  std::int64_t tile = 0;               // the most that one reads a side; 0: the session's
  std::uint64_t max_memory = 0;        // 0: the session's
  std::int64_t height = 0, width = 0;  // of each; 0: those of the least work within all that
};
struct WindowGrid {
  std::int64_t height = 0, width = 0;  // that each keeps; the last ones of rows and columns less
  SegmentationPlan plan{};             // `tiles` are windows; memory is that of the largest
};

// What preprocessing takes from all pixels of an image, after the choice of channels:
// (x - offset) / divisor. "standardize": mean, standard deviation + 1e-6; "min_max" and a range of
// "auto": least, greatest - least.
struct PixelScale {
  float offset = 0;
  float divisor = 1;
};

// A part of the original text and how much the answer rests on it. Weights of the sentences of a
// document, and of the words of a sentence, sum to 1.
struct AttendedWord {
  std::size_t begin = 0, end = 0;  // bytes
  float weight = 0;
  bool known = true;  // in the model's vocabulary
};
struct AttendedSentence {
  std::size_t begin = 0, end = 0;
  float weight = 0;
  std::vector<AttendedWord> words;
};

struct Classification {
  std::string error;                 // not empty: this document has no answer, and why
  std::size_t label = 0;             // index into Session::classes
  std::vector<float> probabilities;  // by class
  std::vector<AttendedSentence> sentences;
  std::size_t sentences_dropped = 0;  // beyond the model's limit
  std::size_t words_dropped = 0;
  std::size_t unknown_words = 0;
  std::size_t invalid_sequences = 0;  // bytes that were not UTF-8
};

// One node of the last run.
struct NodeTime {
  std::string name;
  std::string kind;
  double flops = 0;
  double bytes = 0;
  double start = 0;  // seconds since its run began
  double seconds = 0;
  // The kernel that ran ("mma 128x128"), and on lines of their own why others did not.
  std::string choice = {};
};

class Session {
 public:
  enum class Task { kSegment, kClassify };

  static Session open(const std::string& path, const SessionOptions& options = {});
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  // Another session of this model, with `threads` threads (0: as many), which may run beside this
  // one, on another thread. All but the memory of its intermediate maps is shared: file, network,
  // weights, vocabulary. What `max_memory` allows is divided among `sharers` of a device.
  Session clone(int threads = 0, int sharers = 1) const;

  Task task() const;
  const std::vector<ClassInfo>& classes() const;
  std::string device() const;                // the one in use: "cpu", "cuda:0 (NVIDIA H200)"
  std::vector<std::string> devices() const;  // of this and its clones
  std::string precision() const;             // the one in use: "fp32", "tf32", "bf16" or "fp16"
  int threads() const;
  // The model file's JSON: architecture, preprocessing, classes, provenance.
  std::string config_json() const;
  std::uint64_t parameters() const;  // weights in the file, in elements
  std::uint64_t file_bytes() const;

  // Hears of what is done of a call: tiles of an image, documents of a list. What it throws ends
  // the call there and reaches the caller; the Session runs on.
  using Progress = std::function<void(std::int64_t done, std::int64_t all)>;

  // The mask of an image of any size from 1x1.
  Segmentation segment(const ImageView& image, const Progress& progress = {});
  // The masks of images of one size and type, in order: those of each alone, to the byte. As many
  // run as one as the plan says. `progress` hears of images.
  std::vector<Segmentation> segment(std::span<const ImageView> images,
                                    const Progress& progress = {});
  // Tiles and memory of an image of this size, before anything runs.
  SegmentationPlan plan(std::int64_t height, std::int64_t width);
  // Of a window, with its pixels of so many bytes, the caller's and the session's.
  SegmentationPlan plan(const SegmentationWindow& window, std::uint64_t pixel_bytes);

  // Windows that cover an image of this size, in reading order, each pixel in one of them; what
  // they read is at most `tile` pixels a side. They lie on the network's own grid (of pools, and of
  // convolutions that share their rounding), so that each gives the bytes of the whole; windows
  // that merely overlap do not. The image may be larger than any that segment() takes.
  std::vector<SegmentationWindow> windows(std::int64_t height, std::int64_t width,
                                          std::int64_t tile);
  // The window that keeps any rectangle of an image.
  SegmentationWindow window(std::int64_t image_height, std::int64_t image_width, std::int64_t y,
                            std::int64_t x, std::int64_t height, std::int64_t width);
  // Rows and columns of such windows; `window` gives each. Throws Error where none fit.
  WindowGrid window_grid(std::int64_t height, std::int64_t width, const WindowWish& wish);
  // What segment() gives of the rectangle that `window` keeps, from the pixels that it reads alone;
  // beyond the image's borders they are mirrored. `scale` is the whole image's, which a model needs
  // whose preprocessing depends on all pixels ("standardize", "min_max", a range of "auto"); others
  // take none. Throws Error for a model with steps that measure the image (of a package).
  Segmentation segment_window(const ImageView& pixels, const SegmentationWindow& window,
                              const PixelScale* scale = nullptr, const Progress& progress = {});
  bool needs_pixel_scale() const;
  // Of a whole image.
  PixelScale pixel_scale(const ImageView& image) const;
  // Of one that does not fit into memory: `rows`, called up to twice, gives all its rows in order,
  // some at a time.
  using RowReader = std::function<void(const std::function<void(const ImageView& rows)>& take)>;
  PixelScale pixel_scale(const RowReader& rows) const;

  // Input pixels down an image that the network itself takes, the smallest first; every image size
  // runs, because borders are mirrored.
  std::vector<std::int64_t> input_sizes(int count) const;

  // Throws where the document has no words.
  Classification classify(std::string_view text);
  // One answer per text, in order; one that has none carries its error.
  std::vector<Classification> classify(const std::vector<std::string_view>& texts,
                                       const Progress& progress = {});

  // From now on every run's node times are kept; `node_times` are those since the last call.
  void keep_node_times(bool keep);
  std::vector<NodeTime> node_times();

 private:
  struct Shared;
  struct State;
  friend class Model;
  explicit Session(std::unique_ptr<State> state);
  // As clone(), on the device that the options name at this place.
  Session clone_on(std::size_t place, int threads, int sharers) const;
  std::unique_ptr<State> state_;
};

// A model that any number of threads use at once, as in a server: the file is opened and its
// weights are packed once. A call takes a Session that is idle, or waits for one: there are as many
// as threads of the CPU, or kGpuSessions on each GPU. One caller has all threads of the CPU,
// several divide them, and the memory that `max_memory` allows is divided among the Sessions of a
// device. Of several GPUs each answers a part of a list; its progress is then heard on threads of
// the Model's, from one at a time.
class Model {
 public:
  static constexpr int kGpuSessions = 4;

  static Model open(const std::string& path, const SessionOptions& options = {});
  ~Model();
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;

  // What Session says of these.
  Session::Task task() const;
  const std::vector<ClassInfo>& classes() const;
  std::string device() const;  // all, by commas
  std::string precision() const;
  std::string config_json() const;
  std::uint64_t parameters() const;
  Segmentation segment(const ImageView& image, const Session::Progress& progress = {}) const;
  std::vector<Segmentation> segment(std::span<const ImageView> images,
                                    const Session::Progress& progress = {}) const;
  SegmentationPlan plan(std::int64_t height, std::int64_t width) const;
  std::vector<SegmentationWindow> windows(std::int64_t height, std::int64_t width,
                                          std::int64_t tile) const;
  SegmentationWindow window(std::int64_t image_height, std::int64_t image_width, std::int64_t y,
                            std::int64_t x, std::int64_t height, std::int64_t width) const;
  Segmentation segment_window(const ImageView& pixels, const SegmentationWindow& window,
                              const PixelScale* scale = nullptr,
                              const Session::Progress& progress = {}) const;
  SegmentationPlan plan(const SegmentationWindow& window, std::uint64_t pixel_bytes) const;
  WindowGrid window_grid(std::int64_t height, std::int64_t width, const WindowWish& wish) const;
  bool needs_pixel_scale() const;
  PixelScale pixel_scale(const ImageView& image) const;
  PixelScale pixel_scale(const Session::RowReader& rows) const;
  Classification classify(std::string_view text) const;
  std::vector<Classification> classify(const std::vector<std::string_view>& texts,
                                       const Session::Progress& progress = {}) const;

 private:
  struct State;
  class Lease;
  template <class Answer, class Input>
  std::vector<Answer> divided(std::span<const Input> all, const Session::Progress& progress) const;
  explicit Model(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace tessera
