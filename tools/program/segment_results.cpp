#include "tools/program/segment_results.h"

#include <sys/stat.h>

#include <algorithm>
#include <iostream>
#include <iterator>

#include "engine/files/digest.h"
#include "kernels/error.h"
#include "models/image/zarr.h"

namespace tessera {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr const char* kJournal = "tessera.journal";

std::int64_t nanoseconds(const timespec& time) {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// The time of change is set by the system alone: with it a file whose other time was put back is
// told, too. Of a folder, a Zarr store, all files together: their number, bytes and latest times.
json stamp_of(const fs::path& path, bool is_result) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return nullptr;
  if (S_ISDIR(status.st_mode)) {
    json all = {{"files", 0}, {"size", 0}, {"modified", 0}};
    if (!is_result) all["changed"] = 0;
    for (const fs::path& file : zarr_files(path)) {
      const json one = stamp_of(file, is_result);
      if (one.is_null()) continue;  // gone meanwhile
      all["files"] = all["files"].get<std::int64_t>() + 1;
      all["size"] = all["size"].get<std::int64_t>() + one["size"].get<std::int64_t>();
      for (const char* const time : {"modified", "changed"})
        if (one.contains(time))
          all[time] = std::max(all[time].get<std::int64_t>(), one[time].get<std::int64_t>());
    }
    return all;
  }
  if (!S_ISREG(status.st_mode)) return nullptr;
  json stamp = {{"size", status.st_size}, {"modified", nanoseconds(status.st_mtim)}};
  if (!is_result) stamp["changed"] = nanoseconds(status.st_ctim);
  return stamp;
}

// Of a file's bytes, or of those of all files of a Zarr store and their names.
std::string digest_of_image(const fs::path& path) {
  if (!fs::is_directory(path)) return digest_of_file(path);
  Digest digest;
  for (const fs::path& file : zarr_files(path))
    digest.add(file.lexically_relative(path).string() + '\0').add_file(file);
  return digest.hex();
}

// The numbers of a mask that is there.
json reread(const fs::path& mask, const SegmentOutputs& outputs) {
  MaskStatistics statistics(outputs);
  ImageReader reader(mask);
  for (std::int64_t page = 0; page < reader.page_count(); ++page) {
    const Image image = reader.read(page);
    const auto* ids = std::get_if<std::vector<std::uint8_t>>(&image.pixels);
    require(ids != nullptr && image.channels == 1, "'{}' is no mask of this model", mask.string());
    statistics.add_page({ids->begin(), ids->end()}, image.height, image.width);
  }
  return statistics.json();
}

}  // namespace

ImageSource::ImageSource(const Input& input) : input_(input) {
  if (!input.is_stdin()) {
    stamp_ = stamp_of(input.path, false);
    return;
  }
  bytes_.assign(std::istreambuf_iterator<char>(std::cin), {});
  bytes_digest_ = digest_of({reinterpret_cast<const char*>(bytes_.data()), bytes_.size()});
  stamp_ = {{"size", bytes_.size()}};
}

ImageReader ImageSource::open() {
  if (!input_.is_stdin()) return ImageReader(input_.path);
  return ImageReader(std::move(bytes_), input_.name());
}

bool ImageSource::is_unchanged() const {
  return input_.is_stdin() || stamp_of(input_.path, false) == stamp_;
}

std::string ImageSource::digest() const {
  return input_.is_stdin() ? bytes_digest_ : digest_of_image(input_.path);
}

SegmentResults::SegmentResults(const fs::path& folder, const std::string& model,
                               const json& options, Resume resume)
    : folder_(folder),
      resume_(resume),
      journal_(folder / kJournal, model, options, resume != Resume::kNo) {}

bool SegmentResults::has_journal(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder / kJournal, ignored);
}

std::string SegmentResults::key_of(const fs::path& base) const {
  return base.lexically_relative(folder_).string();
}

bool SegmentResults::same_image(const ImageSource& source, json& record, const std::string& key) {
  if (source.stamp().is_null()) return false;
  const json& before = record["source"];
  const bool same_stamp = source.stamp() == before;
  if (same_stamp && source.stamp().contains("modified") && resume_ != Resume::kStrict) return true;
  if (source.digest() != record.value("digest", json())) return false;
  if (!same_stamp) {  // so that the next run need not read it
    record["source"] = source.stamp();
    journal_.add(key, record);
  }
  return true;
}

std::optional<json> SegmentResults::find(const ImageSource& source, const fs::path& base,
                                         const SegmentOutputs& wanted) {
  if (resume_ == Resume::kNo) return std::nullopt;
  const std::string key = key_of(base);
  if (!journal_.has(key) &&
      (fs::exists(mask_path(base, false, wanted)) || fs::exists(mask_path(base, true, wanted))))
    journal_.count_stale("an unknown origin");
  std::optional<json> record = journal_.find(key);
  if (!record) return std::nullopt;
  try {
    SegmentOutputs made = wanted;
    if (record->at("entry").contains("windows")) made = windowed(wanted);
    const bool stack = record->at("files").contains(suffix_of(mask_path(base, true, made), base));
    const std::vector<fs::path> files = result_paths(base, stack, made);
    if (!std::ranges::all_of(files, [](const fs::path& file) { return fs::exists(file); }))
      return std::nullopt;
    if (!same_image(source, *record, key)) {
      journal_.count_stale("another image");
      return std::nullopt;
    }
    bool mask_as_written = true;
    for (const fs::path& file : files) {
      const json now = stamp_of(file, true);
      const json& written = record->at("files").at(suffix_of(file, base));
      if (file == files.back()) {
        mask_as_written = now == written;
      } else if (now.at("size") != written.at("size")) {
        journal_.count_stale("a changed result");
        return std::nullopt;
      }
    }
    json entry = mask_as_written ? record->at("entry") : reread(files.back(), made);
    for (const fs::path& file : files) entry["files"].push_back(file.string());
    entry["resumed"] = true;
    return entry;
  } catch (const std::exception&) {  // a record of strange content, or a mask that is no mask
    journal_.count_stale("a damaged result");
    return std::nullopt;
  }
}

json SegmentResults::made_from(const ImageSource& source) const {
  require(!source.stamp().is_null(), "a pipe cannot be segmented in windows; save it as a file");
  const bool by_bytes = resume_ == Resume::kStrict || !source.stamp().contains("modified");
  json all = journal_.made_from();
  all["source"] = by_bytes ? json(source.digest()) : source.stamp();
  return all;
}

bool SegmentResults::commit(ResultFiles& files, const ImageSource& source, const fs::path& base,
                            const json& entry) {
  const std::string key = key_of(base);
  journal_.begin(key);
  files.commit();
  if (source.stamp().is_null()) return true;  // a pipe is never told to be the same
  json record = {{"source", source.stamp()}, {"digest", source.digest()}, {"entry", entry}};
  if (!source.is_unchanged()) return false;
  for (const fs::path& file : files.paths())
    record["files"][suffix_of(file, base)] = stamp_of(file, true);
  journal_.add(key, std::move(record));
  return true;
}

}  // namespace tessera
