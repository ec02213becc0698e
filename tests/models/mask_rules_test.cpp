// What masks say: rules, stored values, and what they are where nobody says so.
#include "models/image/mask_rules.h"

#include <stdio.h>  // jpeglib.h wants it

#include <jpeglib.h>
#include <tiffio.h>

#include "models/image/image_io.h"
#include "models/image/mask_format.h"
#include "tests/support/labelled_images.h"

namespace tessera {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Ids = std::vector<std::uint32_t>;

// ---- masks -------------------------------------------------------------------------------------

TEST(MaskRulesTest, ReadEveryKindOfMask) {
  const auto classes = [](const Image& image, const char* rule, std::size_t count) {
    return decode_mask({image, {}}, MaskRules::parse(rule, count)).classes;
  };
  const Image ids{1, 4, 1, Bytes{0, 2, 1, 2}};
  EXPECT_EQ(classes(ids, "ids", 3), (Bytes{0, 2, 1, 2}));
  EXPECT_EQ(classes(ids, "values:2,1,0", 3), (Bytes{2, 0, 1, 0}));
  EXPECT_EQ(classes(ids, "values:0,1,ignore=2", 2), (Bytes{0, 255, 1, 255}));
  const Image binary{1, 3, 3, Bytes{255, 255, 255, 0, 0, 0, 255, 255, 255}};  // grey as RGB
  EXPECT_EQ(classes(binary, "binary", 2), (Bytes{1, 0, 1}));
  const Image colours{1, 2, 3, Bytes{255, 128, 0, 0, 0, 0}};
  EXPECT_EQ(classes(colours, "colours:#000000,#ff8000", 2), (Bytes{1, 0}));
  const Image wide{1, 3, 1, std::vector<std::uint16_t>{0, 4000, 65535}};
  EXPECT_EQ(classes(wide, "values:0,4000,65535", 3), (Bytes{0, 1, 2}));
}

TEST(MaskRulesTest, TouchingObjectsArePartedByBackground) {
  const Image image{2, 5, 1,
                    std::vector<std::uint16_t>{300, 300, 70, 70, 0,  //
                                               300, 300, 70, 70, 0}};
  MaskRules rules = MaskRules::parse("objects", 2);
  const Mask parted = decode_mask({image, {}}, rules);
  EXPECT_EQ(parted.classes, (Bytes{1, 0, 1, 1, 0, 1, 0, 1, 1, 0}));
  EXPECT_EQ(parted.objects[1], 300U);
  EXPECT_EQ(objects_of(parted, 2, 5, {}), (Ids{300, 0, 70, 70, 0, 300, 0, 70, 70, 0}));
  rules.separate_touching = false;
  EXPECT_EQ(decode_mask({image, {}}, rules).classes, (Bytes{1, 1, 1, 1, 0, 1, 1, 1, 1, 0}));
  // Without ids the components are the objects.
  const Mask plain{{1, 0, 1, 1, 255}, {}};
  EXPECT_EQ(objects_of(plain, 1, 5, {}), (Ids{1, 0, 2, 2, 0}));
}

TEST(MaskRulesTest, SayWhatIsWrong) {
  const auto parse_error = [](const char* rule, std::size_t classes) {
    return error_of([&] { MaskRules::parse(rule, classes); });
  };
  for (const char* typo :
       {"numbers", "", "ids,ingore=255", "ids, ignore=255", "values:0,1,ignored=2"})
    EXPECT_THAT(parse_error(typo, 2), AllOf(HasSubstr("expected"), HasSubstr(",ignore=V"))) << typo;
  EXPECT_THAT(parse_error("numbers", 2), HasSubstr("expected ids, binary"));
  EXPECT_THAT(parse_error("binary", 3), HasSubstr("tells 2 classes apart, expected 3"));
  EXPECT_THAT(parse_error("values:0,x", 2), HasSubstr("grey values"));
  EXPECT_THAT(parse_error("values:7,7", 2), HasSubstr("same value"));
  EXPECT_THAT(parse_error("colours:#00000,#ffffff", 2), HasSubstr("#rrggbb"));
  EXPECT_THAT(parse_error("binary,ignore=", 2), HasSubstr("ignore="));
  const auto decode_error = [](const Image& image, const char* rule) {
    return error_of([&] { decode_mask({image, {}}, MaskRules::parse(rule, 2)); });
  };
  EXPECT_THAT(decode_error({1, 3, 1, Bytes{0, 255, 255}}, "ids"),
              AllOf(HasSubstr("255 (2 pixels)"), HasSubstr("expected 0, 1"), HasSubstr("binary")));
  EXPECT_THAT(decode_error({1, 8, 1, Bytes{0, 2, 3, 4, 5, 6, 7, 8}}, "ids"),
              AllOf(HasSubstr("6 (1 pixels) and 2 more")));
  EXPECT_THAT(decode_error({1, 1, 3, Bytes{1, 2, 3}}, "ids"), HasSubstr("coloured"));
  EXPECT_THAT(decode_error({1, 1, 3, Bytes{1, 2, 3}}, "colours:#000000,#ffffff"),
              HasSubstr("#010203 (1 pixels)"));
  EXPECT_THAT(decode_error({1, 1, 1, std::vector<float>{0}}, "ids"), HasSubstr("floats"));
}

// ---- stored values -----------------------------------------------------------------------------

// A grey TIFF of one strip with these tags.
struct TiffTags {
  int bits = 8, photometric = PHOTOMETRIC_MINISBLACK, compression = COMPRESSION_NONE;
  std::array<std::vector<std::uint16_t>, 3> palette{};
};
void write_tiff(const fs::path& path, std::int64_t height, std::int64_t width, Bytes rows,
                const TiffTags& tags) {
  fs::create_directories(path.parent_path());
  TIFF* file = TIFFOpen(path.c_str(), "w");
  TIFFSetField(file, TIFFTAG_IMAGEWIDTH, static_cast<std::uint32_t>(width));
  TIFFSetField(file, TIFFTAG_IMAGELENGTH, static_cast<std::uint32_t>(height));
  TIFFSetField(file, TIFFTAG_BITSPERSAMPLE, tags.bits);
  TIFFSetField(file, TIFFTAG_SAMPLESPERPIXEL, 1);
  TIFFSetField(file, TIFFTAG_PHOTOMETRIC, tags.photometric);
  TIFFSetField(file, TIFFTAG_COMPRESSION, tags.compression);
  TIFFSetField(file, TIFFTAG_ROWSPERSTRIP, static_cast<std::uint32_t>(height));
  if (!tags.palette[0].empty())
    TIFFSetField(file, TIFFTAG_COLORMAP, tags.palette[0].data(), tags.palette[1].data(),
                 tags.palette[2].data());
  TIFFWriteEncodedStrip(file, 0, rows.data(), static_cast<tmsize_t>(rows.size()));
  TIFFClose(file);
}

void write_jpeg(const fs::path& path, std::int64_t height, std::int64_t width, Bytes pixels) {
  fs::create_directories(path.parent_path());
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  FILE* file = fopen(path.c_str(), "wb");
  jpeg_stdio_dest(&jpeg, file);
  jpeg.image_width = static_cast<JDIMENSION>(width);
  jpeg.image_height = static_cast<JDIMENSION>(height);
  jpeg.input_components = 1;
  jpeg.in_color_space = JCS_GRAYSCALE;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, 75, TRUE);
  jpeg_start_compress(&jpeg, TRUE);
  for (std::int64_t y = 0; y < height; ++y) {
    JSAMPROW row = pixels.data() + y * width;
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  fclose(file);
}

TEST_F(TrainingImages, WhiteAsZeroIsNoOtherMask) {
  const auto classes = [&](const std::string& file, const char* rule) {
    return decode_mask(read_mask({"", "", folder_ / file, 0}), MaskRules::parse(rule, 2)).classes;
  };
  const TiffTags white{.photometric = PHOTOMETRIC_MINISWHITE};
  write_tiff(folder_ / "binary.tif", 1, 4, {0, 255, 255, 0}, white);
  EXPECT_EQ(classes("binary.tif", "binary"), (Bytes{0, 1, 1, 0}));
  write_tiff(folder_ / "ids.tif", 1, 4, {0, 1, 1, 0}, white);
  EXPECT_EQ(classes("ids.tif", "ids"), (Bytes{0, 1, 1, 0}));
  write_tiff(folder_ / "objects.tif", 1, 4, {0, 7, 7, 0}, white);
  EXPECT_EQ(classes("objects.tif", "objects"), (Bytes{0, 1, 1, 0}));
  write_tiff(folder_ / "bits.tif", 1, 4, {0b01100000},
             {.bits = 1, .photometric = PHOTOMETRIC_MINISWHITE});
  EXPECT_EQ(classes("bits.tif", "binary"), (Bytes{0, 1, 1, 0}));
  write_tiff(folder_ / "four.tif", 1, 4, {0x01, 0x10}, {.bits = 4});
  EXPECT_EQ(classes("four.tif", "ids"), (Bytes{0, 1, 1, 0}));
  // An image is light: there white stays white.
  EXPECT_EQ(std::get<Bytes>(ImageReader(folder_ / "binary.tif").read(0).pixels),
            (Bytes{255, 0, 0, 255}));
}

TEST_F(TrainingImages, TheCheckSaysOnceThatWhiteIsZero) {
  for (const char* name : {"a", "b"}) {
    write_pair(name, 4, 5);
    fs::remove(folder_ / "masks" / fmt::format("{}.png", name));
    Bytes mask(20, 0);
    mask[7] = 255;
    write_tiff(folder_ / "masks" / fmt::format("{}.tif", name), 4, 5, mask,
               {.photometric = PHOTOMETRIC_MINISWHITE});
  }
  DataReport report;
  const auto statistics = check_images(pairs(report), MaskRules::parse("binary", 2), 1, report);
  EXPECT_EQ(statistics[0].class_pixels, (std::vector<std::int64_t>{19, 1}));
  EXPECT_EQ(report.problem_count(), 0U);
  EXPECT_THAT(report.notes(), ElementsAre(HasSubstr("2 masks show white as zero")));
}

// Fiji's label images with a table of colours, and the masks of VOC.
TEST_F(TrainingImages, IndicesOfColouredPalettesAreTheNumbers) {
  std::array<std::vector<std::uint16_t>, 3> palette;
  for (auto& column : palette) column.resize(256);
  palette[0][1] = palette[1][2] = 65535;  // red, green
  write_tiff(folder_ / "fiji.tif", 1, 4, {0, 2, 1, 2},
             {.photometric = PHOTOMETRIC_PALETTE, .palette = palette});
  const ImagePair pair{"", "", folder_ / "fiji.tif", 0};
  const auto classes = [&](const char* rule, std::size_t count) {
    return decode_mask(read_mask(pair), MaskRules::parse(rule, count)).classes;
  };
  EXPECT_EQ(classes("ids", 3), (Bytes{0, 2, 1, 2}));
  EXPECT_EQ(decode_mask(read_mask(pair), MaskRules::parse("objects", 2)).objects,
            (Ids{0, 2, 1, 2}));
  EXPECT_EQ(classes("colours:#00ff00,#000000,#ff0000", 3), (Bytes{1, 0, 2, 0}));
  // All greys: the picture counts, as an optimiser of files would keep it.
  for (auto& column : palette) column[1] = 0, column[2] = 65535;
  write_tiff(folder_ / "fiji.tif", 1, 4, {0, 2, 0, 2},
             {.photometric = PHOTOMETRIC_PALETTE, .palette = palette});
  EXPECT_EQ(classes("binary", 2), (Bytes{0, 1, 0, 1}));
}

TEST_F(TrainingImages, LossyMasksAreRefusedForTheirCause) {
  Bytes objects(32 * 32, 0);
  for (std::size_t i = 0; i < objects.size(); ++i) {
    const std::size_t y = i / 32, x = i % 32;
    if (y > 4 && y < 20 && x > 3 && x < 14) objects[i] = 90;
    if (y > 9 && y < 27 && x > 17 && x < 29) objects[i] = 255;
  }
  write_jpeg(folder_ / "masks/a.jpg", 32, 32, objects);
  write_tiff(folder_ / "masks/b.tif", 32, 32, objects, {.compression = COMPRESSION_JPEG});
  for (const char* file : {"masks/a.jpg", "masks/b.tif"}) {
    const ImagePair pair{"", "", folder_ / file, 0};
    for (const char* rule : {"objects", "ids", "binary", "values:0,90"}) {
      EXPECT_THAT(error_of([&] { decode_mask(read_mask(pair), MaskRules::parse(rule, 2)); }),
                  AllOf(HasSubstr("JPEG, which changes values"), HasSubstr("PNG or TIFF")))
          << file << ' ' << rule;
    }
    DataReport report;
    EXPECT_THAT(error_of([&] { recognise_masks({pair}, {}, 1, report); }),
                AllOf(HasSubstr(file), HasSubstr("JPEG, which changes values")));
  }
  // One that kept its values is as good as any.
  write_jpeg(folder_ / "masks/c.jpg", 16, 16, Bytes(256, 255));
  EXPECT_EQ(
      decode_mask(read_mask({"", "", folder_ / "masks/c.jpg", 0}), MaskRules::parse("binary", 2))
          .classes,
      Bytes(256, 1));
}

// ---- what masks are ----------------------------------------------------------------------------

MaskCensus census_of(const std::vector<Image>& masks) {
  MaskCensus census;
  for (const Image& mask : masks) {
    MaskSource source({.name = {}, .image = {}, .mask = "mask", .held_mask = [&] { return mask; }});
    census.add(source, "mask");
  }
  return census;
}

std::string chosen(const std::vector<Image>& masks, const MaskHints& hints = {}) {
  return error_of([&] { fail("{}", choose_mask_rules(census_of(masks), hints).to_string()); });
}

Image grey(Bytes values) {
  const auto width = static_cast<std::int64_t>(values.size());
  return {1, width, 1, std::move(values)};
}

MaskHints hints(std::size_t classes, const char* trained = nullptr) {
  MaskHints result;
  result.classes = classes;
  if (trained != nullptr) result.trained = MaskRules::parse(trained, classes);
  return result;
}

TEST(MaskFormat, IsWhatAllMasksCanBe) {
  EXPECT_EQ(chosen({grey({0, 1, 1}), grey({0, 0, 0})}), "ids");
  EXPECT_EQ(chosen({grey({0, 1, 0}), grey({2, 2, 0})}, hints(3)), "ids");
  EXPECT_EQ(chosen({grey({0, 0, 0})}), "ids");
  EXPECT_EQ(chosen({grey({0, 255, 0}), grey({0, 0, 0})}), "binary");
  EXPECT_EQ(chosen({grey({255, 255})}), "binary");
  EXPECT_EQ(chosen({grey({0, 128, 0, 128})}), "values:0,128");
  EXPECT_EQ(chosen({grey({0, 1, 1, 0, 2, 3}), grey({0, 1})}), "objects");
  EXPECT_EQ(chosen({{1, 4, 1, std::vector<std::uint16_t>{0, 4000, 17, 17}}}), "objects");
  EXPECT_EQ(chosen({{1, 2, 3, Bytes{0, 0, 0, 255, 128, 0}}}), "colours:#000000,#ff8000");
  EXPECT_EQ(chosen({{1, 3, 3, Bytes{255, 255, 255, 0, 0, 0, 0, 0, 0}}}), "binary");
  EXPECT_EQ(chosen({{1, 3, 3, Bytes{9, 0, 0, 0, 0, 0, 0, 7, 0}}, grey({0, 0, 0})}), "objects");
  MaskHints coloured = hints(3);
  coloured.class_colours = {Rgb{1, 1, 1}, Rgb{9, 0, 0}, Rgb{0, 7, 0}};
  EXPECT_EQ(chosen({{1, 2, 3, Bytes{0, 7, 0, 9, 0, 0}}, grey({1, 1})}, coloured),
            "colours:#010101,#090000,#000700");
  EXPECT_EQ(chosen({}, hints(2, "objects")), "objects");
  EXPECT_EQ(chosen({}), "ids");
}

TEST(MaskFormat, FollowsTheTrainingWhereThatFits) {
  EXPECT_EQ(chosen({grey({0, 255})}, hints(2, "values:255,0")), "values:255,0");
  EXPECT_EQ(chosen({grey({0, 1, 255})}, hints(2, "ids,ignore=255")), "ids,ignore=255");
  EXPECT_EQ(chosen({grey({0, 3, 3, 0})}, hints(2, "objects")), "objects");
  EXPECT_EQ(chosen({grey({0, 1})}, hints(2, "binary")), "ids");
  EXPECT_EQ(chosen({grey({0, 1, 0, 1, 2})}, hints(2, "binary,ignore=2")),
            chosen({grey({0, 1, 0, 1, 2})}));
  // Objects that all have the id 255 would be one object.
  EXPECT_EQ(chosen({grey({0, 255, 0, 255})}, hints(2, "objects")), "binary");
}

TEST(MaskFormat, IsRefusedWhereTheMasksCanBeReadInTwoWays) {
  EXPECT_THAT(chosen({grey({0, 1, 255})}),
              AllOf(HasSubstr("the values 0, 1, 255 in 1 mask"), HasSubstr("more than one way"),
                    HasSubstr("--mask-format ids,ignore=255"), HasSubstr("--mask-format objects")));
  EXPECT_THAT(chosen({grey({1, 2})}), HasSubstr("--mask-format values:1,2"));
  EXPECT_THAT(chosen({grey({0, 128, 255})}, hints(3)), HasSubstr("--mask-format values:0,128,255"));
  EXPECT_THAT(chosen({{1, 3, 3, Bytes{0, 0, 0, 9, 0, 0, 0, 7, 0}}}, hints(3)),
              HasSubstr("--mask-format colours:#000000,#000700,#090000"));
  EXPECT_THAT(chosen({grey({0, 1, 2, 255})}, hints(3)), HasSubstr("ids,ignore=255"));
  EXPECT_THAT(chosen({grey({0, 9, 17})}, hints(2)), "objects");
  // More classes than the model has, each in many pieces.
  EXPECT_THAT(chosen({grey({0, 1, 0, 1, 2, 0, 2, 3, 0, 3})}),
              AllOf(HasSubstr("no format fits"), HasSubstr("--classes"), HasSubstr("many pieces")));
  EXPECT_THAT(chosen({grey({0, 9, 17})}, hints(4)),
              AllOf(HasSubstr("4 classes"), HasSubstr("--classes")));
  // Organs: one piece each, the same in all masks, and nobody said how many classes there are.
  MaskHints unsaid;
  unsaid.classes_are_known = false;
  const std::vector<Image> organs{grey({0, 1, 1, 2}), grey({2, 2, 1, 0})};
  EXPECT_THAT(chosen(organs, unsaid),
              AllOf(HasSubstr("--mask-format objects"), HasSubstr("--classes and 3 names")));
  EXPECT_EQ(chosen(organs), "objects");
  EXPECT_EQ(chosen({grey({0, 1, 1, 2}), grey({2, 3, 1, 0})}, unsaid), "objects");
  EXPECT_EQ(chosen({grey({0, 3, 3, 54})}, unsaid), "objects");  // not one of 55 classes
}

TEST(MaskFormat, BlurredBordersAreNoObjects) {
  // A disc with a soft border, as scaling a mask down leaves it.
  Bytes soft;
  for (int y = -20; y < 20; ++y) {
    for (int x = -20; x < 20; ++x) {
      const double inside = 14 - std::sqrt(x * x + y * y);
      soft.push_back(static_cast<std::uint8_t>(std::clamp(127 + 40 * inside, 0.0, 255.0)));
    }
  }
  EXPECT_THAT(chosen({{40, 40, 1, soft}}),
              AllOf(HasSubstr("no format fits"), HasSubstr("many pieces")));
}

TEST(MaskFormat, PiecesTouchAtCornersAndAcrossRows) {
  // A ring, a diagonal, and a U whose arms meet below: one piece each.
  const MaskCensus census = census_of({{4, 7, 1, Bytes{1, 1, 1, 0, 3, 0, 3,  //
                                                       1, 0, 1, 0, 3, 0, 3,  //
                                                       1, 1, 1, 2, 3, 3, 3,  //
                                                       0, 0, 2, 0, 0, 0, 0}}});
  EXPECT_EQ(census.ids, 3);
  EXPECT_EQ(census.whole_ids, 3);
  EXPECT_EQ(census_of({grey({1, 0, 1, 2})}).whole_ids, 1);
}

TEST_F(TrainingImages, TheFormatIsNotedInOneLine) {
  for (const char* name : {"a", "b"}) write_pair(name, 8, 9);
  DataReport report;
  for (const int threads : {1, 3}) {
    EXPECT_EQ(recognise_masks(pairs(report), {}, threads, report).to_string(), "binary");
    EXPECT_EQ(
        report.notes().back(),
        "masks are read as binary: the values 0, 255 in 2 masks; --mask-format says otherwise");
  }
}

// Of masks that cannot be colours, those of the training say nothing.
TEST_F(TrainingImages, ColoursOfTheTrainingAreHeldAgainstEveryMask) {
  for (const char* name : {"a", "b"}) write_pair(name, 2, 4);
  const MaskHints coloured = hints(2, "colours:#000000,#ffffff");
  DataReport report;
  EXPECT_EQ(recognise_masks(pairs(report), coloured, 1, report), *coloured.trained);
  write("masks/b.png", {2, 4, 1, std::vector<std::uint16_t>{0, 255, 255, 0, 0, 0, 0, 0}});
  EXPECT_EQ(recognise_masks(pairs(report), coloured, 1, report).to_string(), "binary");
  write("masks/a.png", {2, 4, 1, std::vector<std::uint16_t>{0, 1, 1, 0, 0, 0, 2, 2}});
  write("masks/b.png", {2, 4, 1, std::vector<std::uint16_t>{0, 1, 1, 0, 0, 0, 0, 0}});
  EXPECT_EQ(recognise_masks(pairs(report), coloured, 1, report).to_string(), "objects");
  EXPECT_THAT(report.notes().back(), Not(HasSubstr("training")));
  // One that is no image at all changes nothing: the check tells of it.
  write_pair("a", 2, 4);
  write_text("masks/b.png", "no image");
  EXPECT_EQ(recognise_masks(pairs(report), coloured, 1, report), *coloured.trained);
}

TEST(MaskRulesTest, AreWrittenAsTheyAreRead) {
  for (const char* text : {"ids", "binary", "values:7,0", "objects", "objects,ignore=9",
                           "ids,ignore=255", "colours:#000000,#ff8000"}) {
    const MaskRules rules = MaskRules::parse(text, 2);
    EXPECT_EQ(rules.to_string(), text);
    EXPECT_EQ(MaskRules::parse(rules.to_string(), 2), rules);
  }
}

}  // namespace
}  // namespace tessera
