// `tessera segment` of Zarr stores and pyramids, into OME-Zarr labels and TIFF pyramids: the pixels
// are those that a PNG of the same picture gives.
#include <algorithm>

#include "models/image/image_io.h"
#include "models/image/tiff.h"
#include "models/image/zarr_labels.h"
#include "tests/support/cli.h"

namespace tessera {
namespace {

using namespace test;
using testing::AllOf;
using testing::HasSubstr;

class ZarrCli : public Cli {
 protected:
  // A bare array.
  void write_zarr(const std::string& name, const Image& image) {
    fs::create_directories(at(name).parent_path());
    ZarrLabels writer(at("labels.zarr"), folder_, image.height, image.width, image.pixels, {});
    writer.write(0, 0, image);
    writer.commit();
    fs::remove_all(at(name));
    fs::rename(at("labels.zarr/0"), at(name));
    fs::remove_all(at("labels.zarr"));
  }

  std::vector<std::uint8_t> pixels(const std::string& name, std::int64_t level = 0) const {
    ImageReader reader(at(name));
    reader.choose({.level = level});
    return std::get<std::vector<std::uint8_t>>(reader.read().pixels);
  }
  std::vector<std::uint8_t> expected(const Image& image) {
    fs::create_directories(at("whole"));
    write_png(at("whole/x.png"), image);
    EXPECT_EQ(run(segment({"whole/x.png", "-o", "whole", "--no-overlay"})).code, 0);
    return pixels("whole/x.mask.png");
  }
  static Image halved(const Image& image) {
    const auto& all = std::get<std::vector<std::uint8_t>>(image.pixels);
    std::vector<std::uint8_t> half;
    for (std::int64_t y = 0; y < image.height; y += 2)
      for (std::int64_t x = 0; x < image.width; x += 2)
        half.push_back(all[static_cast<std::size_t>(y * image.width + x)]);
    return {(image.height + 1) / 2, (image.width + 1) / 2, 1, std::move(half)};
  }
};

TEST_F(ZarrCli, GivesTheBytesOfTheWhole) {
  for (const auto& [height, width] : {std::pair{1300, 1100}, {512, 513}, {3, 700}}) {
    const Image image = texture(height, width);
    const auto whole = expected(image);
    write_zarr("in/x.zarr", image);
    for (const char* const mask : {"mask.zarr", "mask.tif"}) {
      fs::remove_all(at(mask));
      const Result result = run(segment({"in/x.zarr", "-o", mask, "--tile", "640", "--json"}));
      ASSERT_EQ(result.code, 0) << result.err;
      EXPECT_TRUE(pixels(mask) == whole) << mask;
      const json entry = json::parse(result.out).at("images").at(0);
      EXPECT_EQ(entry.at("classes").at(1).at("pixels"), std::ranges::count(whole, 1));
      EXPECT_LE(entry.at("reads").get<double>(), 1.2);
      EXPECT_FALSE(fs::exists(at(std::string(mask) + ".windows")));
    }
    const json attributes = json::parse(read_text(at("mask.zarr/.zattrs")));
    EXPECT_EQ(attributes.at("image-label").at("properties").at(1).at("class"), "cell");
    EXPECT_EQ(attributes.at("multiscales").at(0).at("axes").at(1).at("name"), "x");
    // As one piece, and named like a folder.
    const Result result = run(segment({"in/x.zarr/", "-o", "out"}));
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_TRUE(pixels("out/x.mask.png") == whole);
  }
}

TEST_F(ZarrCli, ProcessesShareAStoreAndGoOn) {
  const Image image = texture(1100, 1600);
  const auto whole = expected(image);
  write_zarr("in/x.zarr", image);
  const auto part = [&](const char* words, std::vector<std::string> more = {}) {
    more.insert(more.begin(),
                {"in/x.zarr", "-o", "mask.zarr/", "--tile", "640", "--windows", words});
    return run(segment(std::move(more)));
  };
  EXPECT_THAT(part("1/2").out, HasSubstr("6 of 12 windows are finished"));
  EXPECT_FALSE(fs::exists(at("mask.zarr")));
  EXPECT_THAT(part("2/2").out, HasSubstr("-> mask.zarr"));
  EXPECT_TRUE(pixels("mask.zarr") == whole);
  EXPECT_THAT(part("1/2").out, HasSubstr("done before"));
  // Another chunk is another image.
  const Image other = texture(1100, 1599);
  write_zarr("in/x.zarr", other);
  Result refused = part("1/1");
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("has 1100 x 1600 pixels, so it is no mask of this image"));
  fs::remove_all(at("mask.zarr"));
  fs::remove(at("in/x.zarr/0/0"));
  Image hole = other;
  for (std::size_t y = 0; y < 512; ++y)
    std::fill_n(std::get<std::vector<std::uint8_t>>(hole.pixels).begin() +
                    static_cast<std::ptrdiff_t>(y * 1599),
                512, std::uint8_t{0});
  ASSERT_EQ(part("1/1").code, 0);
  EXPECT_TRUE(pixels("mask.zarr") == expected(hole));
  EXPECT_THAT(part("1/1").out, HasSubstr("done before"));
  write_bytes(at("in/x.zarr/1/1"), "no zlib");
  refused = part("1/1");
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("damaged Zarr chunk 'in/x.zarr/1/1'"));
  EXPECT_TRUE(fs::exists(at("mask.zarr/.zattrs")));
}

