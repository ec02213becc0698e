// Zarr stores: those that the zarr package wrote (tools/golden/make_zarr_goldens.py), damaged ones,
// and those that are written here.
#include "models/image/zarr.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "models/image/pixel_source.h"
#include "models/image/zarr_codecs.h"
#include "models/image/zarr_labels.h"
#include "tests/support/image_files.h"
#include "tests/support/paths.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using namespace test;
using nlohmann::json;
using testing::HasSubstr;

constexpr int64_t kHeight = 37, kWidth = 53;

// What the generator's `picture` has, for planes of t, z and channels of c.
template <class T>
Image picture(std::vector<int64_t> channels = {0}, int64_t t = 0, int64_t z = 0, int64_t step = 1) {
  std::vector<T> pixels;
  for (int64_t y = 0; y < kHeight; y += step) {
    for (int64_t x = 0; x < kWidth; x += step) {
      for (const int64_t c : channels) {
        const int64_t value = (91 * t + 31 * c + 57 * z + 7 * y + 13 * x) % 251;
        if constexpr (std::is_floating_point_v<T>) {
          pixels.push_back(static_cast<T>(value) * 0.25f);
        } else {
          pixels.push_back(
              static_cast<T>(static_cast<T>(value) * static_cast<T>(sizeof(T) == 1   ? 1
                                                                    : sizeof(T) == 2 ? 257
                                                                                     : 65537)));
        }
      }
    }
  }
  return {(kHeight + step - 1) / step, (kWidth + step - 1) / step, std::ssize(channels),
          std::move(pixels)};
}

// With the chunk of the first rows and last columns gone.
template <class T>
Image with_hole(T fill) {
  Image image = picture<T>();
  auto& pixels = std::get<std::vector<T>>(image.pixels);
  for (int64_t y = 0; y < 24; ++y) std::fill_n(pixels.begin() + y * kWidth + 32, kWidth - 32, fill);
  return image;
}

fs::path golden(const std::string& name) {
  return source_dir() / "tests/golden/zarr" / (name + ".zarr");
}

class ZarrFiles : public test::ImageFiles {
 protected:
  // A copy that may be spoilt.
  fs::path copy(const std::string& name) {
    const fs::path to = folder_ / (name + ".zarr");
    fs::remove_all(to);
    fs::copy(golden(name), to, fs::copy_options::recursive);
    return to;
  }
  // A copy whose metadata have been changed by `change`.
  template <class Change>
  fs::path changed(const std::string& name, const char* file, Change&& change) {
    const fs::path to = copy(name);
    json metadata = json::parse(std::ifstream(to / file));
    change(metadata);
    std::ofstream(to / file) << metadata.dump();
    return to;
  }
  static std::string error_of_reading(const fs::path& path) {
    return error_of([&] { ImageReader(path).read(); });
  }
};

TEST_F(ZarrFiles, OfEveryCodecAreRead) {
  expect_reads(ImageReader(golden("v2_none")), picture<uint8_t>());
  expect_reads(ImageReader(golden("v2_zlib_big_endian")), picture<uint16_t>());
  expect_reads(ImageReader(golden("v2_gzip")), picture<float>());
  expect_reads(ImageReader(golden("v2_zstd")), picture<uint32_t>());
  expect_reads(ImageReader(golden("v2_blosc_lz4")), picture<uint16_t>());
  expect_reads(ImageReader(golden("v2_blosc_bits")), picture<float>());
  expect_reads(ImageReader(golden("v2_fortran")), picture<uint8_t>({0, 1, 2}));
  expect_reads(ImageReader(golden("v2_missing")), with_hole<uint8_t>(9));
  expect_reads(ImageReader(golden("v3_none")), picture<uint16_t>());
  expect_reads(ImageReader(golden("v3_big_endian")), picture<uint16_t>());
  expect_reads(ImageReader(golden("v3_zstd_crc")), picture<float>());
  expect_reads(ImageReader(golden("v3_crc_zstd")), picture<uint8_t>());
  expect_reads(ImageReader(golden("v3_blosc")), picture<uint16_t>());
  expect_reads(ImageReader(golden("v3_names")), picture<uint16_t>({0, 1, 2}));
  expect_reads(ImageReader(golden("v3_missing")), with_hole<uint16_t>(9 * 257));
  expect_reads(ImageReader(golden("v3_old_keys")), picture<uint16_t>());
  expect_reads(ImageReader(golden("v3_shards")), picture<uint8_t>({0, 1, 2}));
}

