// What tests of image files share: a folder for each, bytes, and images to compare.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "models/image/image_io.h"
#include "tests/support/error.h"
#include "tests/support/temp_folder.h"

namespace tessera::test {

using Bytes = std::vector<uint8_t>;

// A folder of its own for each test, removed with it.
class ImageFiles : public testing::Test {
 protected:
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      result.push_back(entry.path().filename().string());
    }
    return result;
  }

  const TempFolder scratch_;
  const std::filesystem::path folder_ = scratch_.path();
};

inline Bytes load(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

template <class T>
Image random_image(int64_t height, int64_t width, int64_t channels, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::vector<T> pixels(static_cast<size_t>(height * width * channels));
  for (T& value : pixels) value = static_cast<T>(random());
  return {height, width, channels, std::move(pixels)};
}

inline void expect_equal(const Image& a, const Image& b) {
  EXPECT_EQ(a.height, b.height);
  EXPECT_EQ(a.width, b.width);
  EXPECT_EQ(a.channels, b.channels);
  EXPECT_EQ(pixel_type_name(a), pixel_type_name(b));
  EXPECT_TRUE(a.pixels == b.pixels);
}

inline Image read_bytes(Bytes bytes, int64_t max_samples = kMaxSamples) {
  return ImageReader(std::move(bytes), "test", max_samples).read();
}

}  // namespace tessera::test
