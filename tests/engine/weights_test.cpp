// The safetensors reader against well-formed files and against every lie that one can tell.
#include "engine/files/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "engine/files/mapped_pages.h"
#include "kernels/error.h"
#include "tests/support/error.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace tessera {
namespace {

using test::error_of;

using ::testing::AllOf;
using ::testing::HasSubstr;

// A file's bytes: length, header, then `data` bytes 0, 1, 2...
std::string file_of(std::string_view header, std::size_t data) {
  const std::uint64_t length = header.size();
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
  bytes += header;
  for (std::size_t i = 0; i < data; ++i) bytes += static_cast<char>(i);
  return bytes;
}

Weights read(const std::string& bytes) {
  return Weights::from_bytes(std::as_bytes(std::span(bytes)), "file");
}

// The text of the Error that `action` throws; fails where it throws none.
std::string error_of(std::string_view header, std::size_t data) {
  const std::string bytes = file_of(header, data);
  return error_of([&] { read(bytes); });
}

constexpr std::string_view kTwoTensors =
    R"({"__metadata__":{"tessera":"{}"},)"
    R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
    R"("b":{"dtype":"U8","shape":[3,1],"data_offsets":[8,11]}})";

TEST(Weights, RoundTrip) {
  const test::TempFolder scratch;
  const std::filesystem::path& folder = scratch.path();
  std::vector<float> f32(24);
  std::iota(f32.begin(), f32.end(), -3.5f);
  std::vector<std::uint16_t> halves = {0x3f80, 0, 0xffff};
  std::vector<std::int32_t> i32 = {-1, 2};
  std::vector<std::int64_t> i64 = {std::int64_t{1} << 40};
  std::vector<std::uint8_t> u8 = {1, 2, 3, 4, 5};
  const std::map<std::string, TensorView> tensors = {
      {"f32", {f32.data(), {DType::kF32, {2, 3, 4}}}},
      {"bf16", {halves.data(), {DType::kBF16, {3}}}},
      {"f16", {halves.data(), {DType::kF16, {1, 3}}}},
      {"i32", {i32.data(), {DType::kI32, {2}}}},
      {"scalar", {i64.data(), {DType::kI64, {}}}},
      {"u8 \"Ü\n", {u8.data(), {DType::kU8, {5}}}},
      {"none", {u8.data(), {DType::kF32, {0, 7}}}}};
  const std::map<std::string, std::string> metadata = {{"tessera", R"({"format": 1})"}, {"k", "ü"}};
  write_safetensors(folder / "model.safetensors", tensors, metadata);

  Weights weights = Weights::open(folder / "model.safetensors");
  for (const auto& [name, tensor] : tensors) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(weights.contains(name));
    const TensorView view = weights.take(name, tensor.shape());
    EXPECT_EQ(view.type, tensor.type);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.pointer) % size_of(view.type.dtype), 0u);
    EXPECT_EQ(std::memcmp(view.pointer, tensor.pointer, view.type.bytes()), 0);
  }
  weights.check_all_used();
  EXPECT_EQ(weights.names().size(), tensors.size());
  EXPECT_EQ(weights.total_bytes(), 24u * 4 + 6 + 6 + 8 + 8 + 5);
  EXPECT_EQ(weights.metadata("tessera"), R"({"format": 1})");
  EXPECT_EQ(weights.metadata("k"), "ü");
  EXPECT_EQ(weights.metadata("absent"), std::nullopt);
}