TEST_F(ZarrFiles, PlanesArePagesAndChannelsAreChosen) {
  ImageReader planes(golden("ome04_planes"));
  ASSERT_EQ(planes.page_count(), 4);
  for (int64_t page = 0; page < 4; ++page)
    expect_reads(ImageReader(golden("ome04_planes")),
                 picture<uint16_t>({0, 1, 2}, page / 2, page % 2), page);
  EXPECT_THAT(error_of([&] { PixelSource source{ImageReader(golden("ome04_planes"))}; }),
              HasSubstr("is a stack of 4 pages"));
  planes.choose({.page = 2, .channel = 1});
  EXPECT_EQ(planes.page_count(), 1);
  expect_reads(std::move(planes), picture<uint16_t>({1}, 1, 0));
  EXPECT_THAT(error_of([&] { ImageReader(golden("ome04_planes")).choose({.page = 4}); }),
              HasSubstr("page 4 of 4"));

  const fs::path four = golden("ome05_channels");
  EXPECT_THAT(error_of_reading(four),
              HasSubstr("4 channels, expected 1 (grey) or 3 (RGB); choose"));
  for (const int64_t channel : {0, 3}) {
    ImageReader one(four);
    one.choose({.channel = channel});
    expect_reads(std::move(one), picture<uint16_t>({channel}));
  }
  EXPECT_THAT(error_of([&] { ImageReader(four).choose({.channel = 4}); }),
              HasSubstr("--channel 4: it has 4 channels"));
}

TEST_F(ZarrFiles, LevelsAreChosen) {
  for (const auto& [level, step] : {std::pair{0, 1}, {1, 2}, {2, 4}}) {
    ImageReader reader(golden("ome04_planes"));
    reader.choose({.level = level, .page = 1});
    expect_reads(std::move(reader), picture<uint16_t>({0, 1, 2}, 0, 1, step));
  }
  EXPECT_THAT(error_of([&] { ImageReader(golden("ome04_planes")).choose({.level = 3}); }),
              HasSubstr("--level 3: it has 0: 37 x 53, 1: 19 x 27, 2: 10 x 14"));
  EXPECT_THAT(error_of([&] { ImageReader(golden("v2_none")).choose({.level = 1}); }),
              HasSubstr("one level alone"));
  const fs::path odd = changed("ome04_planes", ".zattrs", [](json& attributes) {
    json& levels = attributes["multiscales"][0]["datasets"];
    std::swap(levels[0], levels[1]);
  });
  ImageReader(odd).read();
  EXPECT_THAT(error_of([&] { ImageReader(odd).choose({.level = 1}); }),
              HasSubstr("the levels of its pyramid disagree: 0: 19 x 27, 1: 37 x 53"));
}

