// `tessera segment`: images in, masks and overlays out.
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <tuple>

#include "engine/device/machine.h"
#include "engine/files/atomic_file.h"
#include "models/model_digest.h"
#include "tools/program/image_data.h"
#include "tools/program/inputs.h"
#include "tools/program/program.h"
#include "tools/program/report.h"
#include "tools/program/segment_files.h"
#include "tools/program/segment_image.h"
#include "tools/program/segment_lanes.h"
#include "tools/program/segment_options.h"
#include "tools/program/segment_results.h"
#include "tools/program/segment_windows.h"

namespace tessera {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// Makes the folder and proves that it can be written, before hours of work rest on it.
void require_writable(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  require(!error, "cannot make the output folder '{}': {}; choose another with -o", folder.string(),
          error.message());
  const AtomicFile probe(folder / "tessera");
}

class SegmentRun {
 public:
  explicit SegmentRun(SegmentOptions& options)
      : options_(options),
        one_mask_(options.names_mask()),
        folder_(one_mask_ ? fs::path(options.output).parent_path() : fs::path(options.output)),
        shard_(parse_shard(options.shard)),
        windows_(parse_shard(options.windows, "--windows")),
        inputs_(find_inputs()),
        model_(options.model.path_or_demo(kDemoUNet)),
        report_(options.report, "images", inputs_.size()),
        session_(open_session()),
        results_(folder_, digest_of_model(model_, options_.model.foreign.read()),
                 deciding_options(), options.resume_choice()),
        lanes_(session_, max_memory_),
        in_batches_(options.batch > 1 || (options.batch == 0 && session_.device() != "cpu")) {
    options_.outputs.classes = session_.classes();
  }

  int run() {
    const auto begin = std::chrono::steady_clock::now();
    for (std::size_t first = 0; first < inputs_.size() && interrupted() == 0;) {
      const std::size_t left = inputs_.size() - first;
      if (!in_batches_ || session_.device() != "cpu") lanes_.open(left);
      std::size_t count = lanes_.images_at_once();
      if (count == 0) count = in_batches_ ? left : 1;
      count = std::min(count, left);
      segment(first, count);
      first += count;
    }
    if (const std::string line = results_.stale_line(); !line.empty()) report_.note(line);
    if (outdated_ > 0)
      report_.note(fmt::format("{} of an earlier run lie{} beside new results: '{}'{}",
                               outdated_ == 1 ? "1 file" : fmt::format("{} files", outdated_),
                               outdated_ == 1 ? "s" : "", first_outdated_.string(),
                               outdated_ == 1 ? "" : fmt::format(" and {} more", outdated_ - 1)));
    std::exception_ptr error;  // of a full disk, say: which images failed is said all the same
    try {
      write_summary(seconds_since(begin));
    } catch (...) {
      error = std::current_exception();
    }
    const int code = report_.finish();
    if (error) std::rethrow_exception(error);
    return code;
  }

 private:
  fs::path base_of(const Input& input) const {
    if (one_mask_) return fs::path(options_.output).replace_extension();
    return folder_ / names_.at(input.path);
  }

  std::vector<Input> find_inputs() {
    if (one_mask_) return {find_one()};
    std::vector<Input> all =
        expand_inputs(options_.inputs, is_image_name, "images",
                      {.path = folder_, .is_result = is_output_name}, is_image_folder);
    const std::vector<fs::path> names = result_names(all);
    std::vector<Input> mine;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (!shard_.owns(i)) continue;
      names_.emplace(all[i].path, names[i]);
      mine.push_back(std::move(all[i]));
    }
    require_no_foreign_masks(mine);
    return mine;
  }

