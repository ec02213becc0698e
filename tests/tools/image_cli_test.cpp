// What the program says of images whose values, pages or tiles are not what they seem.
#include "models/image/image_io.h"
#include "models/image/tiff.h"
#include "tests/support/cli.h"
#include "tests/support/tiff_files.h"

namespace tessera {
namespace {

using namespace test;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class ImageCli : public Cli {
 protected:
  // The disc of `make_image` in another type, each value times `factor`.
  template <class T>
  void make_tiff(const std::string& name, int factor) {
    const Image image = picture(30, 41);
    std::vector<T> pixels;
    for (const std::uint8_t value : std::get<Bytes>(image.pixels))
      pixels.push_back(static_cast<T>(value * factor));
    TiffWriter writer(at(name));
    writer.append({image.height, image.width, 1, std::move(pixels)});
    writer.commit();
  }

  std::string answer(const std::string& name) const {
    return read_text(at("out") / (name + ".probabilities.npy"));
  }
};

std::size_t count(const std::string& text, std::string_view part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
    ++found;
  return found;
}

TEST_F(ImageCli, ARangeGivesTheAnswerOfTheSamePictureIn8Bit) {
  make_image("a.png");
  make_tiff<std::uint16_t>("words.tif", 16);
  make_tiff<std::uint16_t>("words2.tif", 16);
  make_tiff<std::uint32_t>("longs.tif", 16);
  make_tiff<float>("floats.tif", 16);
  std::vector<std::string> all{"a.png",     "words.tif",  "words2.tif",
                               "longs.tif", "floats.tif", "--probabilities"};
  const Result odd = run(segment(all), "/dev/null", {{"TESSERA_OUTPUT", path("out")}});
  ASSERT_EQ(odd.code, 0) << odd.err;
  EXPECT_THAT(odd.err, AllOf(HasSubstr("16-bit images with values from 0 to 3680"),
                             HasSubstr("divides by 65535"), HasSubstr("--range 0,4095")));
  EXPECT_EQ(count(odd.err, "--range 0,4095"), 3U) << odd.err;  // once for each type
  EXPECT_NE(answer("words"), answer("a"));

  ASSERT_EQ(
      run(segment({"a.png", "--probabilities"}), "/dev/null", {{"TESSERA_OUTPUT", path("out")}})
          .code,
      0);
  const std::string expected = answer("a");
  all[0] = "--range";
  all.insert(all.begin() + 1, "0,4080");  // 16 times 255
  const Result ranged = run(segment(all), "/dev/null", {{"TESSERA_OUTPUT", path("out")}});
  ASSERT_EQ(ranged.code, 0) << ranged.err;
  EXPECT_EQ(ranged.err, "");
  for (const char* name : {"words", "longs", "floats"}) EXPECT_EQ(answer(name), expected) << name;
  all[1] = "auto";
  const Result stretched = run(segment(all), "/dev/null", {{"TESSERA_OUTPUT", path("out")}});
  EXPECT_EQ(stretched.err, "");
  EXPECT_NE(answer("words"), expected);
  EXPECT_EQ(answer("words"), answer("floats"));

  expect_error(run(segment({"a.png", "--range", "5"})), 2, "--range");
  expect_error(run(segment({"a.png", "--range", "5,4"})), 2, "LO,HI");
}

TEST_F(ImageCli, AModelRemembersTheRangeThatItWasTrainedWith) {
  fs::create_directories(at("data/images"));
  fs::create_directories(at("data/masks"));
  const Image disc = picture(30, 41);
  for (const char* name : {"a", "b"}) {
    make_tiff<std::uint16_t>(fmt::format("data/images/{}.tif", name), 16);
    Bytes mask;
    for (const std::uint8_t value : std::get<Bytes>(disc.pixels))
      mask.push_back(value > 100 ? 1 : 0);
    write_png(at(fmt::format("data/masks/{}.png", name)), {30, 41, 1, mask});
  }
  const auto train = [&](std::vector<std::string> more) {
    std::vector<std::string> words{
        "train",  "unet",    "data",   "-o",           "m.safetensors", "--depth", "1",
        "--base", "2",       "--tile", "16",           "--epochs",      "1",       "--tiles",
        "2",      "--batch", "1",      "--validation", "every:2"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  };
  const auto preprocessing = [&] {
    return json::parse(run({"info", "m.safetensors", "--json"}).out)["preprocessing"];
  };
  const Result odd = train({});
  ASSERT_EQ(odd.code, 0) << odd.err;
  EXPECT_THAT(odd.err, HasSubstr("2 of 2 images: 16-bit images with values from 0 to 3680"));
  EXPECT_FALSE(preprocessing().contains("range"));
  const Result ranged = train({"--range", "0,4080"});
  ASSERT_EQ(ranged.code, 0) << ranged.err;
  EXPECT_THAT(ranged.err, Not(HasSubstr("--range")));
  EXPECT_EQ(preprocessing()["range"], json::parse("[0.0, 4080.0]"));
  // The model's own range needs no option; another one takes its place.
  const auto segmented = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"segment", "data/images/a.tif", "-m", "m.safetensors", "-o", "out",
                               "--probabilities"});
    const Result result = run(more);
    EXPECT_EQ(result.err, "");
    return answer("a");
  };
  const std::string own = segmented({});
  EXPECT_EQ(segmented({"--range", "0,4080"}), own);
  EXPECT_NE(segmented({"--range", "0,255"}), own);
  const auto evaluated = [&](const char* range) {
    const Result result =
        run({"eval", "data", "-m", "m.safetensors", "--range", range, "--json", "--objects"});
    EXPECT_THAT(result.err, Not(HasSubstr("range")));
    return json::parse(result.out)["pixels"];
  };
  EXPECT_EQ(evaluated("0,4080"),
            json::parse(run({"eval", "data", "-m", "m.safetensors", "--json"}).out)["pixels"]);
  expect_error(train({"--range", "0,4080", "--scale", "min_max"}), 2, "the scale is \"min_max\"");
}