TEST_F(ZarrFiles, DamagedChunksAreErrors) {
  for (const char* const name : {"v2_zlib_big_endian/0/1", "v2_gzip/0.1", "v2_zstd/0.1",
                                 "v2_blosc_lz4/0.1", "v3_zstd_crc/c/0/1", "v3_crc_zstd/c/0/1",
                                 "v3_blosc/c/0/1", "v3_shards/c/0/1/0", "v3_none/c/0/1"}) {
    const std::string chunk = name;
    const size_t slash = chunk.find('/');
    const auto spoil = [&](const auto& change) {
      const fs::path store = copy(chunk.substr(0, slash));
      Bytes bytes = load(store / chunk.substr(slash + 1));
      ASSERT_FALSE(bytes.empty());
      change(bytes);
      std::ofstream(store / chunk.substr(slash + 1), std::ios::binary)
          .write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
      EXPECT_THAT(error_of_reading(store), HasSubstr("damaged Zarr chunk")) << name;
    };
    spoil([](Bytes& bytes) { bytes.pop_back(); });
    spoil([](Bytes& bytes) { bytes.clear(); });
    spoil([](Bytes& bytes) { bytes.resize(bytes.size() + (size_t{1} << 20)); });
    const bool has_checksum = chunk.find("crc") != chunk.npos || chunk.find("zlib") != chunk.npos ||
                              chunk.find("gzip") != chunk.npos;
    if (!has_checksum) continue;
    spoil([](Bytes& bytes) {
      for (size_t i = bytes.size() / 3; i < bytes.size(); i += 5) bytes[i] ^= 0x55;
    });
  }
  // A chunk's place may be taken by something that must not be waited for.
  const fs::path store = copy("v2_none");
  fs::remove(store / "0.0");
  ASSERT_EQ(::mkfifo((store / "0.0").c_str(), 0600), 0);
  EXPECT_THAT(error_of_reading(store), HasSubstr("is no file"));
}

TEST_F(ZarrFiles, OtherKindsAreRefusedWithWords) {
  const auto v2 = [&](const char* key, json value) {
    return error_of_reading(
        changed("v2_none", ".zarray", [&](json& metadata) { metadata[key] = value; }));
  };
  EXPECT_THAT(v2("dtype", "<i2"), HasSubstr("of the type \"<i2\", expected uint8, uint16"));
  EXPECT_THAT(v2("dtype", json::array({1})), HasSubstr("of the type [1]"));
  EXPECT_THAT(v2("shape", {37, -1}), HasSubstr("whole numbers from 1"));
  EXPECT_THAT(v2("shape", {37, std::uint64_t{1} << 63}), HasSubstr("whole numbers from 1"));
  EXPECT_THAT(v2("shape", {1 << 30, 1 << 30}), HasSubstr("above the limit"));
  EXPECT_THAT(v2("shape", json::array()), HasSubstr("expected 1 to 8 extents"));
  EXPECT_THAT(v2("chunks", {24}), HasSubstr("chunks of 1 axes in an array of 2"));
  EXPECT_THAT(v2("chunks", {1 << 20, 1 << 20}), HasSubstr("above the limit of"));
  EXPECT_THAT(v2("chunks", {0, 32}), HasSubstr("whole numbers from 1"));
  EXPECT_THAT(v2("compressor", {{"id", "lz4"}}), HasSubstr("compressed by \"lz4\""));
  EXPECT_THAT(v2("filters", {{{"id", "delta"}}}), HasSubstr("with the filters"));
  EXPECT_THAT(v2("fill_value", 256), HasSubstr("fill_value"));
  EXPECT_THAT(v2("order", "A"), HasSubstr("expected C or F"));
  EXPECT_THAT(v2("zarr_format", 1), HasSubstr("of the version 1, expected 2 or 3"));
  EXPECT_THAT(v2("dimension_separator", "../"), HasSubstr("expected . or /"));

  const auto v3 = [&](const auto& change) {
    return error_of_reading(changed("v3_shards", "zarr.json", change));
  };
  const auto codec = [](json& metadata, const json& value) { metadata["codecs"][0] = value; };
  EXPECT_THAT(v3([&](json& m) {
                codec(m, {{"name", "transpose"}});
              }),
              HasSubstr("its axes are stored in another order"));
  EXPECT_THAT(v3([&](json& m) {
                m["codecs"][0]["configuration"]["chunk_shape"] = {7, 16, 3};
              }),
              HasSubstr("cut into chunks of 7 x 16 x 3, expected a whole number"));
  EXPECT_THAT(v3([&](json& m) {
                m["codecs"][0]["configuration"]["index_codecs"][1] = {{"name", "zstd"}};
              }),
              HasSubstr("index of shards has the codecs"));
  EXPECT_THAT(v3([&](json& m) {
                m["codecs"][0]["configuration"]["codecs"].push_back({{"name", "gzip"}});
              }),
              HasSubstr("compressed twice"));
  EXPECT_THAT(v3([&](json& m) { m["data_type"] = "int16"; }), HasSubstr("of the type \"int16\""));
  EXPECT_THAT(v3([&](json& m) { m["chunk_grid"]["name"] = "rectilinear"; }),
              HasSubstr("expected regular"));

  const auto ome = [&](const auto& change) {
    return error_of_reading(changed("ome04_planes", ".zattrs", change));
  };
  const auto path = [&](const char* value) {
    return ome([&](json& a) { a["multiscales"][0]["datasets"][0]["path"] = value; });
  };
  for (const char* const outside :
       {"../ome04_planes.zarr/0", "/etc", "s0/../../x", "", "s0//x", "."})
    EXPECT_THAT(path(outside), HasSubstr("expected one inside of it")) << outside;
  EXPECT_THAT(path("elsewhere"), HasSubstr("has no .zarray or zarr.json of an array"));
  EXPECT_THAT(ome([](json& a) { a["multiscales"][0]["axes"].erase(0); }),
              HasSubstr("of 5 axes, 2 x 3 x 2 x 37 x 53, whose metadata name 4: c, z"));
  EXPECT_THAT(ome([](json& a) { a["multiscales"][0]["axes"][0]["name"] = "y"; }),
              HasSubstr("expected y and x, each once"));
  EXPECT_THAT(ome([](json& a) { a = {{"plate", 1}}; }), HasSubstr("it is a plate"));
  EXPECT_THAT(error_of_reading(folder_), HasSubstr("or the folder of a Zarr store"));
  std::ofstream(copy("v2_none") / ".zarray") << "{";
  EXPECT_THAT(error_of_reading(folder_ / "v2_none.zarr"), HasSubstr("no JSON from column"));
  std::ofstream(copy("v2_none") / ".zarray") << std::string(100000, '[');
  EXPECT_THAT(error_of_reading(folder_ / "v2_none.zarr"), HasSubstr("objects of more than"));
}

