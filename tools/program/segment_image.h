// One image on its way through `tessera segment`.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "models/image/image_io.h"
#include "tools/program/segment_files.h"
#include "tools/program/segment_results.h"

namespace tessera {

// An image and what became of it, before anything of that has its name.
struct Segmented {
  ImageSource source;
  std::unique_ptr<ResultFiles> files =
      nullptr;  // none: an earlier result is kept, or others end it
  std::vector<std::pair<std::int64_t, std::int64_t>> sizes = {};  // of its pages: height, width
  nlohmann::json entry = {};                                      // of the summary
  std::string line = {};                                          // on the standard output
};

// An image that is open, or whose results are there: then it has no reader.
struct Begun {
  std::unique_ptr<Segmented> made = nullptr;
  std::optional<ImageReader> reader = std::nullopt;
  std::chrono::steady_clock::time_point at = std::chrono::steady_clock::now();
};

// An image that waits for others of its size.
struct Waiting {
  std::size_t at;  // of the inputs
  Begun begun;
  Image image;
};

// Of an image: its result, or what went wrong; neither where it is not done yet.
struct Outcome {
  std::unique_ptr<Segmented> result = nullptr;
  std::exception_ptr error = nullptr;

  bool is_there() const { return result != nullptr || error != nullptr; }
};

// Which images are done: those that fit a lane (tools/program/segment_lanes.h), or all.
enum class Size { kSmall, kAny };

}  // namespace tessera