TEST(Weights, EqualContentGivesEqualBytes) {
  const test::TempFolder scratch;
  const std::filesystem::path& folder = scratch.path();
  std::vector<float> values = {1, 2, 3};
  const auto bytes_of = [&](std::string_view name) {
    write_safetensors(folder / name, {{"x", {values.data(), {DType::kF32, {3}}}}}, {{"k", "v"}});
    std::ifstream file(folder / name, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  EXPECT_EQ(bytes_of("first"), bytes_of("second"));
}

TEST(Weights, WriterRefusesWhatCannotBeRead) {
  const test::TempFolder scratch;
  const std::filesystem::path& folder = scratch.path();
  float value = 0;
  const TensorView view{&value, {DType::kF32, {1}}};
  EXPECT_THAT(error_of([&] {
                write_safetensors(folder / "x", {{"__metadata__", view}}, {});
              }),
              HasSubstr("__metadata__"));
  EXPECT_THAT(error_of([&] {
                write_safetensors(folder / "x", {{"\xff", view}}, {});
              }),
              HasSubstr("UTF-8"));
  EXPECT_THAT(error_of([&] {
                write_safetensors(folder / "none" / "x", {{"a", view}}, {});
              }),
              HasSubstr("cannot write"));
  EXPECT_FALSE(std::filesystem::exists(folder / "x"));
}

// Memory of this process that is in use, in bytes.
std::size_t resident_bytes() {
  std::size_t all = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

TEST(Weights, ViewsSurviveMoveAndReleasedPages) {
  const test::TempFolder scratch;
  const std::filesystem::path& folder = scratch.path();
  std::vector<float> values(std::size_t{1} << 22, 0.25f);  // 16 MiB
  const auto count = static_cast<std::int64_t>(values.size());
  write_safetensors(folder / "x", {{"x", {values.data(), {DType::kF32, {count}}}}}, {});
  Weights weights = Weights::open(folder / "x");
  const auto* data = weights.take_any_shape("x").as<const float>();
  const double sum = 0.25 * static_cast<double>(count);
  EXPECT_EQ(std::accumulate(data, data + count, 0.0), sum);
  const std::size_t before = resident_bytes();
  weights.release_pages();
  EXPECT_LT(resident_bytes() + weights.total_bytes() / 2, before);
  const Weights moved = std::move(weights);
  EXPECT_EQ(std::accumulate(data, data + count, 0.0), sum);
}

TEST(Weights, PagesOfAFileAreGivenBackAndMemoryIsKept) {
  const test::TempFolder scratch;
  std::vector<float> values(std::size_t{1} << 22, 0.25f);  // 16 MiB
  const auto bytes = std::as_bytes(std::span(values));
  std::ofstream(scratch.path() / "x", std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  const MappedFile file = MappedFile::open(scratch.path() / "x", "a file");
  const auto is_whole = [&] { return std::ranges::equal(file.bytes(), bytes); };
  EXPECT_TRUE(is_whole());
  const std::size_t before = resident_bytes();
  release_pages_of(file.bytes().subspan(1));
  EXPECT_LT(resident_bytes() + bytes.size() / 2, before);
  EXPECT_TRUE(is_whole());
  release_pages_of(bytes);  // of no file
  EXPECT_TRUE(is_whole());
}

TEST(Weights, EmptyHeaderAndPaddingAreFine) {
  EXPECT_EQ(read(file_of("{}", 0)).names().size(), 0u);
  EXPECT_EQ(read(file_of("{}      ", 0)).total_bytes(), 0u);
  const std::string bytes = file_of(std::string(kTwoTensors) + "  ", 11);
  EXPECT_THAT(read(bytes).names(), testing::ElementsAre("a", "b"));
}

TEST(Weights, UnalignedTensorsAreCopied) {
  for (std::size_t shift = 0; shift < 8; ++shift) {
    const std::string bytes = std::string(shift, ' ') +
                              file_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                      R"("b":{"dtype":"I32","shape":[2],"data_offsets":[1,9]}})",
                                      9);
    Weights weights =
        Weights::from_bytes(std::as_bytes(std::span(bytes)).subspan(shift), "shifted");
    const TensorView view = weights.take("b", {2});
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.pointer) % 4, 0u);
    EXPECT_EQ(view.as<const std::int32_t>()[0], 0x04030201);
    EXPECT_EQ(view.as<const std::int32_t>()[1], 0x08070605);
    EXPECT_EQ(weights.take("b", {2}).pointer, view.pointer);
  }
}

TEST(Weights, MissingMisshapedUnused) {
  const std::string bytes =
      file_of(R"({"down0/conv1/weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
              R"("up0/conv1/bias":{"dtype":"U8","shape":[3,1],"data_offsets":[8,11]}})",
              11);
  Weights weights = read(bytes);
  EXPECT_THAT(error_of([&] { weights.take("down0/conv2/weight", {2}); }),
              AllOf(HasSubstr("'down0/conv2/weight'"), HasSubstr("'down0/conv1/weight'")));
  EXPECT_THAT(error_of([&] {
                weights.take("down0/conv1/weight", {2, 1});
              }),
              AllOf(HasSubstr("(2)"), HasSubstr("(2, 1)"), HasSubstr("'down0/conv1/weight'")));
  // Neither attempt counts as use.
  EXPECT_THAT(error_of([&] { weights.check_all_used(); }), HasSubstr("2 of 2"));
  weights.take("down0/conv1/weight", {2});
  EXPECT_THAT(error_of([&] { weights.check_all_used(); }),
              AllOf(HasSubstr("1 of 2"), HasSubstr("'up0/conv1/bias'"),
                    testing::Not(HasSubstr("'down0/conv1/weight'"))));
  weights.take_any_shape("up0/conv1/bias");
  weights.check_all_used();
}

TEST(Weights, FilesThatAreNone) {
  const test::TempFolder scratch;
  const std::filesystem::path& folder = scratch.path();
  EXPECT_THAT(error_of([&] { Weights::open(folder / "absent"); }),
              AllOf(HasSubstr("absent"), HasSubstr("No such file")));
  EXPECT_THAT(error_of([&] { Weights::open(folder / ""); }), HasSubstr("not a regular file"));
  std::ofstream(folder / "empty").close();
  EXPECT_THAT(error_of([&] { Weights::open(folder / "empty"); }), HasSubstr("empty"));
  std::ofstream(folder / "text") << "\x89PNG\r\n\x1a\n and so on";
  EXPECT_THAT(error_of([&] { Weights::open(folder / "text"); }),
              HasSubstr("is it a safetensors file"));
}

TEST(Weights, ReadsFilesOfOthers) {
  const std::filesystem::path models = test::shared_dir() / "models";
  if (!std::filesystem::is_directory(models)) GTEST_SKIP() << "no models in " << models;
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(models)) {
    if (entry.path().extension() != ".safetensors") continue;
    SCOPED_TRACE(entry.path());
    Weights weights = Weights::open(entry.path());
    EXPECT_FALSE(weights.names().empty());
    std::size_t bytes = 0;
    for (const std::string& name : weights.names())
      bytes += weights.take_any_shape(name).type.bytes();
    EXPECT_EQ(bytes, weights.total_bytes());
    ++files;
  }
  EXPECT_GT(files, 0);
}