  // Masks beside their images may be the user's own, which a new result would replace. A journal
  // says that results have been made there before.
  void require_no_foreign_masks(const std::vector<Input>& inputs) const {
    if (SegmentResults::has_journal(folder_)) return;
    for (const Input& input : inputs) {
      const fs::path base = base_of(input);
      std::error_code error;
      if (!fs::equivalent(fs::path(input.path).parent_path() / ".", base.parent_path(), error))
        continue;
      for (const fs::path& path : all_result_paths(base))
        require(!fs::exists(path, error),
                "'{}' is there already, and no journal of the folder says that Tessera made it; "
                "choose another "
                "folder with -o, or move the file",
                path.string());
    }
  }

  // The image of a mask that has a name of its own.
  Input find_one() {
    std::vector<Input> all =
        expand_inputs(options_.inputs, is_image_name, "images", {}, is_image_folder);
    if (all.size() != 1)
      throw UsageError(
          fmt::format("-o {}: a file is for the mask of one image, {} are given; name a "
                      "folder",
                      options_.output, all.size()));
    require_no_input("-o", options_.output, {all[0].path});
    options_.outputs.mask_ending = fs::path(options_.output).extension().string();
    return std::move(all[0]);
  }

  Session open_session() {
    if (folder_.empty()) folder_ = ".";
    require_writable(folder_);
    SessionOptions session = options_.model.session_options(options_.report.quiet);
    // Of each pixel: mask, overlay, and an object's label before and after counting.
    session.caller_bytes_per_pixel =
        1 + (options_.outputs.overlay ? 3 : 0) + (options_.outputs.instances ? 12 : 0);
    session.probabilities = options_.outputs.probabilities;
    session.batch = options_.batch;
    session.on_note = [this](std::string_view line) { report_.note(line); };
    max_memory_ = session.max_memory;
    Session opened = Session::open(model_, session);
    require(opened.task() == Session::Task::kSegment,
            "{}: this model classifies documents; give a UNet, or use 'tessera classify'", model_);
    if (const auto masks = trained_masks(opened); masks && options_.min_area->count() == 0)
      options_.outputs.instance_options.min_area = masks->min_area;
    return opened;
  }

  // What decides the bytes of a result beside image and model. Tiles, threads and memory do not.
  json deciding_options() const {
    json options = {{"precision", session_.precision()}};
    if (!options_.model.range.empty()) options["range"] = options_.model.range;
    if (options_.choice.level != 0) options["level"] = options_.choice.level;
    if (options_.choice.page) options["page"] = *options_.choice.page;
    if (options_.choice.channel) options["channel"] = *options_.choice.channel;
    if (options_.outputs.pyramid) options["pyramid"] = true;
    if (options_.outputs.instances) {
      const InstanceOptions& instances = options_.outputs.instance_options;
      options["connectivity"] = instances.connectivity;
      options["min_area"] = instances.min_area;
    }
    return options;
  }

  using Settle = std::function<void(std::size_t input, Outcome outcome)>;

  // Does `count` inputs from `first` on: the small ones in lanes, the others with all threads.
  // Results get their names in the order of the inputs, each as soon as those before it have
  // theirs.
  void segment(std::size_t first, std::size_t count) {
    std::vector<Outcome> outcomes(count);
    std::size_t finished = 0;
    const Settle settle = [&](std::size_t input, Outcome outcome) {
      const std::lock_guard lock(mutex_);
      outcomes[input - first] = std::move(outcome);
      for (; finished < count && outcomes[finished].is_there(); ++finished)
        finish(first + finished, outcomes[finished]);
    };
    lanes_.run(count, [&](std::size_t begin, std::size_t end, Session& lane) {
      return make(first + begin, first + end, lane, Size::kSmall, settle);
    });
    if (finished < count) lanes_.close();  // their memory is for the others
    while (finished < count && interrupted() == 0) {
      std::size_t end = finished + 1;
      while (end < count && !outcomes[end].is_there()) ++end;
      make(first + finished, first + end, session_, Size::kAny, settle);
    }
  }

