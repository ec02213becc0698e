// What the results of a batch were made from: one line for each, written as soon as it is made, so
// that --resume after any end keeps those alone that would come out the same again.
//
// A line is `CHECK KEY JSON`: a digest of the rest, what the result is known by, and its record.
// Lines that are torn or foreign are passed over, of several with one key the last counts. Several
// processes of one machine may write to one journal. Deleting it costs a resumed run its results.
#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "engine/files/line_file.h"

namespace tessera {

class Journal {
 public:
  // Goes on with the journal at `path`, or makes it; unless `resume`, nothing of it is found.
  // `model` is the model's digest, `options` what else decides the results. Throws Error where the
  // journal cannot be written.
  Journal(const std::filesystem::path& path, const std::string& model,
          const nlohmann::json& options, bool resume);
  ~Journal();

  // The record of the result `key` (a name or a digest) if it was made by this model and these
  // options; else nothing, and a result of others is counted as stale.
  std::optional<nlohmann::json> find(std::string_view key);
  bool has(std::string_view key) const;
  // Says that a result is about to be replaced: whatever was recorded of it no longer holds.
  void begin(std::string_view key);
  void add(std::string_view key, nlohmann::json record);

  // What every record says that is added now.
  nlohmann::json made_from() const;

  // A result that is there but of no use, for `reason`: "another image".
  void count_stale(const std::string& reason) { ++stale_[reason]; }
  // "done again: 3 images (2 for another model, 1 for another image)"; empty where none is.
  std::string stale_line(const std::string& unit) const;

 private:
  struct Place {
    std::uint64_t offset;
    std::size_t bytes;
  };
  void read(const std::filesystem::path& path);
  void write(std::string_view key, const nlohmann::json& record);

  std::string model_, options_;                    // digests
  std::unordered_map<std::string, Place> places_;  // records of an earlier run, by digested key
  std::ifstream records_;
  LineFile lines_;
  bool unsynced_ = false;
  std::chrono::steady_clock::time_point synced_ = std::chrono::steady_clock::now();
  std::map<std::string, std::size_t> stale_;
};

}  // namespace tessera
