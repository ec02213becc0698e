// Pickles and zip files that were made to harm, or damaged.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <fstream>
#include <string>
#include <vector>

#include "models/import/import.h"
#include "models/import/pickle.h"
#include "models/import/zip.h"
#include "tests/support/error.h"
#include "tests/support/temp_folder.h"

namespace tessera {
namespace {

using namespace std::string_literals;
using test::error_of;
using testing::AllOf;
using testing::HasSubstr;

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

// ---- pickles

nlohmann::json value_of(const std::string& pickle) {
  const Pickle read = Pickle::read(bytes_of(pickle), "x.pkl");
  std::size_t budget = 1000;
  return read.to_json(read.root, 8, budget);
}
std::string pickle_error(const std::string& pickle, const PickleLimits& limits = {}) {
  return error_of([&] { Pickle::read(bytes_of(pickle), "x.pkl", limits); });
}

TEST(PickleMachine, CallsAreKeptByNameAlone) {
  // os.system("ls"), and getattr(os, "system")("ls").
  EXPECT_EQ(value_of("cos\nsystem\n(S'ls'\ntR.")["class"], "os.system");
  const std::string nested = "c__builtin__\ngetattr\n(cos\nS'system'\ntR(S'ls'\ntR.";
  EXPECT_EQ(value_of(nested)["class"], "");  // what a call of a call would make has no name
  EXPECT_EQ(value_of("c__builtin__\neval\n(S'1+1'\ntR.")["class"], "__builtin__.eval");
  EXPECT_EQ(value_of("ccollections\nOrderedDict\n((lp0\n(S'a'\nI1\ntatR."),
            (nlohmann::json{{"a", 1}}));
}

TEST(PickleMachine, WhatIsMalformedIsRefused) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "bytes are expected"},
      {"I1\n", "1 more bytes"},
      {".", "stack is empty"},
      {"(.", "stack is empty"},
      {"t.", "mark is missing"},
      {"\x85.", "stack is empty"},
      {"h\x05.", "before it is made"},
      {"K\x01r\xff\xff\xff\x7f.", "memo entry"},
      {"\x80\x09N.", "protocol 9"},
      {"X\xff\xff\xff\x7f"s + "abc.", "more bytes are expected"},
      {"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "more bytes are expected"},
      {"\x95\xff\xff\xff\xff\xff\xff\xff\xff.", "frame"},
      {"K\x01K\x02"s + "a.", "holds none"},
      {"K\x05K\x01K\x02s.", "holds none"},
      {"}(K\x01u.", "has no value"},
      {"K\x01K\x02R.", "no tuple"},
      {"}}b.", "plain data"},
      {"i__main__\nX\n.", "opcode 0x69"},
      {"\x97.", "opcode 0x97"},
      {"\x82\x01.", "opcode 0x82"},
      {"I1x\n.", "number"},
      {"S'x\n.", "quotes"},
      {"V\\u12\n.", "escape"},
      {"K\x01K\x02\x93.", "no name"},
  };
  for (const auto& [pickle, expected] : cases)
    EXPECT_THAT(pickle_error(pickle), HasSubstr(expected)) << pickle;
}

TEST(PickleMachine, BombsMeetTheirLimits) {
  EXPECT_THAT(pickle_error(std::string(5000, '(')), HasSubstr("open containers"));
  EXPECT_THAT(pickle_error(std::string(2000, 'N') + ".", {.opcodes = 1000}),
              HasSubstr("1000 opcodes"));
  EXPECT_THAT(pickle_error(std::string(2000, ']') + ".", {.values = 1000}),
              HasSubstr("1000 values"));
  // A list that is doubled by each set made of it.
  std::string doubled = "]q\0"s + "(" + std::string(100, 'N') + "e0";
  for (int i = 0; i < 100; ++i) doubled += "c__builtin__\nset\nh\0\x85R0"s;
  EXPECT_THAT(pickle_error(doubled + "N.", {.values = 5000}), HasSubstr("5000 values"));
  // Latin-1 texts that become longer, and names.
  std::string latin;
  for (int i = 0; i < 100; ++i) latin += "U\x64" + std::string(100, '\xe9') + "0";
  EXPECT_THAT(pickle_error(latin + "N.", {.made_text = 10000}), HasSubstr("10000 bytes of text"));
}

TEST(PickleMachine, ValuesThatHoldThemselvesOrEachOtherAreCut) {
  EXPECT_TRUE(value_of("]q\0h\0a."s).is_array());
  // 2^64 texts in 64 lists that hold the one before twice.
  std::string laughs = "X\x02\0\0\0ha"s;
  for (int i = 0; i < 64; ++i) laughs += "2\x86";
  laughs += ".";
  const Pickle read = Pickle::read(bytes_of(laughs), "x.pkl");
  std::size_t budget = 10000;
  read.to_json(read.root, 100, budget);
  EXPECT_EQ(budget, 0u);
}