  // Makes the inputs `begin` to `end` - 1, where batches pay those of one size that follow each
  // other as one. Returns how many are larger than `size`; they and those that fail in a lane,
  // which are tried again with all memory, are not settled.
  std::size_t make(std::size_t begin, std::size_t end, Session& session, Size size,
                   const Settle& settle) {
    std::size_t large = 0;
    std::vector<Waiting> waiting;
    for (std::size_t i = begin; i < end && interrupted() == 0; ++i) {
      try {
        Begun begun = begin_input(inputs_[i], size);
        if (in_batches_ && begun.reader && begun.reader->page_count() == 1 &&
            !wants_windows(*begun.reader, session, size)) {
          Image image = begun.reader->read(0);
          if (size == Size::kAny || lanes_.fits(session, image)) {
            const std::size_t most = batch_of(image, session);
            if (!waiting.empty() && size_of(image) != size_of(waiting[0].image))
              end_all(waiting, session, size, settle);
            waiting.push_back({i, std::move(begun), std::move(image)});
            if (waiting.size() >= most) end_all(waiting, session, size, settle);
            continue;
          }
          begun.made.reset();
        }
        end_all(waiting, session, size, settle);
        if (begun.made) begun.made = complete(inputs_[i], std::move(begun), session, size);
        if (begun.made) {
          settle(i, {std::move(begun.made)});
        } else {
          ++large;
        }
      } catch (...) {
        end_all(waiting, session, size, settle);
        if (size == Size::kAny) settle(i, {.error = std::current_exception()});
      }
    }
    end_all(waiting, session, size, settle);
    return large;
  }

  void finish(std::size_t i, Outcome& outcome) {
    const Input& input = inputs_[i];
    try {
      if (outcome.error) std::rethrow_exception(outcome.error);
      images_.push_back(commit(input, std::move(*outcome.result)));
      report_.success();
    } catch (const std::bad_alloc&) {
      report_.failure(input.name(), "out of memory; use --max-memory or a smaller --tile");
    } catch (const std::exception& error) {
      report_.failure(input.name(), error.what());
    }
    outcome = {};
    done_ = static_cast<double>(i + 1);
    report_.advance(done_);
  }

  // Segments the images that wait, and makes their results.
  void end_all(std::vector<Waiting>& waiting, Session& session, Size size, const Settle& settle) {
    if (waiting.empty()) return;
    std::vector<ImageView> views;
    for (const Waiting& one : waiting) views.push_back(view_of(one.image));
    std::vector<Segmentation> answers;
    try {
      if (size == Size::kAny)
        explain_plan(inputs_[waiting[0].at], waiting[0].image.height, waiting[0].image.width);
      answers = session.segment(views);
    } catch (const std::exception&) {
      // Each by itself tells what is wrong with it.
    }
    for (std::size_t k = 0; k < views.size(); ++k) {
      Waiting& one = waiting[k];
      try {
        SegmentFiles& files = begin_files(inputs_[one.at], 1, *one.begun.made);
        one.begun.made->sizes = {size_of(one.image)};
        files.add_page(one.image,
                       answers.empty() ? session.segment(views[k]) : std::move(answers[k]));
        end(files, seconds_since(one.begun.at) / static_cast<double>(views.size()),
            session.plan(one.image.height, one.image.width).tiles, inputs_[one.at],
            *one.begun.made);
        settle(one.at, {std::move(one.begun.made)});
      } catch (...) {
        if (size == Size::kAny) settle(one.at, {.error = std::current_exception()});
      }
    }
    waiting.clear();
  }

  static std::pair<std::int64_t, std::int64_t> size_of(const Image& image) {
    return {image.height, image.width};
  }

  // Images of this size that run as one.
  std::size_t batch_of(const Image& image, Session& session) {
    if (!in_batches_) return 1;
    const std::tuple key(&session, image.height, image.width);
    {
      const std::lock_guard lock(mutex_);
      if (const auto known = batches_.find(key); known != batches_.end()) return known->second;
    }
    const auto batch = static_cast<std::size_t>(session.plan(image.height, image.width).batch);
    const std::lock_guard lock(mutex_);
    return batches_[key] = batch;
  }