// A file cut anywhere, or with anything behind it, is refused; from memory and through the map.
TEST(Weights, TruncatedAtEveryByte) {
  const test::TempFolder scratch;
  const std::filesystem::path& folder = scratch.path();
  const std::string whole = file_of(kTwoTensors, 11);
  EXPECT_EQ(read(whole).names().size(), 2u);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::string cut = whole.substr(0, size);
    EXPECT_THROW(read(cut), Error) << size;
    std::ofstream(folder / "cut", std::ios::binary) << cut;
    EXPECT_THROW(Weights::open(folder / "cut"), Error) << size;
  }
  EXPECT_THROW(read(whole + "x"), Error);
}

// Each single byte replaced: an Error or a file that can be used, never anything else.
TEST(Weights, EveryByteFlipped) {
  const std::string whole = file_of(kTwoTensors, 11);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const int bit : {0, 1, 3, 5, 7}) {
      std::string bytes = whole;
      bytes[i] = static_cast<char>(bytes[i] ^ (1 << bit));
      try {
        Weights weights = read(bytes);
        for (const std::string& name : weights.names()) weights.take_any_shape(name);
      } catch (const Error&) {
      }
    }
  }
}

TEST(Weights, HeaderLengthLies) {
  for (const std::uint64_t length :
       {std::uint64_t{100'000'001}, ~std::uint64_t{0}, ~std::uint64_t{0} - 7}) {
    std::string bytes = file_of("{}", 0);
    std::memcpy(bytes.data(), &length, sizeof length);
    EXPECT_THAT(error_of([&] { read(bytes); }),
                AllOf(HasSubstr(std::to_string(length)), HasSubstr("100000000")));
  }
  std::string bytes = file_of("{}", 0);
  bytes[0] = 3;
  EXPECT_THAT(error_of([&] { read(bytes); }), HasSubstr("only 2 follow"));
}