TEST_F(ImageCli, EveryPlaneOfAStackHasItsMask) {
  const Bytes bytes = hand_made(
      {{kWidth, 3, 1, 20}, {kLength, 3, 1, 20}, {kDescription, 2, 0, 0, "ImageJ=1\nimages=3\n"}},
      Bytes(3 * 400, 7));
  write_bytes(at("stack.tif"), std::string(bytes.begin(), bytes.end()));
  const Result result = run(segment({"stack.tif", "-o", "out"}));
  EXPECT_THAT(result.out, HasSubstr("20 x 20, 3 pages")) << result.err;
  EXPECT_EQ(ImageReader(at("out/stack.mask.tif")).page_count(), 3);
  EXPECT_THAT(run(segment({"stack.tif", "-o", "m.tif"})).err,
              AllOf(HasSubstr("stack.tif: image is a stack of 3 pages"), HasSubstr("-o FOLDER")));
}

// Images of one size behind one another, others between them, a stack, and files that are none.
TEST_F(ImageCli, ABatchMakesTheFilesOfEachImageAlone) {
  for (const char* name : {"a.png", "b.png", "c.png", "g.png"}) make_image(name);
  make_tiff<std::uint16_t>("d.tif", 16);  // of the size of the others
  make_image("e.png", 31, 41);
  write_bytes(at("f.png"), "no picture");
  const Bytes bytes = hand_made(
      {{kWidth, 3, 1, 20}, {kLength, 3, 1, 20}, {kDescription, 2, 0, 0, "ImageJ=1\nimages=3\n"}},
      Bytes(3 * 400, 7));
  write_bytes(at("h.tif"), std::string(bytes.begin(), bytes.end()));
  const auto make = [&](const std::string& folder, const std::string& batch) {
    return run(segment({"a.png", "b.png", "c.png", "d.tif", "e.png", "f.png", "g.png", "h.tif",
                        "--probabilities", "--instances", "-q", "-o", folder, "--batch", batch}));
  };
  EXPECT_EQ(make("alone", "1").code, 3);
  const std::vector<std::string> names = files_in("alone");
  EXPECT_GT(names.size(), 28u);
  const json alone = json::parse(read_text(at("alone/summary.json")));
  for (const char* batch : {"2", "3", "100"}) {
    SCOPED_TRACE(batch);
    const std::string folder = std::string("of") + batch;
    const Result result = make(folder, batch);
    EXPECT_EQ(result.code, 3) << result.err;
    EXPECT_THAT(result.err, HasSubstr("f.png"));
    EXPECT_EQ(files_in(folder), names);
    for (const std::string& name : names) {
      if (name == "summary.json") continue;
      EXPECT_TRUE(read_text(at("alone/" + name)) == read_text(at(folder + "/" + name))) << name;
    }
    const json summary = json::parse(read_text(at(folder + "/summary.json")));
    ASSERT_EQ(summary["images"].size(), alone["images"].size());
    for (std::size_t i = 0; i < alone["images"].size(); ++i) {
      for (const char* same : {"input", "tiles", "classes", "instances"})
        EXPECT_EQ(summary["images"][i][same], alone["images"][i][same]) << same;
    }
  }
  EXPECT_THAT(run(segment({"a.png", "b.png", "--batch", "2", "-v", "-o", "told"})).err,
              HasSubstr("2 images of 30 x 41 run as one"));
  expect_error(run(segment({"a.png", "--batch", "-2"})), 2, "--batch");
  expect_error(run(segment({"a.png", "--batch", "100000"})), 1, "--batch");
}

TEST_F(ImageCli, TilesThatRepeatMostOfTheWorkAreToldOnce) {
  UNetConfig deep;  // reads 45 pixels on each side
  deep.depth = 3;
  deep.base = 4;
  write_model(unet_, build_unet(deep, false), {{DType::kF32, {1, 92, 92, 1}}},
              {{"format", 1},
               {"architecture", "unet"},
               {"unet", to_json(deep)},
               {"classes", {{{"name", "ground"}}, {{"name", "cell"}}}}},
              "");
  make_image("a.png", 190, 170);
  make_image("b.png", 190, 170);
  const Result small = run(segment({"a.png", "b.png", "--tile", "172", "-o", "out"}));
  ASSERT_EQ(small.code, 0) << small.err;
  EXPECT_EQ(lines_of(small.err), 1U) << small.err;
  EXPECT_THAT(small.err, AllOf(HasSubstr("190 x 170 in tiles of up to "),
                               HasSubstr("% is done twice"), HasSubstr("With --tile ")));
  // The tile that it names is one that says nothing.
  const std::size_t at = small.err.find("With --tile ") + 12;
  const std::string better = small.err.substr(at, small.err.find(' ', at) - at);
  const Result large = run(segment({"a.png", "--tile", better, "-o", "out", "-v"}));
  EXPECT_EQ(large.code, 0);
  EXPECT_THAT(large.err, AllOf(HasSubstr("% of the work done twice"), Not(HasSubstr("With "))));
  EXPECT_THAT(run({"info", unet_, "--size", "190x170"}).out,
              AllOf(HasSubstr("1 tile(s) of up to "), HasSubstr(", 0 % of the work done twice")));
  EXPECT_THAT(run({"info", unet_, "--size", "190x170", "--tile", "172"}).out,
              HasSubstr("With --tile " + better));
}

}  // namespace
}  // namespace tessera