  // Opens an image, or finds its results. Nothing for a pipe that is to be `small`.
  Begun begin_input(const Input& input, Size size) {
    require(input.error.empty(), "{}", input.error);
    const fs::path base = base_of(input);
    Begun begun{std::unique_ptr<Segmented>(new Segmented{ImageSource(input)})};
    Segmented& result = *begun.made;
    // A pipe can be read once alone.
    if (size == Size::kSmall && result.source.stamp().is_null()) return {};
    if (auto entry = find_earlier(result.source, base)) {
      result.line = fmt::format("{}: done before -> {}", input.name(),
                                entry->at("files").back().get<std::string>());
      result.entry = std::move(*entry);
      return begun;
    }
    begun.reader.emplace(result.source.open());
    begun.reader->choose(options_.choice);
    std::error_code ignored;  // writing tells, with the name of the file
    fs::create_directories(base.parent_path(), ignored);
    return begun;
  }

  std::unique_ptr<Segmented> complete(const Input& input, Begun begun, Session& session,
                                      Size size) {
    if (!begun.reader) return std::move(begun.made);
    Segmented& result = *begun.made;
    ImageReader& reader = *begun.reader;
    if (wants_windows(reader, session, size)) {
      if (size == Size::kSmall) return nullptr;
      segment_in_windows(std::move(reader), input, result);
      return std::move(begun.made);
    }
    const std::int64_t pages = reader.page_count();
    SegmentFiles& files = begin_files(input, pages, result);
    std::int64_t tiles = 0, done_pages = 0;
    const auto progress = [&](std::int64_t done, std::int64_t all) {
      const double pages_done =
          static_cast<double>(done_pages) + static_cast<double>(done) / static_cast<double>(all);
      if (size == Size::kAny) report_.advance(done_ + pages_done / static_cast<double>(pages));
      if (done == all) tiles += all;
    };
    while (done_pages < pages) {
      std::vector<Image> images;
      images.push_back(reader.read(done_pages));
      if (size == Size::kSmall && !lanes_.fits(session, images[0])) return nullptr;
      for (std::int64_t next = done_pages + 1;
           next < pages && images.size() < batch_of(images[0], session); ++next) {
        images.push_back(reader.read(next));
        if (size_of(images.back()) == size_of(images[0])) continue;
        images.pop_back();
        break;
      }
      // Before the work, which may take long; images in lanes do not, and are told in their order.
      if (size == Size::kAny) explain_plan(input, images[0].height, images[0].width);
      if (images.size() == 1) {
        files.add_page(images[0], session.segment(view_of(images[0]), progress));
      } else {
        std::vector<ImageView> views;
        for (const Image& image : images) views.push_back(view_of(image));
        const std::vector<Segmentation> answers = session.segment(views);
        for (std::size_t i = 0; i < images.size(); ++i) files.add_page(images[i], answers[i]);
        tiles += session.plan(images[0].height, images[0].width).tiles *
                 static_cast<std::int64_t>(images.size());
      }
      for (const Image& image : images) result.sizes.push_back(size_of(image));
      done_pages += static_cast<std::int64_t>(images.size());
    }
    end(files, seconds_since(begun.at), tiles, input, result);
    return std::move(begun.made);
  }

  SegmentFiles& begin_files(const Input& input, std::int64_t pages, Segmented& result) {
    auto files = std::make_unique<SegmentFiles>(base_of(input), pages, options_.outputs);
    SegmentFiles& made = *files;
    result.files = std::move(files);
    return made;
  }

  static void end(SegmentFiles& files, double seconds, std::int64_t tiles, const Input& input,
                  Segmented& result) {
    files.finish();
    describe(files.statistics(), seconds, files.paths().back(), input, result);
    result.entry["tiles"] = tiles;
  }

  static void describe(const MaskStatistics& statistics, double seconds, const fs::path& mask,
                       const Input& input, Segmented& result) {
    result.entry = statistics.json();
    result.entry["seconds"] = seconds;
    result.line = fmt::format("{}: {}, {:.3f} s -> {}", input.name(), statistics.sentence(),
                              seconds, mask.string());
  }