TEST(Weights, BadJson) {
  using namespace std::string_literals;
  for (const std::string& header :
       {""s, " {}"s, "[]"s, "{"s, "{}}"s, "{} x"s, "{}\n\0 "s, "{}\0}"s, "{,}"s, "{\"a\"}"s,
        "{\"a\":}"s, "{\"\xff\":{}}"s, "{\"\xc3\":{}}"s, "\xef\xbb\xbf{}"s, "{/**/}"s, "{'a':1}"s,
        std::string(5, '\0')}) {
    EXPECT_THROW(read(file_of(header, 0)), Error) << header;
  }
  const std::string deep = "{\"a\":" + std::string(1'000'000, '[');
  EXPECT_THAT(error_of(deep, 0), HasSubstr("'a'"));
  EXPECT_THAT(error_of("{\"a\":{\"dtype\":\"F32\",\"shape\":" + std::string(1'000'000, '['), 0),
              HasSubstr("a list found in 'shape'"));
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_THAT(error_of(objects, 0), HasSubstr("'a'"));
}

// One tensor "a" whose fields are given as JSON, in a file with `data` bytes.
std::string lie(std::string_view dtype, std::string_view shape, std::string_view offsets,
                std::size_t data) {
  return error_of(
      fmt::format(R"({{"a":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape, offsets),
      data);
}

TEST(Weights, LyingShapesAndOffsets) {
  EXPECT_THAT(lie(R"("F32")", "[3]", "[0,8]", 8), AllOf(HasSubstr("f32 (3)"), HasSubstr("12")));
  EXPECT_THAT(lie(R"("F32")", "[-2]", "[0,8]", 8), HasSubstr("-2"));
  EXPECT_THAT(lie(R"("F32")", "[2.0]", "[0,8]", 8), HasSubstr("fraction"));
  EXPECT_THAT(lie(R"("F32")", "[true]", "[0,8]", 8), HasSubstr("true"));
  EXPECT_THAT(lie(R"("F32")", "[null]", "[0,8]", 8), HasSubstr("null"));
  EXPECT_THAT(lie(R"("F32")", R"(["2"])", "[0,8]", 8), HasSubstr("a text"));
  EXPECT_THAT(lie(R"("F32")", "2", "[0,8]", 8), HasSubstr("'shape'"));
  EXPECT_THAT(lie(R"("F32")", "{}", "[0,8]", 8), HasSubstr("an object"));
  EXPECT_THAT(lie("7", "[2]", "[0,8]", 8), HasSubstr("'dtype'"));
  EXPECT_THAT(lie(R"("F32")", "[1,1,1,1,1,1,2]", "[0,8]", 8), HasSubstr("6 axes"));
  // Products that wrap round to the right number of bytes, and extents beyond 64 bits.
  for (const std::string_view shape :
       {"[4294967296,4294967296]", "[9223372036854775808]", "[18446744073709551615]",
        "[4611686018427387906]", "[0,4294967296,4294967296]", "[4294967296,0,4294967296]",
        "[9223372036854775807,9223372036854775807,0]"}) {
    EXPECT_THAT(lie(R"("F32")", shape, "[0,8]", 8), HasSubstr("header lies")) << shape;
    EXPECT_THAT(lie(R"("F32")", shape, "[0,0]", 0), HasSubstr("header lies")) << shape;
  }
  EXPECT_THAT(lie(R"("F32")", "[99999999999999999999999]", "[0,8]", 8), HasSubstr("too large"));

  EXPECT_THAT(lie(R"("F32")", "[2]", "[0]", 8), HasSubstr("data_offsets"));
  EXPECT_THAT(lie(R"("F32")", "[2]", "[]", 8), HasSubstr("0 data_offsets"));
  EXPECT_THAT(lie(R"("F32")", "[2]", "[0,8,8]", 8), HasSubstr("more than two"));
  EXPECT_THAT(lie(R"("F32")", "[2]", "[8,0]", 8), HasSubstr("8 to 0"));
  EXPECT_THAT(lie(R"("F32")", "[2]", "[0,16]", 8), HasSubstr("0 to 16 of 8"));
  EXPECT_THAT(lie(R"("F32")", "[2]", "[18446744073709551608,18446744073709551615]", 8),
              HasSubstr("18446744073709551615"));
  EXPECT_THAT(lie(R"("F32")", "[2]", "[4,12]", 12), HasSubstr("leave a hole"));
  EXPECT_THAT(lie(R"("F32")", "[2]", "[0,8]", 12), HasSubstr("4 bytes follow"));

  EXPECT_THAT(error_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                       R"("b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}})",
                       7),
              HasSubstr("overlap"));
  EXPECT_THAT(error_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                       R"("b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
                       4),
              HasSubstr("overlap"));
}