TEST(PickleMachine, EqualKeysOfADictGiveTheLast) {
  EXPECT_EQ(value_of("}(X\1\0\0\0aK\1X\1\0\0\0aK\2u."s)["a"], 2);
  // A million times the same word stays one.
  std::string many = "}(";
  for (int i = 0; i < 1'000'000; ++i) many += "X\1\0\0\0aK\1"s;
  many += "u.";
  const Pickle read = Pickle::read(bytes_of(many), "x.pkl");
  EXPECT_EQ(read.find(read[read.root], "a")->integer, 1);
  EXPECT_EQ(read.find(read[read.root], "b"), nullptr);
}

// ---- zip files

struct Member {
  std::string name, content;
  bool deflated = false;
  std::uint64_t said = ~std::uint64_t{0};   // bytes in the directory, if others than it has
  std::uint64_t begin = ~std::uint64_t{0};  // where the directory says it lies
  std::uint16_t flags = 0;
  std::string local_name{};
  std::string behind{};  // the content
};

template <class Number>
void put(std::string& out, Number number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof number);
}

std::string deflated(const std::string& content) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, content.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

// As PyTorch writes them: sizes in the directory alone.
std::string zip_of(const std::vector<Member>& members, const std::string& comment = "") {
  std::string file, directory;
  for (const Member& member : members) {
    const std::string stored = member.deflated ? deflated(member.content) : member.content;
    const auto checksum =
        static_cast<std::uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(member.content.data()),
                                         static_cast<uInt>(member.content.size())));
    const auto begin =
        static_cast<std::uint32_t>(member.begin == ~std::uint64_t{0} ? file.size() : member.begin);
    const std::string& local = member.local_name.empty() ? member.name : member.local_name;
    file += "PK\3\4";
    put<std::uint16_t>(file, 20), put<std::uint16_t>(file, 8), put<std::uint16_t>(file, 0);
    file += std::string(16, '\0');
    put(file, static_cast<std::uint16_t>(local.size())), put<std::uint16_t>(file, 0);
    file += local + stored + member.behind;
    directory += "PK\1\2";
    put<std::uint16_t>(directory, 20), put<std::uint16_t>(directory, 20);
    put(directory, member.flags);
    put<std::uint16_t>(directory, member.deflated ? 8 : 0);
    directory += std::string(4, '\0');
    put(directory, checksum);
    put(directory, static_cast<std::uint32_t>(stored.size()));
    put(directory, static_cast<std::uint32_t>(
                       member.said == ~std::uint64_t{0} ? member.content.size() : member.said));
    put(directory, static_cast<std::uint16_t>(member.name.size()));
    directory += std::string(12, '\0');
    put(directory, begin);
    directory += member.name;
  }
  const auto begin = static_cast<std::uint32_t>(file.size());
  file += directory + "PK\5\6" + std::string(4, '\0');
  put(file, static_cast<std::uint16_t>(members.size()));
  put(file, static_cast<std::uint16_t>(members.size()));
  put(file, static_cast<std::uint32_t>(directory.size())), put(file, begin);
  put(file, static_cast<std::uint16_t>(comment.size()));
  return file + comment;
}

std::string zip_error(const std::string& bytes) {
  return error_of([&] { ZipArchive::read(bytes_of(bytes), "x.zip"); });
}

TEST(Zip, StoredMembersAreUsedInPlaceAndDeflatedOnesInflated) {
  const std::string text(3000, 'a');
  const std::string file =
      zip_of({{"m/data.pkl", "hello"}, {"m/code/", ""}, {"m/x", text, true}}, "a comment PK\5\6");
  const ZipArchive archive = ZipArchive::read(bytes_of(file), "x.zip");
  ASSERT_EQ(archive.members().size(), 2u);
  std::string inflated;
  const auto stored = archive.content(*archive.find("m/data.pkl"), 5, inflated);
  EXPECT_EQ(stored.data(), bytes_of(file).data() + file.find("hello"));
  EXPECT_EQ(archive.find("m/code/"), nullptr);
  archive.content(*archive.find("m/x"), 3000, inflated);
  EXPECT_EQ(inflated, text);
  EXPECT_THAT(error_of([&] { archive.content(*archive.find("m/x"), 2999, inflated); }),
              HasSubstr("at most 2999"));
}

TEST(Zip, WhatLeadsElsewhereOrLiesTwiceIsRefused) {
  for (const char* name : {"../x", "/x", "a/../../x", "C:x", "a\\x"})
    EXPECT_THAT(zip_error(zip_of({{name, "1"}})), HasSubstr("leads out")) << name;
  EXPECT_THAT(zip_error(zip_of({{"", "1"}})), HasSubstr("leads out"));
  EXPECT_THAT(zip_error(zip_of({{"a", "1"}, {"a", "2"}})), HasSubstr("twice"));
  Member shadow{"b", "12345"};
  shadow.local_name = "c";
  EXPECT_THAT(zip_error(zip_of({shadow})), HasSubstr("another name"));
  EXPECT_THAT(zip_error(zip_of({{"a", "1234567"}, {.name = "a2", .content = "1", .begin = 0}})),
              HasSubstr("another name"));
  // Two that are one: the second's header lies inside of the first's content.
  const std::string inner = zip_of({{"b", "xy"}});
  const std::string head = inner.substr(0, inner.find("PK\1\2"));
  EXPECT_THAT(zip_error(zip_of({{"a", head}, {.name = "b", .content = "xy", .begin = 31}})),
              HasSubstr("overlap"));
  Member encrypted{"a", "1"};
  encrypted.flags = 1;
  EXPECT_THAT(zip_error(zip_of({encrypted})), HasSubstr("encrypted"));
  EXPECT_THAT(zip_error(zip_of({{.name = "a", .content = "1", .begin = 1'000'000}})),
              HasSubstr("lies at"));
  EXPECT_THAT(zip_error(zip_of({{.name = "a", .content = "123", .said = 5}})),
              HasSubstr("said to hold 5"));
}