  // Whether an image is made in windows: because the user says so, or because it does not fit.
  bool wants_windows(ImageReader& reader, Session& session, Size size) const {
    if (one_mask_ || !options_.windows.empty()) return true;
    if (!reader.reads_parts()) return false;
    const ImageLayout image = reader.layout();
    if (image.height > kMaxSamples / image.width / image.channels) return true;
    constexpr std::int64_t kAlwaysFits = 1 << 24;  // samples
    if (size == Size::kSmall || reader.page_count() > 1 ||
        image.height * image.width * image.channels < kAlwaysFits)
      return false;
    try {
      session.plan(image.height, image.width);
      return false;
    } catch (const Error&) {  // no tile is small enough beside the whole image
      return true;
    }
  }

  void segment_in_windows(ImageReader reader, const Input& input, Segmented& result) {
    const auto begin = std::chrono::steady_clock::now();
    auto files = std::make_unique<WindowedFiles>(
        std::move(reader), session_, options_.outputs,
        WindowJob{.base = base_of(input),
                  .made_from = results_.made_from(result.source),
                  .share = windows_,
                  .joins = windows_.count > 1,
                  .resumes = options_.resume_choice() != Resume::kNo});
    if (!files->note().empty()) report_.note(fmt::format("{}: {}", input.name(), files->note()));
    if (options_.outputs.overlay && options_.windows.empty())
      report_.note(
          fmt::format("{}: too large for memory; its mask is made in windows, without an "
                      "overlay",
                      input.name()));
    report_.detail(fmt::format("{}: {}", input.name(), files->explanation()));
    bool first = true;
    files->make([&](double done) {
      if (std::exchange(first, false)) report_.begin_at(done_ + done);
      report_.advance(done_ + done);
    });
    const std::int64_t finished = files->finished();
    const auto end_elsewhere = [&](const std::string& line) {
      result.entry = files->summary();
      result.line = fmt::format("{}: {}", input.name(), line);
    };
    if (finished < files->windows() && !files->made_elsewhere())
      return end_elsewhere(
          fmt::format("{} of {} windows are finished, the others are left to other "
                      "runs",
                      finished, files->windows()));
    try {
      files->assemble();
    } catch (const Error&) {
      if (!files->made_elsewhere()) throw;
      return end_elsewhere("done by another run -> " + files->paths().back().string());
    }
    describe(files->statistics(), seconds_since(begin), files->paths().back(), input, result);
    result.entry.update(files->summary());
    result.files = std::move(files);
  }

  // Nothing for an image that was asked for before: what is stale is counted once.
  std::optional<json> find_earlier(const ImageSource& source, const fs::path& base) {
    const std::lock_guard lock(mutex_);
    if (!looked_up_.insert(base).second) return std::nullopt;
    return results_.find(source, base, options_.outputs);
  }

  // Gives results their names, and tells of them: in the order of the inputs. Returns the
  // summary's entry.
  json commit(const Input& input, Segmented result) {
    for (const auto& [height, width] : result.sizes) explain_plan(input, height, width);
    if (result.files) {
      if (!results_.commit(*result.files, result.source, base_of(input), result.entry))
        report_.note(fmt::format("{}: changed while it was read", input.name()));
      for (const fs::path& file : result.files->paths())
        result.entry["files"].push_back(file.string());
      result.files->clean_up();
      note_outdated(base_of(input), result.files->paths());
      if (options_.report.verbose)
        report_.detail(fmt::format("  memory: peak {}", format_bytes(peak_resident_bytes())));
    }
    if (!options_.report.quiet && !options_.report.json) report_.result(result.line);
    result.entry["input"] = input.name();
    return std::move(result.entry);
  }