TEST_F(ZarrCli, OutlivesKills) {
  const Image image = texture(1600, 1600);
  const auto whole = expected(image);
  write_zarr("in/x.zarr", image);
  const auto words = [&] {
    return segment({"in/x.zarr", "-o", "mask.zarr", "--tile", "640", "--resume", "--instances",
                    "--threads", "1"});
  };
  const double seconds = time_of(words());
  fs::remove_all(at("mask.zarr"));
  fs::remove(at("tessera.journal"));
  kill_until_done(words, seconds);
  EXPECT_TRUE(pixels("mask.zarr") == whole);
  ASSERT_EQ(run(segment({"whole/x.png", "-o", "whole", "--no-overlay", "--instances"})).code, 0);
  EXPECT_TRUE(ImageReader(at("mask.instances.zarr")).read().pixels ==
              ImageReader(at("whole/x.instances.tif")).read().pixels);
  EXPECT_FALSE(fs::exists(at("mask.zarr.windows")));
}

TEST_F(ZarrCli, LevelsAreReadAndWritten) {
  const Image image = texture(1300, 1501);
  fs::create_directories(at("in"));
  TiledTiffWriter writer(at("in/x.tif"), image.height, image.width, image.pixels, true);
  writer.write(0, 0, image);
  writer.commit();
  const Image half = halved(image), quarter = halved(half);
  EXPECT_TRUE(pixels("in/x.tif", 1) == std::get<std::vector<std::uint8_t>>(half.pixels));
  EXPECT_TRUE(pixels("in/x.tif", 2) == std::get<std::vector<std::uint8_t>>(quarter.pixels));

  const auto whole = expected(half);
  for (const char* const mask : {"mask.tif", "mask.zarr"}) {
    const Result result =
        run(segment({"in/x.tif", "-o", mask, "--tile", "640", "--level", "1", "--pyramid"}));
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_TRUE(pixels(mask) == whole);
    const Image levels = halved({650, 751, 1, whole});
    EXPECT_TRUE(pixels(mask, 1) == std::get<std::vector<std::uint8_t>>(levels.pixels));
    EXPECT_THAT(run(segment({"in/x.tif", "-o", mask, "--tile", "640", "--level", "1", "--pyramid",
                             "--resume"}))
                    .out,
                HasSubstr("done before"));
  }
  EXPECT_EQ(run(segment({"in/x.tif", "-o", "out", "--level", "2"})).code, 0);
  EXPECT_TRUE(pixels("out/x.mask.png") == expected(quarter));
  expect_error(run(segment({"in/x.tif", "-o", "out", "--level", "3"})), 1,
               "--level 3: it has 0: 1300 x 1501, 1: 650 x 751, 2: 325 x 376");
  expect_error(run(segment({"whole/x.png", "-o", "out", "--level", "1"})), 1, "one level alone");
  expect_error(run(segment({"whole/x.png", "-o", "out", "--channel", "0"})), 1,
               "it is no TIFF and no Zarr store");
  expect_error(run(segment({"in/x.tif", "-o", "out", "--page", "1"})), 1, "page 1 of 1");
}

TEST_F(ZarrCli, StoresOfAFolderAreImages) {
  const Image image = texture(60, 70);
  write_zarr("in/deep/x.zarr", image);
  make_image("in/y.png");
  fs::create_directories(at("in/deep/broken.zarr"));
  write_bytes(at("in/deep/broken.zarr/.zattrs"), "{");
  ZarrLabels labels(at("in/labels.zarr"), folder_, 60, 70, image.pixels, {});
  labels.write(0, 0, image);
  labels.commit();
  const Result result = run(segment({"in", "-o", "masks", "--no-overlay"}));
  EXPECT_EQ(result.code, 3) << result.err;
  EXPECT_THAT(result.err, AllOf(HasSubstr("in/deep/broken.zarr"), HasSubstr("no JSON from")));
  EXPECT_TRUE(pixels("masks/deep/x.mask.png") == expected(image));
  EXPECT_TRUE(fs::exists(at("masks/y.mask.png")));
  EXPECT_FALSE(fs::exists(at("masks/labels.mask.png")));
  // What is no store of labels is not replaced.
  expect_error(run(segment({"in/y.png", "-o", "in/deep/x.zarr"})), 1, "no labels of OME-Zarr");
  expect_error(run(segment({"in/deep/x.zarr", "-o", "in/deep/x.zarr"})), 2,
               "this file is read too");
}

}  // namespace
}  // namespace tessera
