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

inline Image cut_out(const Image& image, const ImageWindow& part) {
  return std::visit(
      [&]<class T>(const std::vector<T>& pixels) {
        std::vector<T> some;
        for (int64_t y = part.y0; y < part.y1; ++y) {
          const auto row = pixels.begin() + y * image.width * image.channels;
          some.insert(some.end(), row + part.x0 * image.channels, row + part.x1 * image.channels);
        }
        return Image{part.y1 - part.y0, part.x1 - part.x0, image.channels, std::move(some)};
      },
      image.pixels);
}

// A page as a whole, and parts of it: corners, the middle, single rows, columns and pixels.
inline void expect_reads(ImageReader reader, const Image& expected, int64_t page = 0) {
  expect_equal(reader.read(page), expected);
  const ImageLayout layout = reader.layout(page);
  EXPECT_EQ(layout.height, expected.height);
  EXPECT_EQ(layout.width, expected.width);
  EXPECT_EQ(layout.channels, expected.channels);
  EXPECT_EQ(layout.sample_bytes,
            std::visit([](const auto& pixels) { return static_cast<int64_t>(sizeof(pixels[0])); },
                       expected.pixels));
  const int64_t h = expected.height, w = expected.width;
  for (const ImageWindow& part :
       {ImageWindow{0, 0, h, w}, ImageWindow{h / 3, w / 4, h, w},
        ImageWindow{0, w / 2, h / 2 + 1, w}, ImageWindow{h / 2, 0, h / 2 + 1, w},
        ImageWindow{0, w - 1, h, w}, ImageWindow{h / 3, w / 3, (2 * h + 2) / 3, (2 * w + 2) / 3},
        ImageWindow{h - 1, 0, h, 1}}) {
    expect_equal(reader.read_part(part, page), cut_out(expected, part));
  }
}

inline Image read_bytes(Bytes bytes, int64_t max_samples = kMaxSamples) {
  return ImageReader(std::move(bytes), "test", max_samples).read();
}

}  // namespace tessera::test