TEST(Zip, DataDescriptorsAreNotAsked) {
  std::string descriptor = "PK\7\10";  // behind a content, as who writes to a pipe tells its size
  put<std::uint32_t>(descriptor, 0), put<std::uint32_t>(descriptor, 4'000'000'000);
  put<std::uint32_t>(descriptor, 4'000'000'000);
  Member stored{"a", "12345"}, inflated{"b", std::string(1000, 'b'), true};
  stored.behind = inflated.behind = descriptor;
  const std::string file = zip_of({stored, inflated});
  const ZipArchive archive = ZipArchive::read(bytes_of(file), "x.zip");
  std::string memory;
  EXPECT_EQ(archive.content(*archive.find("a"), 1 << 20, memory).size(), 5u);
  EXPECT_EQ(archive.content(*archive.find("b"), 1 << 20, memory).size(), 1000u);
}

TEST(Zip, BombsAreRefusedBeforeTheyCostMemory) {
  const std::string file = zip_of(
      {{.name = "a", .content = std::string(1000, 'a'), .deflated = true, .said = 4'000'000'000}});
  const ZipArchive archive = ZipArchive::read(bytes_of(file), "x.zip");
  std::string inflated;
  EXPECT_THAT(error_of([&] { archive.content(archive.members()[0], ~std::size_t{0}, inflated); }),
              HasSubstr("cannot hold"));
  EXPECT_LT(inflated.capacity(), 1000u);
  // More than it says.
  const std::string more =
      zip_of({{.name = "a", .content = std::string(100'000, 'a'), .deflated = true, .said = 1000}});
  const ZipArchive liar = ZipArchive::read(bytes_of(more), "x.zip");
  EXPECT_THAT(error_of([&] { liar.content(liar.members()[0], 1 << 20, inflated); }),
              HasSubstr("does not inflate"));
}

// ---- what lies in archives

std::string import_error(const std::string& bytes) {
  const test::TempFolder folder;
  std::ofstream(folder.path() / "x.zip", std::ios::binary) << bytes;
  return error_of([&] { import_model(folder.path() / "x.zip"); });
}

TEST(TorchArchive, StoragesBeyondTheirMemberAreRefused) {
  // {"w": a tensor of 100 floats in a storage that says so, whose member has 8 bytes}
  const std::string pickle =
      "\x80\x02}X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(("
      "X\7\0\0\0storagectorch\nFloatStorage\n"
      "X\1\0\0\0"
      "0X\3\0\0\0cpuK\x64tQK\0K\x64\x85K\1\x85\x89"
      "ccollections\nOrderedDict\n)RtRs."s;
  EXPECT_THAT(
      import_error(zip_of({{"m/data.pkl", pickle}, {"m/data/0", "12345678"}})),
      AllOf(HasSubstr("8 bytes, 100 elements of 4 were expected"), HasSubstr("get it again")));
  EXPECT_THAT(import_error(zip_of({{"m/data.pkl", pickle}})), HasSubstr("no member 'm/data/0'"));
  // The storage may be larger than what the directory inflates to.
  EXPECT_THAT(import_error(zip_of({{"m/data.pkl", pickle},
                                   {.name = "m/data/0",
                                    .content = std::string(100, 'a'),
                                    .deflated = true,
                                    .said = 2'000'000'000}})),
              HasSubstr("at most 1073741824"));
}

TEST(KerasArchive, WeightsThatInflateWithoutBoundAreRefused) {
  EXPECT_THAT(import_error(zip_of({{"config.json", "{}"},
                                   {.name = "model.weights.h5",
                                    .content = std::string(1000, 'a'),
                                    .deflated = true,
                                    .said = 3'000'000'000}})),
              HasSubstr("at most 1073741824 are taken"));
}

TEST(Zip, CutOrChangedFilesAreRefused) {
  const std::string file = zip_of({{"a", "12345"}, {"b", "12345", true}});
  for (std::size_t size = 0; size < file.size(); ++size)
    EXPECT_FALSE(zip_error(file.substr(0, size)).empty());
  std::string changed = file;
  changed[changed.find("12345")] = '9';
  const ZipArchive archive = ZipArchive::read(bytes_of(changed), "x.zip");
  std::string inflated;
  EXPECT_THAT(error_of([&] { archive.content(*archive.find("a"), 5, inflated); }),
              HasSubstr("checksum"));
}

}  // namespace
}  // namespace tessera
