// `tessera segment` of images in windows: the bytes of the whole, whatever the window, the file's
// layout, the processes that share it, and the moment at which they end.
#include <algorithm>

#include "models/image/image_io.h"
#include "models/image/tiff.h"
#include "tests/support/cli.h"
#include "tests/support/sanitizers.h"

namespace tessera {
namespace {

using namespace test;
using testing::AllOf;
using testing::HasSubstr;

enum class Layout { kTiles, kStrips, kBigStrips, kPng };

class WindowsCli : public Cli {
 protected:
  void write(const std::string& name, const Image& image, Layout layout = Layout::kTiles) {
    fs::create_directories(at(name).parent_path());
    if (layout == Layout::kTiles) {
      TiledTiffWriter writer(at(name), image.height, image.width, image.pixels);
      writer.write(0, 0, image);
      writer.commit();
    } else if (layout == Layout::kPng) {
      write_png(at(name), image);
    } else {
      TiffWriter writer(at(name), layout == Layout::kBigStrips ? std::int64_t{1} << 40 : 0);
      writer.append(image);
      writer.commit();
    }
  }

  std::vector<std::uint8_t> mask(const std::string& name) const {
    return std::get<std::vector<std::uint8_t>>(ImageReader(at(name)).read().pixels);
  }
  // Of `image` as one piece.
  std::vector<std::uint8_t> expected(const Image& image) {
    write("whole/x.png", image, Layout::kPng);
    EXPECT_EQ(run(segment({"whole/x.png", "-o", "whole", "--no-overlay"})).code, 0);
    return mask("whole/x.mask.png");
  }
  // Windows that keep 512 x 512 pixels of this model.
  std::vector<std::string> in_windows(std::vector<std::string> more) const {
    more.insert(more.begin(), {"in/x.tif", "-o", "mask.tif", "--tile", "640"});
    return segment(std::move(more));
  }
};

TEST_F(WindowsCli, GiveTheBytesOfTheWhole) {
  for (const auto& [height, width] : {std::pair{1300, 1100}, {512, 513}, {1, 1100}, {700, 3}}) {
    const Image image = texture(height, width);
    const auto whole = expected(image);
    for (const Layout layout :
         {Layout::kTiles, Layout::kStrips, Layout::kBigStrips, Layout::kPng}) {
      SCOPED_TRACE(testing::Message()
                   << height << " x " << width << ", " << static_cast<int>(layout));
      write("in/x.tif", image, layout);
      for (const char* tile : {"640", "1200", "0"}) {
        if (layout != Layout::kTiles && tile != std::string("640"))
          continue;  // of the other reader
        fs::remove(at("mask.tif"));
        const Result result =
            run(segment({"in/x.tif", "-o", "mask.tif", "--tile", tile, "--json"}));
        ASSERT_EQ(result.code, 0) << result.err;
        EXPECT_EQ(mask("mask.tif"), whole) << tile;
        const json entry = json::parse(result.out).at("images").at(0);
        EXPECT_EQ(entry.at("height"), height);
        EXPECT_EQ(entry.at("windows"), entry.at("windows_made"));
        if (height == 1300) {
          EXPECT_EQ(entry.at("windows"), tile == std::string("640") ? 9
                                         : tile == std::string("0") ? 1
                                                                    : 2);
        }
        EXPECT_EQ(entry.at("classes").at(1).at("pixels"), std::ranges::count(whole, 1));
      }
    }
  }
  EXPECT_FALSE(fs::exists(at("mask.tif.windows")));
  EXPECT_FALSE(fs::exists(at("summary.json")));
}

TEST_F(WindowsCli, HaveTheScaleOfTheWhole) {
  for (const char* scale : {"standardize", "min_max"}) {
    UNetConfig unet;
    unet.depth = 1;
    unet.base = 4;
    write_model(unet_, build_unet(unet, false), {{DType::kF32, {1, 20, 20, 1}}},
                {{"format", 1},
                 {"architecture", "unet"},
                 {"unet", to_json(unet)},
                 {"preprocessing", {{"scale", scale}}},
                 {"classes", {{{"name", "ground"}}, {{"name", "cell"}}}}},
                "");
    const Image image = texture(600, 1100);
    write("in/x.tif", image);
    const auto whole = expected(image);
    ASSERT_EQ(run(in_windows({})).code, 0);
    EXPECT_EQ(mask("mask.tif"), whole);
  }
}

TEST_F(WindowsCli, ProcessesShareAnImage) {
  const Image image = texture(1100, 1600);  // 12 windows
  write("in/x.tif", image);
  const auto whole = expected(image);
  // One after the other.
  const Result first = run(in_windows({"--windows", "1/3"}));
  EXPECT_EQ(first.code, 0) << first.err;
  EXPECT_THAT(first.out, HasSubstr("4 of 12 windows are finished"));
  EXPECT_FALSE(fs::exists(at("mask.tif")));
  EXPECT_THAT(run(in_windows({"--windows", "3/3"})).out, HasSubstr("8 of 12 windows are finished"));
  EXPECT_THAT(run(in_windows({"--windows", "3/3"})).out, HasSubstr("8 of 12 windows are finished"));
  EXPECT_THAT(run(in_windows({"--windows", "2/3"})).out, HasSubstr("-> mask.tif"));
  EXPECT_EQ(mask("mask.tif"), whole);
  EXPECT_THAT(run(in_windows({"--windows", "1/3"})).out, HasSubstr("done before"));
  EXPECT_EQ(files_in("mask.tif.windows").size(), 0U);
  // At once, each with another choice of its own: the first to come decides.
  for (int round = 0; round < 3; ++round) {
    fs::remove(at("mask.tif"));
    fs::remove(at("tessera.journal"));
    std::vector<pid_t> children;
    for (const char* part : {"1/3", "2/3", "3/3"})
      children.push_back(start(segment({"in/x.tif", "-o", "mask.tif", "--windows", part, "--tile",
                                        part[0] == '2' ? "1200" : "640"}),
                               "/dev/null", {}));
    for (const pid_t child : children) EXPECT_EQ(finish(child).code, 0) << read_text(at("stderr"));
    EXPECT_EQ(mask("mask.tif"), whole);
    EXPECT_FALSE(fs::exists(at("mask.tif.windows")));
  }
}

TEST_F(WindowsCli, GoOnAfterAKill) {
  const Image image = texture(2000, 2000);
  write("in/x.tif", image);
  const auto whole = expected(image);
  const double seconds = time_of(in_windows({"--threads", "1"}));
  fs::remove(at("mask.tif"));
  fs::remove(at("tessera.journal"));
  kill_until_done([&] { return in_windows({"--resume", "--threads", "1"}); }, seconds);
  EXPECT_EQ(mask("mask.tif"), whole);
  EXPECT_FALSE(fs::exists(at("mask.tif.windows")));
  EXPECT_THAT(run(in_windows({"--resume"})).out, HasSubstr("done before"));
}

TEST_F(WindowsCli, OnlyWhatIsMissingIsMade) {
  const Image image = texture(600, 1600);
  write("in/x.tif", image);
  const auto whole = expected(image);
  ASSERT_EQ(run(in_windows({"--windows", "1/2"})).code, 0);
  ASSERT_EQ(files_in("mask.tif.windows").size(), 5U);
  // One that is torn does not count; one whose pixels do not decode is found when all are there.
  fs::resize_file(at("mask.tif.windows/row0-column0.mask.tif"), 300);
  std::string bytes = read_text(at("mask.tif.windows/row0-column2.mask.tif"));
  std::fill_n(bytes.begin() + 20, 40, '\x5a');
  write_bytes(at("mask.tif.windows/row0-column2.mask.tif"), bytes);
  expect_error(run(in_windows({"--resume"})), 1,
               "the window is removed, and --resume makes it again");
  const Result result = run(in_windows({"--resume", "--json"}));
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(json::parse(result.out).at("images").at(0).at("windows_made"), 1);
  EXPECT_EQ(mask("mask.tif"), whole);
  // Without --resume windows of an earlier run are made again.
  fs::remove(at("tessera.journal"));
  ASSERT_EQ(run(in_windows({"--windows", "1/2"})).code, 0);
  EXPECT_THAT(run(in_windows({})).err, HasSubstr("are made again; --resume keeps them"));
}

TEST_F(WindowsCli, OfAnotherImageAreNotTaken) {
  write("in/x.tif", texture(600, 1100));
  ASSERT_EQ(run(in_windows({"--windows", "1/2"})).code, 0);
  write("in/x.tif", texture(610, 1100));
  expect_error(run(in_windows({"--windows", "2/2"})), 1, "are of another image, model or options");
  const Result again = run(in_windows({"--resume"}));
  EXPECT_EQ(again.code, 0);
  EXPECT_THAT(again.err, HasSubstr("done again: windows of another image, model or options"));
  EXPECT_EQ(ImageReader(at("mask.tif")).read().height, 610);
  // A mask of another size is somebody's.
  write("in/x.tif", texture(620, 1100));
  expect_error(run(in_windows({})), 1,
               "has 610 x 1100 pixels, so it is no mask of this image of 620 x 1100");
  write_bytes(at("mask.tif"), "notes");
  expect_error(run(in_windows({})), 1, "'mask.tif' is there and is no mask");
  write_bytes(at("mask.tif.windows/a"), "b");
  fs::remove(at("mask.tif"));
  expect_error(run(in_windows({"--resume"})), 1, "has no readable windows.json");
}

TEST_F(WindowsCli, AreRefusedWhereTheyCannotBe) {
  write("in/x.tif", texture(600, 600));
  expect_error(run(in_windows({"--probabilities"})), 1, "leave out --probabilities");
  expect_error(run(segment({"in/x.tif", "-o", "mask.tif", "--tile", "300"})), 1, "or more");
  expect_error(run(segment({"in/x.tif", "-o", "in/x.tif"})), 2, "this file is read too");
  make_image("in/y.png");
  expect_error(run(segment({"in", "-o", "mask.tif"})), 2, "for the mask of one image, 2 are given");
  expect_error(run(in_windows({"--windows", "3/2"})), 2, "--windows: expected I/N");
  EXPECT_FALSE(fs::exists(at("mask.tif")));
  // Truncated: the tile is named, and what was finished is kept.
  write("in/x.tif", texture(600, 1100));
  std::string bytes = read_text(at("in/x.tif"));
  std::fill_n(bytes.begin() + 50000, 100, '\x5a');
  write_bytes(at("in/x.tif"), bytes);
  expect_error(run(in_windows({})), 1, "the tile of row 0, column 0 does not decode");
}

TEST_F(WindowsCli, ObjectsAreThoseOfTheWhole) {
  const Image image = texture(1300, 1100);
  write("in/x.tif", image);
  write("whole/x.png", image, Layout::kPng);
  for (const char* connectivity : {"4", "8"}) {
    ASSERT_EQ(run(segment({"whole/x.png", "-o", "whole", "--no-overlay", "--instances",
                           "--min-area", "3", "--connectivity", connectivity}))
                  .code,
              0);
    const json objects =
        json::parse(read_text(at("whole/summary.json"))).at("images").at(0).at("instances");
    ASSERT_GT(objects.size(), 100U);

    const Result features = run(in_windows({"--instances", "--min-area", "3", "--connectivity",
                                            connectivity, "--object-table", "geojson", "--json"}));
    ASSERT_EQ(features.code, 0) << features.err;
    EXPECT_EQ(json::parse(features.out).at("images").at(0).at("files").at(1),
              "mask.instances.geojsonl");
    std::istringstream lines(read_text(at("mask.instances.geojsonl")));
    std::size_t i = 0;
    for (std::string line; std::getline(lines, line); ++i) {
      const json feature = json::parse(line);
      const json &one = objects.at(i), &box = one.at("bounding_box"), &middle = one.at("centroid");
      EXPECT_EQ(feature.at("type"), "Feature");
      EXPECT_EQ(feature.at("id"), one.at("label"));
      EXPECT_EQ(feature.at("geometry").at("type"), "Point");
      EXPECT_EQ(feature.at("geometry").at("coordinates"),
                json({middle[0].get<double>() + 0.5, middle[1].get<double>() + 0.5}));
      EXPECT_EQ(feature.at("bbox"), json({box[0], box[1], box[0].get<int>() + box[2].get<int>(),
                                          box[1].get<int>() + box[3].get<int>()}));
      EXPECT_EQ(feature.at("properties").at("area"), one.at("area"));
      EXPECT_EQ(feature.at("properties").at("class"), one.at("class"));
      EXPECT_TRUE(feature.at("properties").at("classification").at("name").is_string());
    }
    EXPECT_EQ(i, objects.size());

    const Result result = run(
        in_windows({"--instances", "--min-area", "3", "--connectivity", connectivity, "--json"}));
    ASSERT_EQ(result.code, 0) << result.err;
    std::string table = "label,class,area,x,y,width,height,centroid_x,centroid_y\n";
    for (const json& one : objects) {
      const json& box = one.at("bounding_box");
      table +=
          fmt::format("{},{},{},{},{},{},{},{},{}\n", one.at("label").get<int>(),
                      one.at("class").get<int>(), one.at("area").get<int>(), box[0].get<int>(),
                      box[1].get<int>(), box[2].get<int>(), box[3].get<int>(),
                      one.at("centroid")[0].get<double>(), one.at("centroid")[1].get<double>());
    }
    EXPECT_TRUE(read_text(at("mask.instances.csv")) == table);
    EXPECT_EQ(json::parse(result.out).at("images").at(0).at("instances"), objects.size());
    const Image labels = ImageReader(at("mask.instances.tif")).read();
    EXPECT_TRUE(labels.pixels == ImageReader(at("whole/x.instances.tif")).read().pixels);
  }
  EXPECT_THAT(
      run(in_windows({"--instances", "--min-area", "3", "--connectivity", "8", "--resume"})).out,
      HasSubstr("done before"));
  fs::remove(at("mask.instances.csv"));
  EXPECT_THAT(
      run(in_windows({"--instances", "--min-area", "3", "--connectivity", "8", "--resume"})).out,
      HasSubstr("objects"));
  EXPECT_TRUE(fs::exists(at("mask.instances.csv")));
}

// Neither image nor masks lie in memory, and the figures are the same.
TEST_F(WindowsCli, EvalStreams) {
#if defined(TESSERA_THREAD_SANITIZER) || defined(TESSERA_ADDRESS_SANITIZER)
  GTEST_SKIP() << "the sanitizer's own memory counts as the process's, and grows";
#endif
  const Image image = texture(1600, 1500);
  Image truth{image.height, image.width, 1, expected(image)};
  auto& classes = std::get<std::vector<std::uint8_t>>(truth.pixels);
  for (std::size_t i = 0; i < classes.size(); i += 97) classes[i] = i % 2 == 0 ? 9 : classes[i] ^ 1;
  write("whole/images/a.png", image, Layout::kPng);
  write("whole/masks/a.png", truth, Layout::kPng);
  write("slides/images/a.tif", image, Layout::kStrips);
  write("slides/masks/a.tif", truth);
  const auto eval = [&](const char* folder, std::vector<std::string> more) {
    std::vector<std::string> arguments{"eval",         folder,          "-m",
                                       unet_,          "--mask-format", "ids,ignore=9",
                                       "--validation", "none",          "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  };
  const Result whole = eval("whole", {"--objects"});
  ASSERT_EQ(whole.code, 0) << whole.err;
  const Result slides = eval("slides", {"--objects", "--tile", "640", "--max-memory", "70M"});
  ASSERT_EQ(slides.code, 0) << slides.err;
  for (const char* key : {"pixels", "pixel_error", "images", "objects"})
    EXPECT_EQ(json::parse(slides.out).at(key), json::parse(whole.out).at(key)) << key;
  expect_error(eval("slides", {"--membrane", "ground", "--max-memory", "70M"}), 1,
               "does not fit into memory");
}

TEST_F(WindowsCli, OfABatchHaveTheNamesOfItsResults) {
  const Image image = texture(700, 800);
  write("in/x.tif", image);
  make_image("in/y.png");
  const auto whole = expected(image);
  const Result result = run(segment({"in", "--windows", "1/1", "-v"}));
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("in/x.tif: 700 x 800 in 1 window that keeps up to 700 x 800"),
                    HasSubstr("% of the work done twice"), HasSubstr("predicted peak")));
  EXPECT_EQ(mask("out/x.mask.tif"), whole);
  EXPECT_EQ(files_in("out"),
            (std::vector<std::string>{"summary.json", "x.mask.tif", "y.mask.tif"}));
  EXPECT_THAT(run(segment({"in", "--windows", "1/1"})).out,
              AllOf(HasSubstr("x.tif: done before"), HasSubstr("y.png: done before")));
}

}  // namespace
}  // namespace tessera
