// What of a TIFF is a page: directories, overviews, volumes, and planes that only a text tells of.
#include "models/image/tiff_stack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <tiffio.h>
#include <zlib.h>

#include <iterator>

#include "tests/support/tiff_files.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using namespace test;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

using TiffFiles = test::ImageFiles;

// ---- what is a page ----------------------------------------------------------------------------

// A file of directories, each of 4 x 4 pixels of its own value.
void write_directories(const fs::path& path, const std::vector<uint32_t>& kinds,
                       const char* description = nullptr) {
  TIFF* file = TIFFOpen(path.c_str(), "w");
  for (size_t i = 0; i < kinds.size(); ++i) {
    TIFFSetField(file, TIFFTAG_SUBFILETYPE, kinds[i]);
    TIFFSetField(file, TIFFTAG_IMAGEWIDTH, 4);
    TIFFSetField(file, TIFFTAG_IMAGELENGTH, 4);
    TIFFSetField(file, TIFFTAG_BITSPERSAMPLE, 8);
    TIFFSetField(file, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
    TIFFSetField(file, TIFFTAG_ROWSPERSTRIP, 4);
    TIFFSetField(file, TIFFTAG_COMPRESSION, COMPRESSION_LZW);
    if (i == 0 && description != nullptr) TIFFSetField(file, TIFFTAG_IMAGEDESCRIPTION, description);
    Bytes pixels(16, static_cast<uint8_t>(i));
    ASSERT_EQ(TIFFWriteEncodedStrip(file, 0, pixels.data(), 16), 16);
    ASSERT_EQ(TIFFWriteDirectory(file), 1);
  }
  TIFFClose(file);
}

// The values of the pages' first pixels.
std::vector<int> first_pixels(const fs::path& path) {
  ImageReader reader(path);
  std::vector<int> values;
  for (int64_t page = 0; page < reader.page_count(); ++page)
    values.push_back(std::get<std::vector<uint8_t>>(reader.read(page).pixels)[0]);
  return values;
}

TEST_F(TiffFiles, OverviewsAndMasksAreNoPages) {
  const fs::path path = folder_ / "a.tif";
  constexpr uint32_t kPage = FILETYPE_PAGE, kOverview = FILETYPE_REDUCEDIMAGE,
                     kMask = FILETYPE_MASK;
  write_directories(path, {0, kOverview, kOverview});
  EXPECT_THAT(first_pixels(path), ElementsAre(0));
  write_directories(path, {kPage, kOverview, kPage, kOverview | kMask, kMask, 0});
  EXPECT_THAT(first_pixels(path), ElementsAre(0, 2, 5));
  write_directories(path, {kOverview, 0});
  EXPECT_THAT(first_pixels(path), ElementsAre(1));
  write_directories(path, {kOverview});  // cut out of a pyramid: the picture that there is
  EXPECT_THAT(first_pixels(path), ElementsAre(0));
  write_directories(path, {kOverview, kOverview});
  EXPECT_THAT(error_of([&] { first_pixels(path); }),
              AllOf(HasSubstr("2 directories"), HasSubstr("NewSubfileType")));
}

// Pyramids whose levels are not marked: each is tiled and a half of the one before it.
TEST_F(TiffFiles, TiledHalvesOfTheFirstPictureAreNoPages) {
  struct Size {
    uint32_t width, height;
  };
  const fs::path path = folder_ / "a.tif";
  const auto pages_of = [&](const std::vector<Size>& sizes, bool tiled, const char* mode = "w") {
    TIFF* file = TIFFOpen(path.c_str(), mode);
    for (size_t i = 0; i < sizes.size(); ++i) {
      TIFFSetField(file, TIFFTAG_IMAGEWIDTH, sizes[i].width);
      TIFFSetField(file, TIFFTAG_IMAGELENGTH, sizes[i].height);
      TIFFSetField(file, TIFFTAG_BITSPERSAMPLE, 8);
      TIFFSetField(file, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
      Bytes pixels(16 * 16, static_cast<uint8_t>(i));
      if (tiled) {
        TIFFSetField(file, TIFFTAG_TILEWIDTH, 16);
        TIFFSetField(file, TIFFTAG_TILELENGTH, 16);
        for (uint32_t tile = 0; tile < TIFFNumberOfTiles(file); ++tile)
          EXPECT_EQ(TIFFWriteEncodedTile(file, tile, pixels.data(), 256), 256);
      } else {
        TIFFSetField(file, TIFFTAG_ROWSPERSTRIP, 1);
        for (uint32_t y = 0; y < sizes[i].height; ++y)
          EXPECT_EQ(TIFFWriteEncodedStrip(file, y, pixels.data(), sizes[i].width), sizes[i].width);
      }
      EXPECT_EQ(TIFFWriteDirectory(file), 1);
    }
    TIFFClose(file);
    return first_pixels(path);
  };
  for (const char* mode : {"wl", "wb", "w8"}) {
    EXPECT_THAT(pages_of({{67, 35}, {33, 17}, {17, 9}, {8, 4}}, true, mode), ElementsAre(0));
  }
  EXPECT_THAT(pages_of({{64, 32}, {64, 32}, {32, 16}}, true), ElementsAre(0, 1));
  EXPECT_THAT(pages_of({{64, 32}, {16, 8}}, true), ElementsAre(0));
  // Pictures of other sizes, and those in strips, are pages.
  EXPECT_THAT(pages_of({{64, 32}, {32, 32}, {40, 20}, {32, 8}, {64, 16}}, true),
              ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(pages_of({{64, 32}, {128, 64}}, true), ElementsAre(0, 1));
  EXPECT_THAT(pages_of({{64, 32}, {32, 16}}, false), ElementsAre(0, 1));
}

// ---- planes without directories ----------------------------------------------------------------

// (planes, height, width, samples) and what a file says of them.
struct HandMade {
  const char* name;
  std::string description;
  int64_t planes;
  int64_t samples;
  int64_t bits;
  bool separate = false;
};

TEST_F(TiffFiles, PlanesBehindOneDirectoryAreAllPages) {
  const HandMade kCases[] = {
      {"ImageJ", "ImageJ=1.54f\nimages=5\nslices=5\nloop=false\n", 5, 1, 8},
      {"ImageJ's time", "ImageJ=1.54f\nimages=6\nslices=2\nframes=3\nhyperstack=true\n", 6, 1, 16},
      {"ImageJ's colours", "ImageJ=1.54f\nimages=3\nslices=3\n", 3, 3, 8},
      {"ImageJ's floats", "ImageJ=1.54f\nimages=4\n", 4, 1, 32},
      {"tifffile", R"({"shape": [2, 2, 5, 7], "truncated": true})", 4, 1, 16},
      {"tifffile's planes", R"({"shape": [2, 3, 5, 7], "truncated": true})", 2, 3, 8, true},
  };
  for (const HandMade& one : kCases) {
    for (const bool big : {false, true}) {
      SCOPED_TRACE(fmt::format("{}, big-endian {}", one.name, big));
      const int64_t count = one.planes * 5 * 7 * one.samples;
      const auto check = [&]<class T>(T) {
        const Image all = random_image<T>(1, count, 1);
        const auto& values = std::get<std::vector<T>>(all.pixels);
        Bytes pixels;
        for (const T value : values) {
          const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
          if (big) {
            pixels.insert(pixels.end(), std::reverse_iterator(bytes + sizeof(T)),
                          std::reverse_iterator(bytes));
          } else {
            pixels.insert(pixels.end(), bytes, bytes + sizeof(T));
          }
        }
        const auto u32 = [](int64_t value) { return static_cast<uint32_t>(value); };
        const Bytes bytes = hand_made({{kWidth, 3, 1, 7},
                                       {kLength, 3, 1, 5},
                                       {kBits, 3, 1, u32(one.bits)},
                                       {kPhotometric, 3, 1, one.samples == 3 ? 2u : 1u},
                                       {kDescription, 2, 0, 0, one.description},
                                       {kSamples, 3, 1, u32(one.samples)},
                                       {kPlanar, 3, 1, one.separate ? 2u : 1u},
                                       {kSampleFormat, 3, 1, one.bits == 32 ? 3u : 1u}},
                                      pixels, big);
        ImageReader reader(bytes, "stack");
        ASSERT_EQ(reader.page_count(), one.planes);
        for (const int64_t page : {one.planes - 1, int64_t{0}, int64_t{1}}) {
          const int64_t plane = 5 * 7 * one.samples;
          std::vector<T> expected;
          for (int64_t i = 0; i < plane; ++i) {
            const int64_t at = one.separate ? i % 3 * 35 + i / 3 : i;
            expected.push_back(values[static_cast<size_t>(page * plane + at)]);
          }
          const Image whole{5, 7, one.samples, std::move(expected)};
          expect_equal(reader.read(page), whole);
          expect_equal(reader.read_part({1, 2, 4, 6}, page), cut_out(whole, {1, 2, 4, 6}));
        }
        // A byte less, and the last plane is not there.
        const Bytes cut(bytes.begin(), bytes.end() - 1);
        EXPECT_THAT(error_of([&] { ImageReader(cut, "cut"); }),
                    AllOf(HasSubstr(fmt::format("has {} planes", one.planes)),
                          HasSubstr(fmt::format("room for {} planes", one.planes - 1))));
      };
      if (one.bits == 8) check(uint8_t{});
      if (one.bits == 16) check(uint16_t{});
      if (one.bits == 32) check(float{});
    }
  }
}

TEST_F(TiffFiles, MetaMorphCountsPlanesByATag) {
  const Image all = random_image<uint8_t>(1, 3 * 35, 1);
  const auto& values = std::get<std::vector<uint8_t>>(all.pixels);
  constexpr uint16_t kUic2 = 33629;
  const Bytes bytes = hand_made(
      {{kWidth, 3, 1, 7}, {kLength, 3, 1, 5}, {kUic2, 5, 3, 0, std::string(3 * 24, '\1')}}, values);
  ImageReader reader(bytes, "stack");
  ASSERT_EQ(reader.page_count(), 3);
  expect_equal(reader.read(2), {5, 7, 1, std::vector<uint8_t>(values.begin() + 70, values.end())});
}

// Tiles of a volume hold several slices; libtiff decodes the first alone.
TEST_F(TiffFiles, SlicesOfAVolumeArePages) {
  const fs::path path = folder_ / "a.tif";
  constexpr uint32_t kDepth = 5, kHeight = 20, kWidthOfAll = 40;
  const auto value = [](uint32_t z, uint32_t y, uint32_t x) {
    return static_cast<uint16_t>(1000 * z + 40 * y + x);
  };
  for (const uint32_t deep : {1u, 2u, 5u}) {
    for (const uint16_t compression : {COMPRESSION_NONE, COMPRESSION_ADOBE_DEFLATE}) {
      for (const char* mode : {"w", "wb"}) {
        SCOPED_TRACE(fmt::format("{} slices, compression {}, {}", deep, compression, mode));
        TIFF* file = TIFFOpen(path.c_str(), mode);
        TIFFSetField(file, TIFFTAG_IMAGEWIDTH, kWidthOfAll);
        TIFFSetField(file, TIFFTAG_IMAGELENGTH, kHeight);
        TIFFSetField(file, TIFFTAG_IMAGEDEPTH, kDepth);
        TIFFSetField(file, TIFFTAG_TILEWIDTH, 32);
        TIFFSetField(file, TIFFTAG_TILELENGTH, 16);
        TIFFSetField(file, TIFFTAG_TILEDEPTH, deep);
        TIFFSetField(file, TIFFTAG_BITSPERSAMPLE, 16);
        TIFFSetField(file, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
        TIFFSetField(file, TIFFTAG_COMPRESSION, compression);
        uint32_t tile = 0;
        for (uint32_t z0 = 0; z0 < kDepth; z0 += deep) {
          for (uint32_t y0 = 0; y0 < kHeight; y0 += 16) {
            for (uint32_t x0 = 0; x0 < kWidthOfAll; x0 += 32, ++tile) {
              Bytes pixels;
              for (uint32_t z = z0; z < z0 + deep; ++z) {
                for (uint32_t y = y0; y < y0 + 16; ++y) {
                  for (uint32_t x = x0; x < x0 + 32; ++x) {
                    const uint16_t sample = value(z, y, x);
                    const bool big = mode[1] == 'b';
                    pixels.push_back(static_cast<uint8_t>(big ? sample >> 8 : sample & 255));
                    pixels.push_back(static_cast<uint8_t>(big ? sample & 255 : sample >> 8));
                  }
                }
              }
              if (compression != COMPRESSION_NONE) {
                uLongf size = compressBound(pixels.size());
                Bytes packed(size);
                ASSERT_EQ(compress(packed.data(), &size, pixels.data(), pixels.size()), Z_OK);
                packed.resize(size);
                pixels = packed;
              }
              const auto size = static_cast<tmsize_t>(pixels.size());
              ASSERT_EQ(TIFFWriteRawTile(file, tile, pixels.data(), size), size);
            }
          }
        }
        TIFFClose(file);
        ImageReader reader(path);
        ASSERT_EQ(reader.page_count(), kDepth);
        for (const uint32_t z : {0u, 4u, 1u, 3u, 2u}) {
          expect_equal(reader.read(z),
                       expected_image<uint16_t>(
                           kHeight, kWidthOfAll, 1,
                           [&](uint32_t y, uint32_t x, uint32_t) { return value(z, y, x); }));
        }
      }
    }
  }
  const Bytes strips =
      hand_made({{kWidth, 3, 1, 7}, {kLength, 3, 1, 5}, {TIFFTAG_IMAGEDEPTH, 3, 1, 3}}, Bytes(105));
  EXPECT_THAT(error_of([&] { ImageReader(strips, "strips"); }),
              AllOf(HasSubstr("3 slices"), HasSubstr("ImageDepth")));
}

TEST_F(TiffFiles, MissingPlanesAreRefusedWithTheNumbers) {
  const fs::path path = folder_ / "a.tif";
  const auto open = [&](size_t directories, const char* description) {
    write_directories(path, std::vector<uint32_t>(directories), description);
    ImageReader{path};
  };
  const auto error = [&](size_t directories, const char* description) {
    return error_of([&] { open(directories, description); });
  };
  EXPECT_THAT(error(1, "ImageJ=1.54f\nimages=5\nslices=5\n"),
              AllOf(HasSubstr("ImageJ says that this TIFF has 5 planes (1 channel, 5 slices, 1 "
                              "frame), but it has 1 directory with 1"),
                    HasSubstr("it is compressed")));
  EXPECT_THAT(error(3, "ImageJ=1.54f\nimages=5\nslices=5\n"), HasSubstr("3 directories with 3"));
  EXPECT_THAT(error(1, R"({"shape": [5, 4, 4]})"), HasSubstr("shape 5 x 4 x 4"));
  EXPECT_THAT(error(1, R"({"shape": [-5, 4, 4]})"), HasSubstr("a shape with -5"));
  EXPECT_THAT(error(2, R"({"shape": [5, 4, 4], "truncated": true})"), HasSubstr("2 directories"));
  EXPECT_THAT(error(2, "ImageJ=1.54f\nimages=6\nchannels=2\nslices=3\n"),
              HasSubstr("2 channels, 3 slices, 1 frame"));
  // All there, or a text that is of another image.
  EXPECT_NO_THROW(open(5, "ImageJ=1.54f\nimages=5\nslices=5\n"));
  EXPECT_NO_THROW(open(6, R"({"shape": [2, 3, 4, 4]})"));
  EXPECT_NO_THROW(open(1, R"({"shape": [5, 4, 3]})"));
  EXPECT_NO_THROW(open(1, "ImageJ=1.54f\nmin=0\nmax=255\n"));
  EXPECT_NO_THROW(open(1, "images=5"));
}

// ---- OME-XML -----------------------------------------------------------------------------------

std::string ome(std::string_view inside, std::string_view root = "") {
  return fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<OME xmlns=\"http://x/2016-06\" "
      "{}><Image ID=\"Image:0\">{}</Image></OME>",
      root, inside);
}

std::string pixels(int channels, int slices, int frames, std::string_view inside = "") {
  return fmt::format(
      "<Pixels DimensionOrder=\"XYCZT\" SizeX=\"4\" SizeY=\"4\" SizeC=\"{}\" "
      "SizeZ=\"{}\" SizeT=\"{}\">{}</Pixels>",
      channels, slices, frames, inside);
}

TEST(OmeXml, SaysWhatIsAPlaneAndWhatAChannel) {
  const PlaneSize grey{4, 4, 1}, rgb{4, 4, 3};
  const auto stack = describe_stack(ome(pixels(1, 5, 2)), grey);
  ASSERT_TRUE(stack.has_value());
  EXPECT_EQ(stack->planes, 10);
  EXPECT_EQ(stack->channels, 1);
  EXPECT_FALSE(stack->other_files);
  EXPECT_FALSE(stack->one_directory);

  EXPECT_EQ(describe_stack(ome(pixels(3, 2, 1)), grey)->channels, 3);
  EXPECT_EQ(describe_stack(ome(pixels(3, 2, 1)), grey)->planes, 6);
  EXPECT_EQ(describe_stack(ome(pixels(3, 2, 1)), grey)->numbers, "3 channels, 2 slices, 1 frame");
  EXPECT_EQ(describe_stack(ome(pixels(3, 2, 1)), rgb)->channels, 1);
  EXPECT_EQ(describe_stack(ome(pixels(3, 2, 1)), rgb)->planes, 2);
  EXPECT_EQ(describe_stack(ome(pixels(6, 2, 1)), rgb)->channels, 2);
  EXPECT_EQ(describe_stack(ome(pixels(1, 2, 1) + pixels(1, 1, 4)), grey)->planes, 6);
  const std::string prefixed =
      "<ome:OME xmlns:ome=\"x\"><ome:Image><ome:Pixels SizeC=\"1\" SizeZ=\"7\" SizeT=\"1\"/>"
      "</ome:Image></ome:OME>";
  EXPECT_EQ(describe_stack(prefixed, grey)->planes, 7);

  // One file of a set: which channels it holds is told by the planes that name it.
  const auto part = [](int channel, const char* uuid) {
    return fmt::format(
        "<TiffData FirstC=\"{}\" IFD=\"0\" PlaneCount=\"1\"><UUID FileName=\"f\">"
        "urn:{}</UUID></TiffData>",
        channel, uuid);
  };
  const char* root = "UUID=\"urn:b\"";
  const auto set = describe_stack(ome(pixels(2, 1, 1, part(0, "a") + part(1, "b")), root), grey);
  EXPECT_TRUE(set->other_files);
  EXPECT_EQ(set->channels, 1);
  const auto both = describe_stack(ome(pixels(2, 1, 1, part(0, "b") + part(1, "b")), root), grey);
  EXPECT_FALSE(both->other_files);
  EXPECT_EQ(both->channels, 2);

  EXPECT_FALSE(describe_stack(ome("<BinaryOnly/>"), grey).has_value());
  EXPECT_FALSE(describe_stack("<svg></svg>", grey).has_value());
}

TEST_F(TiffFiles, OmeXmlIsHeldAgainstTheDirectories) {
  const fs::path path = folder_ / "a.tif";
  const auto open = [&](size_t directories, const std::string& text) {
    write_directories(path, std::vector<uint32_t>(directories), text.c_str());
    ImageReader{path}.page_count();
  };
  const auto error = [&](size_t directories, const std::string& text) {
    return error_of([&] { open(directories, text); });
  };
  EXPECT_NO_THROW(open(6, ome(pixels(1, 3, 2))));
  EXPECT_THAT(error(5, ome(pixels(1, 3, 2))),
              HasSubstr("OME-XML says that this TIFF has 6 planes (1 channel, 3 slices, 2 frames), "
                        "but it has 5 directories with 5"));
  EXPECT_THAT(error(6, ome(pixels(2, 3, 1))), AllOf(HasSubstr("2 channels in planes of their own"),
                                                    HasSubstr("--channel, from 0")));
}

// The values of the pages of a channel, of 12 planes that hold their own number.
std::vector<int> pages_of_channel(const fs::path& path, const std::string& text, int64_t channel) {
  write_directories(path, std::vector<uint32_t>(12), text.c_str());
  ImageReader reader(path);
  reader.choose({.channel = channel});
  std::vector<int> values;
  for (int64_t page = 0; page < reader.page_count(); ++page)
    values.push_back(std::get<std::vector<uint8_t>>(reader.read(page).pixels)[0]);
  return values;
}

TEST_F(TiffFiles, ChannelsInPlanesAreChosen) {
  const fs::path path = folder_ / "a.tif";
  const auto ordered = [](const char* order) {
    return ome(
        fmt::format("<Pixels DimensionOrder=\"{}\" SizeX=\"4\" SizeY=\"4\" SizeC=\"2\" "
                    "SizeZ=\"3\" SizeT=\"2\"/>",
                    order));
  };
  EXPECT_THAT(pages_of_channel(path, ordered("XYCZT"), 1), ElementsAre(1, 3, 5, 7, 9, 11));
  EXPECT_THAT(pages_of_channel(path, ordered("XYZCT"), 0), ElementsAre(0, 1, 2, 6, 7, 8));
  EXPECT_THAT(pages_of_channel(path, ordered("XYZCT"), 1), ElementsAre(3, 4, 5, 9, 10, 11));
  EXPECT_THAT(pages_of_channel(path, ordered("XYTCZ"), 1), ElementsAre(2, 3, 6, 7, 10, 11));
  EXPECT_THAT(pages_of_channel(path, ordered("XYZTC"), 1), ElementsAre(6, 7, 8, 9, 10, 11));
  EXPECT_THAT(
      pages_of_channel(path, "ImageJ=1.54f\nimages=12\nchannels=3\nslices=4\nhyperstack=true\n", 2),
      ElementsAre(2, 5, 8, 11));
  EXPECT_THAT(pages_of_channel(path, R"({"shape": [4, 3, 4, 4], "axes": "CZYX"})", 1),
              ElementsAre(3, 4, 5));
  EXPECT_THAT(error_of([&] { pages_of_channel(path, ordered("XYCZT"), 2); }),
              HasSubstr("--channel 2: it has 2 channels"));
}

TEST(OmeXml, IsTakenAsHostile) {
  const auto error = [](const std::string& text) {
    return error_of([&] { describe_stack(text, {4, 4, 1}); });
  };
  EXPECT_THAT(error("<OME><Image></OME>"), HasSubstr("damaged at line 1: mismatched tag"));
  EXPECT_THAT(error(ome(pixels(0, 1, 1))), HasSubstr("has SizeC=\"0\", expected"));
  EXPECT_THAT(error(ome(pixels(-3, 1, 1))), HasSubstr("has SizeC=\"-3\""));
  EXPECT_THAT(error(ome("<Pixels SizeC=\"1\"/>")), HasSubstr("has SizeZ=\"\""));
  EXPECT_THAT(error(ome("<Pixels SizeC=\"1\" SizeZ=\"1\" SizeT=\"99999999999999999999\"/>")),
              HasSubstr("has SizeT=\"99999999999999999999\""));
  EXPECT_THAT(error(ome("<TiffData FirstC=\"99999999999999999999\"/>")), HasSubstr("has FirstC="));
  const std::string spaced = ome("<Pixels SizeC=\"1\" SizeZ=\" 2 \" SizeT=\"1\"/>");
  EXPECT_EQ(describe_stack(spaced, {4, 4, 1})->planes, 2);
  EXPECT_THAT(error(ome(pixels(2000000000, 2000000000, 2000000000))),
              HasSubstr("more than a file can hold"));
  // A billion laughs: entities that grow tenfold nine times.
  std::string bomb = "<?xml version=\"1.0\"?><!DOCTYPE OME [<!ENTITY a0 \"laugh\">";
  for (int i = 1; i < 10; ++i) {
    bomb += fmt::format("<!ENTITY a{} \"", i);
    for (int k = 0; k < 10; ++k) bomb += fmt::format("&a{};", i - 1);
    bomb += "\">";
  }
  bomb += "]><OME><UUID>&a9;</UUID></OME>";
  EXPECT_THAT(error(bomb), HasSubstr("its OME-XML is damaged"));
}

TEST(TiffStack, DescriptionsAreTakenAsHostile) {
  const PlaneSize size{4, 4, 1};
  EXPECT_FALSE(describe_stack("{\"shape\"" + std::string(100000, '['), size).has_value());
  for (const char* shape :
       {"9223372036854775807, 99, 4, 4", "5, \"4\", 4", "99999999999999999999, 4", "-5, 4, 4",
        "0, 4, 4", "1099511627776, 1099511627776"})
    EXPECT_THAT(error_of([&] { describe_stack(fmt::format("{{\"shape\": [{}]}}", shape), size); }),
                HasSubstr("tifffile's description has a shape with"))
        << shape;
  EXPECT_FALSE(describe_stack(R"({"shape": [16, 4294967296]})", {1ll << 32, 1ll << 32, 1}));
  for (const char* key : {"images", "channels", "slices", "frames"}) {
    for (const char* value :
         {"99999999999999999999", "1099511627777", "-7", "0", "seven", "", "7.5"}) {
      const std::string line = fmt::format("{}={}", key, value);
      EXPECT_THAT(error_of([&] { describe_stack("ImageJ=1\n" + line + "\n", size); }),
                  HasSubstr("ImageJ's description says \"" + line + "\", expected a number"));
    }
  }
  EXPECT_EQ(describe_stack("ImageJ=1\r\nimages=7\r\nmin=none\r\n", size)->planes, 7);
  EXPECT_THAT(
      error_of([&] { describe_stack("ImageJ=1\nchannels=1000000000\nslices=1000000000\n", size); }),
      HasSubstr("more than a file can hold"));
  EXPECT_THAT(error_of([&] { describe_stack("ImageJ=1\nimages=7\nchannels=2\nslices=3\n", size); }),
              AllOf(HasSubstr("2 channels, 3 slices, 1 frame"), HasSubstr("7 images")));
  const auto axes = describe_stack(R"({"shape": [6, 2, 4, 4], "axes": "ZCYX"})", size);
  EXPECT_EQ(axes->channels, 2);
  EXPECT_EQ(axes->planes, 12);
}

}  // namespace
}  // namespace tessera
