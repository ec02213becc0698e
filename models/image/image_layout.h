// Images that are read part by part, so that they may be larger than memory.
#pragma once

#include <cstdint>

namespace tessera {

// What is known of an image before its pixels are read.
struct ImageLayout {
  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 0;
  int64_t sample_bytes = 1;
  int64_t chunk_height = 1;  // what is decoded at once, at least
  int64_t chunk_width = 1;
};

// The most samples (height x width x channels) of an image of which no part that is read has more
// than kMaxSamples.
inline constexpr int64_t kMaxSamplesInParts = int64_t{1} << 50;

}  // namespace tessera