TEST(Weights, UnsupportedElementTypesAreNamed) {
  for (const std::string_view dtype : {"F64", "BOOL", "U16", "F8_E4M3", "f32", ""}) {
    EXPECT_THAT(lie(fmt::format("\"{}\"", dtype), "[2]", "[0,8]", 8),
                AllOf(HasSubstr("'a'"), HasSubstr(fmt::format("'{}'", dtype))));
  }
}

TEST(Weights, DuplicateAndUnknownKeys) {
  constexpr std::string_view kTensor = R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  EXPECT_THAT(error_of(fmt::format(R"({{"a":{0},"a":{0}}})", kTensor), 0), HasSubstr("twice"));
  EXPECT_THAT(error_of(fmt::format(R"({{"a":{0},"\u0061":{0}}})", kTensor), 0), HasSubstr("twice"));
  EXPECT_THAT(error_of(R"({"__metadata__":{},"__metadata__":{}})", 0), HasSubstr("twice"));
  EXPECT_THAT(error_of(R"({"__metadata__":{"k":"1","k":"2"}})", 0), HasSubstr("'k'"));
  EXPECT_THAT(error_of(R"({"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0),
              HasSubstr("repeated key 'dtype'"));
  EXPECT_THAT(error_of(R"({"a":{"shape":[0],"shape":[0],"dtype":"U8","data_offsets":[0,0]}})", 0),
              HasSubstr("repeated key 'shape'"));
  EXPECT_THAT(error_of(R"({"a":{"stride":[1],"dtype":"U8"}})", 0), HasSubstr("'stride'"));
  EXPECT_THAT(error_of(R"({"a":{"dtype":"U8","shape":[0]}})", 0), HasSubstr("no 'data_offsets'"));
  EXPECT_THAT(error_of(R"({"a":{"data_offsets":[0,0],"shape":[0]}})", 0), HasSubstr("no 'dtype'"));
  EXPECT_THAT(error_of(R"({"a":{"dtype":"U8","data_offsets":[0,0]}})", 0), HasSubstr("no 'shape'"));
  EXPECT_THAT(error_of(R"({"a":[]})", 0), HasSubstr("a list found for 'a'"));
  EXPECT_THAT(error_of(R"({"__metadata__":{"k":1}})", 0), HasSubstr("'k'"));
  EXPECT_THAT(error_of(R"({"__metadata__":{"k":{}}})", 0), HasSubstr("'k'"));
  EXPECT_THAT(error_of(R"({"__metadata__":{"k":["v"]}})", 0), HasSubstr("'k'"));
  EXPECT_THAT(error_of(R"({"__metadata__":"text"})", 0), HasSubstr("__metadata__"));
}

// An error never repeats a hostile name as it is.
TEST(Weights, LongAndControlNamesAreTamedInErrors) {
  const std::string error = error_of("{\"" + std::string(100'000, 'n') + R"(\u001b[31m\n":[]})", 0);
  EXPECT_LT(error.size(), 400u);
  EXPECT_EQ(in_quotes("a\x1b[31m\nb"), "'a?[31m?b'");
  EXPECT_EQ(in_quotes(std::string(99, 'n') + "ü"), "'" + std::string(99, 'n') + "...'");
}

}  // namespace
}  // namespace tessera
