#include "tools/program/journal.h"

#include <algorithm>

#include "engine/files/digest.h"
#include "kernels/error.h"

namespace tessera {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// To be raised when the same model, options and input give other results than before.
constexpr int kFormat = 1;

constexpr std::size_t kCheckDigits = 8, kKeyDigits = 32;
constexpr std::size_t kPrefix = kCheckDigits + 1 + kKeyDigits + 1;
constexpr auto kSyncEvery = std::chrono::seconds(5);  // what a loss of power costs at most

std::string check_of(std::string_view text) {
  return digest_of(text).substr(0, kCheckDigits);
}

std::string text_of(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

Journal::Journal(const fs::path& path, const std::string& model, const json& options, bool resume)
    : model_(model), options_(digest_of(text_of(options))), lines_(path) {
  if (resume) read(path);
}

Journal::~Journal() {
  try {
    if (unsynced_) lines_.sync();
  } catch (const Error&) {  // the results are there, and a resumed run makes again what it misses
  }
}

void Journal::read(const fs::path& path) {
  records_.open(path, std::ios::binary);
  std::uint64_t offset = 0;
  for (std::string line; std::getline(records_, line); offset += line.size() + 1) {
    const std::string_view text = line;
    const bool whole = !records_.eof() && text.size() > kPrefix && text[kCheckDigits] == ' ' &&
                       text[kPrefix - 1] == ' ' &&
                       text.substr(0, kCheckDigits) == check_of(text.substr(kCheckDigits + 1));
    if (whole) {
      places_[line.substr(kCheckDigits + 1, kKeyDigits)] = {offset + kPrefix,
                                                            text.size() - kPrefix};
    }
  }
}

bool Journal::has(std::string_view key) const {
  return places_.contains(digest_of(key));
}

std::optional<json> Journal::find(std::string_view key) {
  const auto place = places_.find(digest_of(key));
  if (place == places_.end()) return std::nullopt;
  std::string text(place->second.bytes, '\0');
  records_.clear();
  records_.seekg(static_cast<std::streamoff>(place->second.offset));
  records_.read(text.data(), static_cast<std::streamsize>(text.size()));
  json record = json::parse(text, nullptr, false);
  if (!record.is_object() || record.empty()) return std::nullopt;  // begun, and not ended
  const char* reason = record.value("format", json()) != kFormat     ? "another version"
                       : record.value("model", json()) != model_     ? "another model"
                       : record.value("options", json()) != options_ ? "other options"
                                                                     : nullptr;
  if (reason == nullptr) return record;
  count_stale(reason);
  return std::nullopt;
}

void Journal::begin(std::string_view key) {
  write(key, json::object());
}

void Journal::add(std::string_view key, json record) {
  record.update(made_from());
  write(key, record);
}

json Journal::made_from() const {
  return {{"format", kFormat}, {"model", model_}, {"options", options_}};
}

void Journal::write(std::string_view key, const json& record) {
  const std::string text = digest_of(key) + ' ' + text_of(record);
  lines_.append(check_of(text) + ' ' + text);
  const auto now = std::chrono::steady_clock::now();
  unsynced_ = now - synced_ < kSyncEvery;
  if (unsynced_) return;
  lines_.sync();
  synced_ = now;
}

std::string Journal::stale_line(const std::string& unit) const {
  std::size_t count = 0;
  std::string reasons;
  for (const auto& [reason, times] : stale_) {
    count += times;
    reasons += fmt::format("{}{} for {}", reasons.empty() ? "" : ", ", times, reason);
  }
  if (count == 0) return "";
  return fmt::format("done again: {} {}{} ({})", count, unit, count == 1 ? "" : "s", reasons);
}

}  // namespace tessera
