// Images that are read part by part, so that they may be larger than memory.
#pragma once

#include <algorithm>
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

// The length of the chunks that [begin, end) touches, as far as they lie in [0, all).
inline int64_t whole_chunks(int64_t begin, int64_t end, int64_t chunk, int64_t all) {
  return std::min((end + chunk - 1) / chunk * chunk, all) - begin / chunk * chunk;
}

// The most samples (height x width x channels) of an image of which no part that is read has more
// than kMaxSamples.
inline constexpr int64_t kMaxSamplesInParts = int64_t{1} << 50;

}  // namespace tessera