TEST_F(ZarrFiles, NoSampleIsReadTwiceByWindowsSideBySide) {
  const Image image = random_image<uint8_t>(900, 3000, 1);
  ZarrLabels writer(folder_ / "a.zarr", folder_, 900, 3000, image.pixels, {});
  writer.write(0, 0, image);
  writer.commit();
  PixelSource source{ImageReader(folder_ / "a.zarr")};
  for (int64_t x = 0; x < 3000; x += 1024) {
    const auto window = [&](int64_t begin) {
      return ImageWindow{0, std::max<int64_t>(0, begin - 60), 900,
                         std::min<int64_t>(3000, begin + 1024 + 60)};
    };
    const Image read = *source.read(window(x), x + 1024 < 3000 ? window(x + 1024) : ImageWindow{});
    expect_equal(read, cut_out(image, window(x)));
  }
  EXPECT_EQ(source.pixels_read(), 900 * 3000);
}

TEST_F(ZarrFiles, AreWrittenWithLevels) {
  for (const auto& [height, width] :
       {std::pair<int64_t, int64_t>{1, 1}, {512, 513}, {1100, 2500}}) {
    const Image image = random_image<uint16_t>(height, width, 1);
    ZarrLabels writer(folder_ / "a.zarr", folder_, height, width, image.pixels,
                      {{.id = 0, .name = "ground", .rgb = {0, 0, 0}},
                       {.id = 1, .name = "cell", .rgb = {255, 0, 0}}});
    EXPECT_THAT(error_of([&] { writer.finish(); }), HasSubstr("lacks"));
    writer.write(0, 0, image);
    writer.finish();
    expect_reads(ImageReader(writer.path()), image);
    EXPECT_FALSE(fs::exists(folder_ / "a.zarr"));
    writer.commit();
    expect_reads(ImageReader(folder_ / "a.zarr"), image);
    const int64_t smaller = halvings(height, width, TiledWriter::kTile);
    ImageReader reader(folder_ / "a.zarr");
    ASSERT_EQ(std::ssize(reader.levels()), smaller + 1);
    Image expected = image;
    for (int64_t level = 1; level <= smaller; ++level) {
      const auto& larger = std::get<std::vector<uint16_t>>(expected.pixels);
      std::vector<uint16_t> half;
      for (int64_t y = 0; y < expected.height; y += 2)
        for (int64_t x = 0; x < expected.width; x += 2)
          half.push_back(larger[static_cast<size_t>(y * expected.width + x)]);
      expected = {(expected.height + 1) / 2, (expected.width + 1) / 2, 1, half};
      ImageReader one(folder_ / "a.zarr");
      one.choose({.level = level});
      expect_reads(std::move(one), expected);
    }
    EXPECT_EQ(names(), (std::vector<std::string>{"a.zarr"}));
    fs::remove_all(folder_ / "a.zarr");
  }
}