  // What an earlier run with other options left beside a new mask is of another image or model.
  void note_outdated(const fs::path& base, const std::vector<fs::path>& made) {
    if (one_mask_) return;
    std::error_code ignored;
    for (const fs::path& path : all_result_paths(base)) {
      if (std::ranges::find(made, path) != made.end() || !fs::exists(path, ignored)) continue;
      if (outdated_++ == 0) first_outdated_ = path;
    }
  }

  // Once for each size of image: the next one of that size runs alike.
  void explain_plan(const Input& input, std::int64_t height, std::int64_t width) {
    if (!options_.report.verbose || !explained_.emplace(height, width).second) return;
    const SegmentationPlan plan = session_.plan(height, width);
    if (plan.batch > 1)
      report_.detail(fmt::format("{} images of {} x {} run as one", plan.batch, height, width));
    report_.detail(fmt::format(
        "{}: {} x {} in {} {}{} of up to {} x {}, {:.0f} % of the work done twice, on {}; "
        "memory: weights {}, maps {}, images {}, predicted peak {}",
        input.name(), height, width, plan.tiles, plan.bands ? "band" : "tile",
        plan.tiles == 1 ? "" : "s", plan.tile_height, plan.tile_width,
        100 * std::max(0.0, 1 - 1 / plan.work), session_.device(), format_bytes(plan.weights),
        format_bytes(plan.arena), format_bytes(plan.images), format_bytes(plan.peak)));
  }

  void write_summary(double seconds) {
    json failed = json::array();
    for (const Report::Failure& failure : report_.failures())
      failed.push_back({{"input", failure.input}, {"error", failure.line}});
    const json summary = {{"program", program_version()},
                          {"model", model_},
                          {"device", fmt::format("{}", fmt::join(session_.devices(), ", "))},
                          {"precision", session_.precision()},
                          {"threads", session_.threads()},
                          {"seconds", seconds},
                          {"interrupted", interrupted() != 0},
                          {"images", std::move(images_)},
                          {"failed", std::move(failed)}};
    const std::string text = summary.dump(2, ' ', false, json::error_handler_t::replace);
    if (options_.report.json) {
      report_.result(text);
    } else if (!one_mask_) {
      const std::string name =
          shard_.count == 1 ? "summary.json"
                            : fmt::format("summary.{}-of-{}.json", shard_.index, shard_.count);
      write_text(folder_ / name, text + "\n");
    }
  }

  SegmentOptions& options_;
  bool one_mask_;    // -o names its file
  fs::path folder_;  // of results
  Shard shard_;
  Shard windows_;                          // of each image, that are made here
  std::map<std::string, fs::path> names_;  // of results, by the input's path
  std::vector<Input> inputs_;
  std::string model_;
  std::uint64_t max_memory_ = 0;  // bytes; 0: no limit is set
  Report report_;
  Session session_;
  SegmentResults results_;
  SegmentLanes lanes_;
  bool in_batches_;  // images of one size as one
  // Of images, by session, height and width.
  std::map<std::tuple<const Session*, std::int64_t, std::int64_t>, std::size_t> batches_;
  std::set<fs::path> looked_up_;  // results of earlier runs
  std::mutex mutex_;              // of what lanes share: results_, report_, images_
  json images_ = json::array();   // of the summary
  double done_ = 0;               // images
  std::set<std::pair<std::int64_t, std::int64_t>> explained_;
  std::size_t outdated_ = 0;  // files of earlier runs
  fs::path first_outdated_;
};

}  // namespace

Verb make_segment_verb(CLI::App& program) {
  const auto options = std::make_shared<SegmentOptions>();
  CLI::App& command = *program.add_subcommand("segment", "masks and overlays of images");
  options->add_to(command);
  return {&command, [options] {
            while (options->output.size() > 1 && options->output.ends_with('/'))
              options->output.pop_back();  // "mask.zarr/"
            options->outputs.overlay = !options->no_overlay && !options->names_mask();
            catch_interrupts();
            return SegmentRun(*options).run();
          }};
}

}  // namespace tessera
