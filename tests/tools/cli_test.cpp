// The program as a user meets it: run by its path, judged by exit code, stdout, stderr and files.
#include "tests/support/cli.h"
#include "models/image/image_io.h"
#include "models/image/tiff.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using namespace test;
using nlohmann::json;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;
using testing::StartsWith;

// ---- the command line
// ----------------------------------------------------------------------------

TEST_F(Cli, HelpAndVersionSucceed) {
  const Result help = run({"--help"});
  EXPECT_EQ(help.code, 0);
  for (const char* verb : {"segment", "classify", "eval", "info", "bench", "profile"}) {
    EXPECT_THAT(help.out, HasSubstr(verb));
    const Result one = run({verb, "--help"});
    EXPECT_EQ(one.code, 0);
    EXPECT_THAT(one.out, HasSubstr("Examples:"));
  }
  EXPECT_LE(lines_of(help.out), 30U);
  const Result version = run({"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_THAT(version.out, AllOf(StartsWith("tessera "), HasSubstr("SIMD"), HasSubstr("bf16")));
}

TEST_F(Cli, WrongUsageIsCodeTwo) {
  make_image("a.png");
  expect_error(run({}), 2, "--help");
  expect_error(run({"paint"}), 2, "--help");
  expect_error(run(segment({})), 2, "inputs");
  expect_error(run(segment({"a.png", "--shrad", "1/2"})), 2, "--shrad");
  expect_error(run(segment({"a.png", "--shard", "3/2"})), 2, "--shard");
  expect_error(run(segment({"a.png", "--max-memory", "lots"})), 2, "--max-memory");
  expect_error(run(segment({"a.png", "--precision", "fp7"})), 2, "fp7");
  expect_error(run(classify({})), 2, "no documents");
  expect_error(run(classify({"--text", "x", "--resume"})), 2, "--resume");
  expect_error(run({"bench"}), 2, "preset");
  expect_error(run({"profile", "a.png"}), 2, "-m");
  expect_error(run({"info", unet_, "--size", "0x9"}), 2, "--size");
}

TEST_F(Cli, OptionsMayComeFromTheEnvironment) {
  make_image("a.png");
  const Result result = run({"segment", "a.png"}, "/dev/null",
                            {{"TESSERA_MODEL", unet_}, {"TESSERA_OUTPUT", "elsewhere"}});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(fs::exists(at("elsewhere/a.mask.png")));
}

// ---- segment
// -------------------------------------------------------------------------------------

TEST_F(Cli, SegmentWritesMaskOverlayAndSummary) {
  make_image("a.png");
  const Result result = run(segment({"a.png", "-o", "out", "--instances", "--probabilities"}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(StartsWith("a.png: 30 x 41, "), HasSubstr("out/a.mask.png")));
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(files_in("out"),
              testing::ElementsAre("a.instances.tif", "a.mask.png", "a.overlay.png",
                                   "a.probabilities.npy", "summary.json"));
  const Image mask = ImageReader(at("out/a.mask.png")).read();
  EXPECT_EQ(mask.height, 30);
  EXPECT_EQ(mask.width, 41);
  const Image overlay = ImageReader(at("out/a.overlay.png")).read();
  EXPECT_EQ(overlay.samples(), 30 * 41 * 3);
  // A header of 128 bytes, then (1, 30, 41, 2) floats.
  EXPECT_EQ(fs::file_size(at("out/a.probabilities.npy")), 128U + 4U * 30 * 41 * 2);

  const json summary = json::parse(read_text(at("out/summary.json")));
  const json& image = summary["images"][0];
  EXPECT_EQ(image["height"], 30);
  EXPECT_EQ(image["width"], 41);
  EXPECT_EQ(image["pages"], 1);
  EXPECT_GE(image["tiles"], 1);
  EXPECT_EQ(image["files"].size(), 4U);
  const auto& ids = std::get<std::vector<std::uint8_t>>(mask.pixels);
  EXPECT_EQ(image["classes"][1]["name"], "cell");
  EXPECT_EQ(image["classes"][1]["pixels"], std::ranges::count(ids, 1));
  std::int64_t area = 0;
  for (const json& object : image["instances"]) area += object["area"].get<std::int64_t>();
  EXPECT_EQ(area, std::ranges::count(ids, 1));
  EXPECT_TRUE(summary["failed"].empty());
}

TEST_F(Cli, SegmentAnswersDoNotDependOnTilesOrThreads) {
  make_image("a.png", 90, 70);
  ASSERT_EQ(run(segment({"a.png", "-o", "whole", "--threads", "1", "-q"})).code, 0);
  const Result tiled =
      run(segment({"a.png", "-o", "tiled", "--tile", "48", "--threads", "2", "-v"}));
  ASSERT_EQ(tiled.code, 0) << tiled.err;
  EXPECT_THAT(tiled.err, AllOf(HasSubstr("tiles"), HasSubstr("predicted peak")));
  EXPECT_EQ(read_text(at("whole/a.mask.png")), read_text(at("tiled/a.mask.png")));
  EXPECT_GT(json::parse(read_text(at("tiled/summary.json")))["images"][0]["tiles"], 1);
}

TEST_F(Cli, SegmentKeepsThePagesOfAStack) {
  TiffWriter writer(at("stack.tif"));
  for (int page = 0; page < 3; ++page) writer.append(picture(25 + page, 33));
  writer.commit();
  ASSERT_EQ(run(segment({"stack.tif"})).code, 0);
  for (const char* name : {"out/stack.mask.tif", "out/stack.overlay.tif"}) {
    ImageReader reader(at(name));
    ASSERT_EQ(reader.page_count(), 3);
    EXPECT_EQ(reader.read(2).height, 27);
  }
  // Pages of two sizes do not fit into one array, and nothing of them may stay behind.
  expect_error(run(segment({"stack.tif", "-o", "other", "--probabilities"})), 1,
               "stack.tif: its pages differ in size");
  EXPECT_THAT(files_in("other"), testing::ElementsAre("summary.json"));
}

TEST_F(Cli, SegmentReadsStandardInputAndPrintsJson) {
  make_image("a.png");
  const Result result = run(segment({"-", "--json", "--no-overlay"}), at("a.png"));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(json::parse(result.out)["images"][0]["input"], "standard input");
  EXPECT_THAT(files_in("out"), testing::ElementsAre("stdin.mask.png"));
}

TEST_F(Cli, SegmentRunsImagesOfOnePixel) {
  make_image("one.png", 1, 1);
  ASSERT_EQ(run(segment({"one.png"})).code, 0);
  EXPECT_EQ(ImageReader(at("out/one.mask.png")).read().samples(), 1);
}

TEST_F(Cli, SegmentKeepsSubfolders) {
  make_image("in/day1/a.png");
  make_image("in/day2/a.png");
  ASSERT_EQ(run(segment({"in", "--no-overlay"})).code, 0);
  EXPECT_THAT(files_in("out"),
              testing::ElementsAre("day1/a.mask.png", "day2/a.mask.png", "summary.json"));
  ASSERT_EQ(run(segment({"in/*/a.png", "--no-overlay", "-o", "globbed"})).code, 0);
  EXPECT_THAT(files_in("globbed"), testing::Contains("day2/a.mask.png"));
}

TEST_F(Cli, SegmentGoesOnPastBadImages) {
  make_image("in/a.png");
  make_image("in/z.png");
  write_bytes(at("in/empty.png"), "");
  write_bytes(at("in/text.jpg"), "this is no picture");
  const Result result = run(segment({"in", "missing.png"}));
  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(
      result.err,
      AllOf(HasSubstr("3 of 5 images failed"), HasSubstr("tessera: in/empty.png: "),
            HasSubstr("tessera: in/text.jpg: "), HasSubstr("tessera: missing.png: no such file")));
  EXPECT_TRUE(fs::exists(at("out/a.mask.png")));
  EXPECT_TRUE(fs::exists(at("out/z.mask.png")));
  EXPECT_EQ(files_in("out").size(), 5U);
  const json summary = json::parse(read_text(at("out/summary.json")));
  EXPECT_EQ(summary["images"].size(), 2U);
  EXPECT_EQ(summary["failed"].size(), 3U);
}

TEST_F(Cli, SegmentRefusesBadImages) {
  write_bytes(at("empty.png"), "");
  expect_error(run(segment({"empty.png"})), 1, "empty.png: ");
  make_image("whole.png");
  const std::string bytes = read_text(at("whole.png"));
  write_bytes(at("cut.png"), bytes.substr(0, bytes.size() / 2));
  expect_error(run(segment({"cut.png"})), 1, "cut.png: ");
  // A header that claims 100,000 x 100,000 pixels, and nothing behind it.
  write_bytes(at("huge.pgm"), "P5 100000 100000 255\n");
  expect_error(run(segment({"huge.pgm"})), 1, "100000");
  expect_error(run(segment({"gone.png"})), 1, "gone.png: no such file");
  fs::create_directories(at("nothing"));
  expect_error(run(segment({"nothing"})), 1, "nothing: no images");
  expect_error(run(segment({"*.gif"})), 1, "no file matches");
  for (const std::string& name : files_in("out")) EXPECT_EQ(name, "summary.json");
}

TEST_F(Cli, SegmentRefusesBadModels) {
  make_image("a.png");
  expect_error(run({"segment", "a.png", "-m", "gone.safetensors"}), 1, "gone.safetensors");
  expect_error(run({"segment", "a.png", "-m", han_}), 1, "tessera classify");
  const std::string bytes = read_text(unet_);
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{7}, std::size_t{200}, bytes.size() - 1}) {
    write_bytes(at("cut.safetensors"), bytes.substr(0, size));
    expect_error(run({"segment", "a.png", "-m", "cut.safetensors"}), 1, "cut.safetensors");
  }
  std::string lying = bytes;
  lying[7] = '\x7f';  // a header of 2^62 bytes
  write_bytes(at("lying.safetensors"), lying);
  expect_error(run({"segment", "a.png", "-m", "lying.safetensors"}), 1, "lying.safetensors");
  expect_error(run(segment({"a.png", "--device", "cuda"})), 1, "cuda");
  expect_error(run(segment({"a.png", "--max-memory", "1M"})), 1, "--max-memory");
}

TEST_F(Cli, ShardsPartitionTheImages) {
  std::vector<std::string> names;
  for (int i = 0; i < 7; ++i) {
    names.push_back("img" + std::to_string(i) + ".mask.png");
    make_image("in/img" + std::to_string(i) + ".png", 12, 12);
  }
  std::size_t done = 0;
  for (const std::string shard : {"1/3", "2/3", "3/3"}) {
    const Result result = run(segment({"in", "--no-overlay", "--shard", shard}));
    ASSERT_EQ(result.code, 0) << result.err;
    done += lines_of(result.out);
  }
  EXPECT_EQ(done, 7U);  // none twice
  for (const std::string& name : names) EXPECT_TRUE(fs::exists(at("out/" + name))) << name;
  EXPECT_TRUE(fs::exists(at("out/summary.2-of-3.json")));
}

// ---- classify
// ------------------------------------------------------------------------------------

TEST_F(Cli, ClassifyPrintsLabelProbabilityAndName) {
  write_bytes(at("a.txt"), "The film was great. Was it?");
  const Result result = run(classify({"a.txt"}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, testing::MatchesRegex("(bad|good)\t[01]\\.[0-9]{4}\ta\\.txt\n"));
  const Result both = run(classify({"a.txt", "--top-k", "2"}));
  EXPECT_EQ(std::ranges::count(both.out, '\t'), 4);
}

TEST_F(Cli, ClassifyAttentionSumsToOneAndPointsIntoTheText) {
  const std::string text = "  The film was GREAT!  It was   dull, though \xC3\xA9t\xC3\xA9.";
  const Result result = run(classify({"--text", text, "--json", "--attention"}));
  ASSERT_EQ(result.code, 0) << result.err;
  const json answer = json::parse(result.out);
  double total = 0;
  std::vector<std::string> words;
  for (const json& sentence : answer["sentences"]) {
    total += sentence["weight"].get<double>();
    double inside = 0;
    for (const json& word : sentence["words"]) {
      inside += word["weight"].get<double>();
      const auto begin = word["begin"].get<std::size_t>(), end = word["end"].get<std::size_t>();
      EXPECT_GE(begin, sentence["begin"].get<std::size_t>());
      EXPECT_LE(end, sentence["end"].get<std::size_t>());
      words.push_back(text.substr(begin, end - begin));
    }
    EXPECT_NEAR(inside, 1, 1e-5);
  }
  EXPECT_NEAR(total, 1, 1e-5);
  EXPECT_THAT(words, testing::ElementsAre("The", "film", "was", "GREAT", "It", "was", "dull",
                                          "though", "\xC3\xA9t\xC3\xA9"));
  EXPECT_EQ(answer["unknown_words"], 3);
  double probabilities = 0;
  for (const json& one : answer["probabilities"]) probabilities += one["probability"].get<double>();
  EXPECT_NEAR(probabilities, 1, 1e-5);
}

TEST_F(Cli, ClassifyCountsLabels) {
  write_bytes(at("c.tsv"), "good\tgreat film\nbad\tgreat film\n1\tgreat film\nodd\tgreat film\n");
  const Result result = run(classify({"c.tsv"}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(lines_of(result.out), 5U);
  EXPECT_THAT(result.out, AllOf(HasSubstr("c.tsv:4\n"), HasSubstr("# accuracy 0."),
                                HasSubstr("of 2 right; 2 more")));
  write_bytes(at("c.jsonl"), "{\"text\": \"great\", \"label\": \"good\"}\n{\"text\": \"dull\"}\n");
  const Result lines = run(classify({"c.jsonl", "--json"}));
  ASSERT_EQ(lines.code, 0) << lines.err;
  EXPECT_THAT(lines.out, HasSubstr("\"labelled\":1"));
}

TEST_F(Cli, ClassifyBatchesGiveTheAnswersOfSingleDocuments) {
  std::string lines;
  for (int i = 0; i < 150; ++i) {
    std::string text;
    for (int j = 0; j <= i % 11; ++j) text += j % 4 == 3 ? "dull. " : "great the ";
    lines += text + "\n";
  }
  write_bytes(at("lines"), lines);
  const Result result = run(classify({"-", "--format", "lines"}), at("lines"));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(lines_of(result.out), 150U);
  EXPECT_THAT(result.out, HasSubstr("standard input:150\n"));
  const Result one_thread =
      run(classify({"-", "--format", "lines", "--threads", "1"}), at("lines"));
  EXPECT_EQ(result.out, one_thread.out);
  std::istringstream all(lines), answers(result.out);
  std::string text, answer;
  for (int i = 0; std::getline(all, text) && std::getline(answers, answer); ++i) {
    if (i % 50 != 7) continue;
    const Result single = run(classify({"--text", text}));
    EXPECT_EQ(single.out.substr(0, single.out.rfind('\t')), answer.substr(0, answer.rfind('\t')));
  }
}

TEST_F(Cli, ClassifyGoesOnPastBadDocuments) {
  write_bytes(at("in/good.txt"), "great");
  write_bytes(at("in/empty.txt"), "");
  write_bytes(at("in/stops.txt"), "... !?");
  write_bytes(at("in/bytes.txt"), "the \xff\xfe film");
  const Result result = run(classify({"in", "--json"}));
  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("2 of 4 documents failed"), HasSubstr("tessera: in/empty.txt: "),
                    HasSubstr("tessera: in/stops.txt: ")));
  EXPECT_THAT(result.out, HasSubstr("\"invalid_sequences\":2"));
  expect_error(run(classify({"in/empty.txt"})), 1, "no words");
  expect_error(run(classify({"--text", ""})), 1, "no words");
  expect_error(run(classify({"gone.txt"})), 1, "gone.txt: no such file");
  expect_error(run({"classify", "in/good.txt", "-m", unet_}), 1, "tessera segment");
  write_bytes(at("bad.jsonl"), "{\"text\": \"great\"}\nnot json\n");
  const Result records = run(classify({"bad.jsonl"}));
  EXPECT_EQ(records.code, 3);
  EXPECT_THAT(records.err, HasSubstr("line 2"));
  // One word of 10 MB, which no vocabulary knows.
  write_bytes(at("long.txt"), std::string(10'000'000, 'x'));
  EXPECT_EQ(run(classify({"long.txt"})).code, 0);
}

TEST_F(Cli, ClassifyShardsPartitionTheDocuments) {
  std::string lines;
  for (int i = 0; i < 10; ++i) lines += "good\tgreat film " + std::to_string(i) + "\n";
  write_bytes(at("c.tsv"), lines);
  ASSERT_EQ(run(classify({"c.tsv", "-o", "all.tsv"})).code, 0);
  const std::string all = read_text(at("all.tsv"));
  std::size_t sharded = 0;
  for (const std::string shard : {"1/3", "2/3", "3/3"}) {
    const Result result = run(classify({"c.tsv", "--shard", shard}));
    std::istringstream answers(result.out);
    for (std::string line; std::getline(answers, line);) {
      if (line.starts_with('#')) continue;
      EXPECT_THAT(all, HasSubstr(line + "\n"));
      ++sharded;
    }
  }
  EXPECT_EQ(sharded, 10U);
}

TEST_F(Cli, ClassifyReportsCutsAndRefusesEmptyCollections) {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "A great film. ";
  write_bytes(at("long.txt"), text);
  const Result cut = run(classify({"long.txt"}));
  EXPECT_EQ(cut.code, 0) << cut.err;
  EXPECT_THAT(cut.err, HasSubstr("1 document is longer than the model reads"));
  write_bytes(at("none.tsv"), "\n");
  expect_error(run(classify({"none.tsv"})), 1, "no documents in this file");
}

TEST_F(Cli, ClassifyHtmlEscapesWhatItShows) {
  const Result result = run(classify(
      {"--text", "The <script>alert('film')</script> was & \xff<br />great. !!! Dull \"film\"!",
       "--html", "page.html"}));
  ASSERT_EQ(result.code, 0) << result.err;
  const std::string page = read_text(at("page.html"));
  EXPECT_THAT(page,
              AllOf(StartsWith("<!doctype html>"), HasSubstr("</html>"), HasSubstr("&lt;"),
                    HasSubstr("&amp;"), HasSubstr("\xEF\xBF\xBD"),
                    HasSubstr("prefers-color-scheme: dark"), HasSubstr("↵"), HasSubstr("!!!")));
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, Not(HasSubstr("\xff")));
  EXPECT_THAT(page, Not(HasSubstr("http")));  // self-contained
}

// ---- info, bench, profile
// --------------------------------------------------------------------------

TEST_F(Cli, InfoDescribesModels) {
  const Result unet = run({"info", unet_, "--layers", "--size", "64x48"});
  ASSERT_EQ(unet.code, 0) << unet.err;
  EXPECT_THAT(unet.out, AllOf(HasSubstr("unet"), HasSubstr("down0/conv1"), HasSubstr("cell"),
                              HasSubstr("64 x 48"), HasSubstr("input sizes")));
  const Result machine = run({"info", unet_, "--json"});
  ASSERT_EQ(machine.code, 0) << machine.err;
  const json info = json::parse(machine.out);
  EXPECT_EQ(info["architecture"], "unet");
  EXPECT_EQ(info["memory"].size(), 2U);
  EXPECT_GT(info["parameters"], 0);
  const Result han = run({"info", han_, "--layers"});
  ASSERT_EQ(han.code, 0) << han.err;
  EXPECT_THAT(han.out, AllOf(HasSubstr("word/attention"), HasSubstr("good")));
  expect_error(run({"info", "gone.safetensors"}), 1, "gone.safetensors");
}

TEST_F(Cli, BenchReportsSpeedAndMemory) {
  const Result unet = run({"bench", "unet-paper", "--base", "4", "--depth", "2", "--size", "60",
                           "--iterations", "3", "--json"});
  ASSERT_EQ(unet.code, 0) << unet.err;
  const json result = json::parse(unet.out);
  EXPECT_EQ(result["runs"], 3);
  for (const char* key :
       {"median_seconds", "flops_per_second", "peak_flops_per_second", "bandwidth_bytes_per_second",
        "items_per_second", "start_seconds", "predicted_peak_bytes", "measured_peak_bytes"}) {
    EXPECT_GT(result[key], 0) << key;
  }
  EXPECT_LE(result["p10_seconds"], result["median_seconds"]);
  EXPECT_LE(result["median_seconds"], result["p90_seconds"]);
  const Result han = run({"bench", "-m", han_, "--iterations", "2"});
  ASSERT_EQ(han.code, 0) << han.err;
  EXPECT_THAT(han.out, AllOf(HasSubstr("documents/s"), HasSubstr("of peak")));
  expect_error(run({"bench", "unet-paper", "--size", "571"}), 2, "572");
}

TEST_F(Cli, ProfileShowsEveryNodeAndWritesATrace) {
  make_image("a.png", 64, 64);
  const Result result = run({"profile", "-m", unet_, "a.png", "--iterations", "2", "--trace",
                             "trace.json", "--roofline", "roofline.svg", "--why"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("down0/conv1"), HasSubstr("roofline%"), HasSubstr("total"),
                    HasSubstr("\n    not Winograd: pays from 16 channels on both sides")));
  EXPECT_THAT(read_text(at("roofline.svg")),
              AllOf(StartsWith("<svg "), HasSubstr("<title>down0/conv1: "), EndsWith("</svg>\n")));
  const json trace = json::parse(read_text(at("trace.json")));
  ASSERT_GT(trace["traceEvents"].size(), 4U);
  double last = -1;
  for (const json& event : trace["traceEvents"]) {
    EXPECT_EQ(event["ph"], "X");
    EXPECT_GE(event["ts"], last);
    last = event["ts"];
  }
  write_bytes(at("a.txt"), "The film was great.");
  const Result han = run({"profile", "-m", han_, "a.txt", "--sort", "time", "--json"});
  ASSERT_EQ(han.code, 0) << han.err;
  EXPECT_THAT(han.out, HasSubstr("word/rnn"));
  write_bytes(at("a.json"), han.out);
  const Result same = run({"profile", "--compare", "a.json", "a.json"});
  ASSERT_EQ(same.code, 0) << same.err;
  EXPECT_THAT(same.out, AllOf(HasSubstr("word/rnn"), HasSubstr("+0.0   1.000\n")));
}

TEST_F(Cli, ProfileComparesTwoResults) {
  const auto write = [&](const char* name, const std::string& nodes) {
    write_bytes(at(name), R"({"workload": "w", "precision": "fp32", "nodes": )" + nodes + "}");
  };
  write("a.json", R"([{"name": "x", "seconds": 1e-5, "choice": "mma 64x64\nnot others"},
                      {"name": "gone", "seconds": 2e-6}, {"name": "y", "seconds": 1e-6}])");
  write("b.json", R"([{"name": "y", "seconds": 4e-6}, {"name": "new", "seconds": 0},
                      {"name": "x", "seconds": 5e-6, "choice": "mma 128x128"}])");
  const Result result = run({"profile", "--compare", "a.json", "b.json"});
  ASSERT_EQ(result.code, 0) << result.err;
  // What moved most comes first, then what one of them has alone.
  EXPECT_THAT(result.out,
              MatchesRegex("A  a.json: w, fp32\nB  b.json: w, fp32\n\nnode .*\n"
                           "x +10.0 +5.0 +-5.0 +0.500  mma 64x64 -> mma 128x128\n"
                           "y +1.0 +4.0 +\\+3.0 +4.000\n"
                           "gone +2.0 +-\nnew +- +0.0\ntotal +13.0 +9.0 +-4.0 +0.692\n"));
  const auto error = [&](const std::string& nodes, const char* words) {
    write("b.json", nodes);
    expect_error(run({"profile", "--compare", "a.json", "b.json"}), 1, words);
  };
  error("7", "b.json: \"nodes\": expected a list");
  error("[7]", "b.json: nodes[0]: no result of 'tessera profile --json': the key \"name\"");
  error(R"([{"name": "x", "seconds": -1}])", "nodes[0]: \"seconds\": expected a number");
  error(R"([{"name": "x", "seconds": 1}, {"name": "x", "seconds": 1}])", "'x' is there twice");
  error("[", "b.json: ");
  expect_error(run({"profile", "--compare", "a.json", "nowhere.json"}), 1, "nowhere.json");
  expect_error(run({"profile", "--compare", "a.json", "b.json", "unet-paper"}), 2, "--compare");
  expect_error(run({"profile"}), 2, "unet-paper");
}

TEST_F(Cli, AutoRunsWithoutAGpuAndSaysSoInOneLine) {
  write_bytes(at("a.txt"), "The film was great.");
  const std::map<std::string, std::string> automatic{{"TESSERA_DEVICE", "auto"}};
  const Result result = run({"classify", "a.txt", "-m", han_}, "/dev/null", automatic);
  EXPECT_EQ(result.code, 0);
  // Nothing is said where a GPU runs it, where the build knows none, or the machine has none.
  if (!result.err.empty()) {
    EXPECT_EQ(lines_of(result.err), 1U);
    EXPECT_THAT(result.err, StartsWith("running on the CPU: "));
    EXPECT_TRUE(fs::exists("/dev/nvidiactl") || fs::exists("/dev/dxg") || fs::exists("/dev/nvgpu"));
  }
  EXPECT_EQ(run({"classify", "a.txt", "-m", han_, "--quiet"}, "/dev/null", automatic).err, "");
}

}  // namespace
}  // namespace tessera
