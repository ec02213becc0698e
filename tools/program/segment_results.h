// What `segment --resume` may keep: results whose image, model and options are still the same, as
// the journal in the output folder tells.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "models/image/image_io.h"
#include "tools/program/inputs.h"
#include "tools/program/journal.h"
#include "tools/program/segment_files.h"

namespace tessera {

enum class Resume {
  kNo,
  kYes,     // an image of the same size in bytes and the same times is the same
  kStrict,  // an image of the same bytes is the same
};

// An image's file, from the moment when it is first looked at.
class ImageSource {
 public:
  explicit ImageSource(const Input& input);

  ImageReader open();  // once
  // Size and times; nothing for what is no file (a pipe).
  const nlohmann::json& stamp() const { return stamp_; }
  bool is_unchanged() const;   // since then
  std::string digest() const;  // of its bytes

 private:
  const Input& input_;
  std::vector<std::uint8_t> bytes_;  // of the standard input
  std::string bytes_digest_;
  nlohmann::json stamp_;
};

class SegmentResults {
 public:
  // `model` is its digest, `options` are those that decide what is in the files.
  SegmentResults(const std::filesystem::path& folder, const std::string& model,
                 const nlohmann::json& options, Resume resume);

  // Whether results were made in the folder before.
  static bool has_journal(const std::filesystem::path& folder);

  // The summary's entry of `base` if its result is there, whole, and what the image would give
  // again. A mask that somebody has changed since is kept, and its numbers are taken from it.
  std::optional<nlohmann::json> find(const ImageSource& source, const std::filesystem::path& base,
                                     const SegmentOutputs& wanted);

  // Gives the files their names and notes what they were made from. `entry` is the summary's.
  // Returns false where the image has changed meanwhile: then nothing is noted.
  bool commit(ResultFiles& files, const ImageSource& source, const std::filesystem::path& base,
              const nlohmann::json& entry);

  // What decides the bytes of a result: model, options and image; a strict run takes the image's
  // bytes for that.
  nlohmann::json made_from(const ImageSource& source) const;

  std::string stale_line() const { return journal_.stale_line("image"); }

 private:
  std::string key_of(const std::filesystem::path& base) const;
  bool same_image(const ImageSource& source, nlohmann::json& record, const std::string& key);

  std::filesystem::path folder_;
  Resume resume_;
  Journal journal_;
};

}  // namespace tessera