TEST_F(ZarrFiles, ReplaceLabelsOfTheSameSizeAlone) {
  const Image first = random_image<uint8_t>(30, 40, 1),
              second = random_image<uint8_t>(30, 40, 1, 2);
  for (const Image& image : {first, second}) {
    ZarrLabels writer(folder_ / "a.zarr", folder_, 30, 40, image.pixels, {});
    writer.write(0, 0, image);
    writer.commit();
    expect_reads(ImageReader(folder_ / "a.zarr"), image);
  }
  {  // that are not finished leave nothing
    ZarrLabels writer(folder_ / "a.zarr", folder_, 30, 40, first.pixels, {});
  }
  expect_reads(ImageReader(folder_ / "a.zarr"), second);
  EXPECT_EQ(names(), (std::vector<std::string>{"a.zarr"}));
  const auto begin = [&](const char* name, int64_t height) {
    return error_of([&] { require_zarr_labels_may_be(folder_ / name, height, 40); });
  };
  EXPECT_THAT(begin("a.zarr", 31), HasSubstr("has 30 x 40 pixels, so it is no mask of this image"));
  fs::create_directory(folder_ / "b.zarr");
  EXPECT_THAT(begin("b.zarr", 30), HasSubstr("no labels of OME-Zarr"));
  std::ofstream(folder_ / "c.zarr") << "x";
  EXPECT_THAT(begin("c.zarr", 30), HasSubstr("no labels of OME-Zarr"));
  copy("v2_none");
  EXPECT_THAT(begin("v2_none.zarr", 30), HasSubstr("no labels of OME-Zarr"));
}

TEST(ZarrCodecs, ChecksumsAndZlibAreThoseOfOthers) {
  // "123456789" has the CRC-32C e3069283 (RFC 3720's polynomial, as every catalogue lists it).
  std::vector<uint8_t> bytes{'1', '2', '3', '4', '5', '6', '7', '8', '9', 0x83, 0x92, 0x06, 0xe3};
  const ZarrCodec crc[] = {ZarrCodec::kCrc32c};
  EXPECT_EQ(decode_zarr(crc, bytes, 9).size(), 9u);
  bytes[0] ^= 1;
  EXPECT_THAT(error_of([&] { decode_zarr(crc, bytes, 9); }), HasSubstr("its CRC-32C is"));
  const ZarrCodec zlib[] = {ZarrCodec::kZlib};
  EXPECT_EQ(decode_zarr(zlib, encode_zlib(bytes), bytes.size()), bytes);
  EXPECT_THAT(error_of([&] { decode_zarr(zlib, encode_zlib(bytes), bytes.size() - 1); }),
              HasSubstr("it has more"));
}

}  // namespace
}  // namespace tessera
