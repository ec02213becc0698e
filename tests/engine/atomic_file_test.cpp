// Files that appear whole or not at all: every system call fails or is the last before a kill, what
// cannot be replaced is written to, and what killed writers left is removed.
#include "engine/files/atomic_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "models/image/tiff.h"
#include "tests/support/error.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::string text_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class AtomicFiles : public testing::Test {
 protected:
  AtomicFiles() {
    std::string name = (fs::temp_directory_path() / "tessera-file-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~AtomicFiles() override { fs::remove_all(folder_); }

  void put(const fs::path& path, const std::string& text) const {
    std::ofstream(path, std::ios::binary) << text;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_))
      names.push_back(entry.path().filename().string());
    std::ranges::sort(names);
    return names;
  }

  fs::path folder_;
};

// ---- faults ------------------------------------------------------------------------------------

// Calls of the system, of which number `at` (from 0) fails with `code`, or kills the process.
struct Fault {
  int at = -1;
  int code = 0;  // 0: killed
  int calls = 0;

  bool strikes() {
    if (calls++ != at) return false;
    if (code == 0) ::_exit(9);  // without a destructor, as by SIGKILL
    errno = code;
    return true;
  }
} fault;

const FileCalls kFaulty{
    [](const char* path, int flags, mode_t mode) {
      return fault.strikes() ? -1 : FileCalls::of_system().open(path, flags, mode);
    },
    [](int descriptor, const void* bytes, std::size_t count) -> ssize_t {
      if (fault.strikes()) return -1;
      // In parts, as a disk that fills takes them before it fails.
      return FileCalls::of_system().write(descriptor, bytes, std::min<std::size_t>(count, 50'000));
    },
    [](int descriptor) { return fault.strikes() ? -1 : FileCalls::of_system().sync(descriptor); },
    [](int descriptor) {
      const int result = FileCalls::of_system().close(descriptor);
      return fault.strikes() ? -1 : result;
    },
    [](const char* from, const char* to) {
      return fault.strikes() ? -1 : FileCalls::of_system().rename(from, to);
    }};

void write_with(const fs::path& path, const std::string& text, Durability durability) {
  AtomicFile file(path, durability, kFaulty);
  file.stream() << text;
  file.commit();
}

// The number of calls of a write that nothing disturbs.
int count_calls(const fs::path& path, const std::string& text, Durability durability) {
  fault = {};
  write_with(path, text, durability);
  return fault.calls;
}

TEST_F(AtomicFiles, ACallThatFailsLeavesTheOldFileOrTheNew) {
  const std::string old_text = "old", new_text(200'000, 'n');
  const fs::path target = folder_ / "a.txt";
  for (const Durability durability : {Durability::kProcess, Durability::kPower}) {
    const bool power = durability == Durability::kPower;
    const int calls = count_calls(target, new_text, durability);
    // Opened, written in pieces, closed, renamed; and the file and its folder, opened for it,
    // synced.
    EXPECT_GE(calls, power ? 10 : 7);
    for (int at = 0; at < calls; ++at) {
      for (const int code : {ENOSPC, EIO, EDQUOT, EROFS}) {
        put(target, old_text);
        fault = {.at = at, .code = code};
        const std::string error = error_of([&] { write_with(target, new_text, durability); });
        EXPECT_THAT(error, AllOf(HasSubstr("a.txt'"), HasSubstr(std::strerror(code))));
        // Only once the new file has its name can its folder's sync still fail.
        const bool renamed = power && at >= calls - 2;
        EXPECT_EQ(text_of(target), renamed ? new_text : old_text) << at;
        EXPECT_THAT(error, HasSubstr(renamed ? "is written, but" : "cannot write")) << at;
        EXPECT_THAT(names(), ElementsAre("a.txt")) << at;
      }
    }
  }
}

TEST_F(AtomicFiles, AKillAtAnyCallLeavesTheOldFileOrTheNewAndTheNextWriterCleansUp) {
  const std::string new_text(200'000, 'n');
  const int calls = count_calls(folder_ / "probe", new_text, Durability::kPower);
  fs::remove(folder_ / "probe");
  int old_texts = 0, new_texts = 0, leftovers = 0;
  for (int at = 0; at <= calls; ++at) {
    const fs::path place = folder_ / std::to_string(at);  // looked through once a process
    fs::create_directory(place);
    put(place / "a.txt", "old");
    const pid_t child = ::fork();
    if (child == 0) {
      fault = {.at = at};
      write_with(place / "a.txt", new_text, Durability::kPower);
      ::_exit(0);
    }
    ::waitpid(child, nullptr, 0);
    const std::string found = text_of(place / "a.txt");
    EXPECT_TRUE(found == "old" || found == new_text) << at;
    ++(found == "old" ? old_texts : new_texts);
    leftovers += std::distance(fs::directory_iterator(place), {}) > 1 ? 1 : 0;
    write_text(place / "b.txt", "next");
    EXPECT_EQ(std::distance(fs::directory_iterator(place), {}), 2) << at;
  }
  EXPECT_GT(old_texts, 3);
  EXPECT_GE(new_texts, 2);  // after the rename
  EXPECT_GT(leftovers, 3);
}

TEST_F(AtomicFiles, AFullDiskIsAnErrorThatKeepsTheOldFile) {
  put(folder_ / "a.txt", "old");
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100'000, 100'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string error =
        error_of([&] { write_text(folder_ / "a.txt", std::string(300'000, 'n')); });
    ::_exit(error.find("File too large") != std::string::npos ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(text_of(folder_ / "a.txt"), "old");
  EXPECT_THAT(names(), ElementsAre("a.txt"));
}

// ---- leftovers ---------------------------------------------------------------------------------

TEST_F(AtomicFiles, TemporariesOfTheLivingAndFilesOfOthersStay) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t writer = ::fork();
  if (writer == 0) {
    const AtomicFile writing(folder_ / "a.txt");
    if (::write(ready[1], "x", 1) != 1) ::_exit(99);
    ::pause();
    ::_exit(0);
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  const std::string living = names().at(0);
  put(folder_ / "tessera.tmp-1-0", "left by a killed process");
  put(folder_ / "a.txt.tmp-1-0", "somebody's");
  const std::vector<std::string> others{"tessera.tmp-mine", "tessera.tmp-1", "tessera.tmp-1-0.txt",
                                        "tessera.tmp--0"};
  for (const std::string& name : others) put(folder_ / name, "somebody's");
  fs::create_symlink("a.txt.tmp-1-0", folder_ / "tessera.tmp-1-1");
  fs::create_directory(folder_ / "tessera.tmp-1-2");
  ASSERT_EQ(::mkfifo((folder_ / "tessera.tmp-1-3").c_str(), 0666), 0);
  write_text(folder_ / "b.txt", "new");
  std::vector<std::string> expected{
      living, "a.txt.tmp-1-0", "tessera.tmp-1-1", "tessera.tmp-1-2", "tessera.tmp-1-3", "b.txt"};
  expected.insert(expected.end(), others.begin(), others.end());
  EXPECT_THAT(names(), testing::UnorderedElementsAreArray(expected));
  ::kill(writer, SIGKILL);
  ::waitpid(writer, nullptr, 0);
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_F(AtomicFiles, ANewTemporaryIsNeverTakenForALeftover) {
  // Processes that look through folders in which the others begin to write.
  constexpr int kProcesses = 4, kFolders = 60;
  for (int i = 0; i < kFolders; ++i) fs::create_directory(folder_ / std::to_string(i));
  std::vector<pid_t> children;
  for (int p = 0; p < kProcesses; ++p) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    for (int i = 0; i < kFolders; ++i)
      write_text(folder_ / std::to_string(i) / std::to_string(p), "whole");
    ::_exit(0);
  }
  for (const pid_t child : children) {
    int status = -1;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  for (int i = 0; i < kFolders; ++i) {
    const fs::path place = folder_ / std::to_string(i);
    EXPECT_EQ(std::distance(fs::directory_iterator(place), {}), kProcesses);
    for (int p = 0; p < kProcesses; ++p) EXPECT_EQ(text_of(place / std::to_string(p)), "whole");
  }
}

// ---- names -------------------------------------------------------------------------------------

TEST_F(AtomicFiles, TheLongestNamesCanBeWritten) {
  for (const std::size_t length : {234, 235, 236, 254, 255}) {
    const fs::path target = folder_ / std::string(length, 'x');
    write_text(target, "new");
    EXPECT_EQ(text_of(target), "new") << length;
  }
  EXPECT_THAT(error_of([&] { write_text(folder_ / std::string(256, 'x'), "new"); }),
              HasSubstr("File name too long"));
  EXPECT_EQ(names().size(), 5U);
}

TEST_F(AtomicFiles, ALinkThatLeadsNowhereIsKeptAndWhatItNamesIsMade) {
  fs::create_directory(folder_ / "far");
  fs::create_symlink("far/b.txt", folder_ / "second");
  fs::create_symlink(folder_ / "second", folder_ / "first");
  write_text(folder_ / "first", "new");
  EXPECT_TRUE(fs::is_symlink(folder_ / "first"));
  EXPECT_TRUE(fs::is_symlink(folder_ / "second"));
  EXPECT_EQ(text_of(folder_ / "far/b.txt"), "new");
  fs::create_symlink("gone/b.txt", folder_ / "dead");
  EXPECT_THAT(error_of([&] { write_text(folder_ / "dead", "new"); }),
              HasSubstr("No such file or directory"));
  EXPECT_TRUE(fs::is_symlink(folder_ / "dead"));
  fs::create_symlink("circle", folder_ / "circle");
  EXPECT_THAT(error_of([&] { write_text(folder_ / "circle", "new"); }), HasSubstr("circle"));
  EXPECT_TRUE(fs::is_symlink(folder_ / "circle"));
}

// ---- what cannot be replaced -------------------------------------------------------------------

// An own descriptor on a regular file, at a position and with flags of a test's choice.
class OpenFile {
 public:
  OpenFile(const fs::path& path, int flags) : descriptor_(::open(path.c_str(), flags)) {
    EXPECT_GE(descriptor_, 0);
  }
  ~OpenFile() { ::close(descriptor_); }
  std::vector<fs::path> names() const {
    const std::string number = std::to_string(descriptor_);
    return {"/dev/fd/" + number, "/proc/self/fd/" + number, "/proc/thread-self/fd/" + number,
            fs::path("/proc") / std::to_string(::getpid()) / "fd" / number};
  }
  void seek(off_t to) const { ::lseek(descriptor_, to, SEEK_SET); }
  void write(const std::string& text) const {
    EXPECT_EQ(::write(descriptor_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }

 private:
  int descriptor_;
};

TEST_F(AtomicFiles, AnOpenFileIsWrittenToWhereItStands) {
  const fs::path target = folder_ / "log";
  put(target, "");
  for (const fs::path& name : OpenFile(target, O_RDWR).names()) {
    put(target, "0123456789");
    {
      const OpenFile appending(target, O_WRONLY | O_APPEND);
      write_text(name.parent_path() / appending.names()[0].filename(), "ab");
      appending.write("cd");
      EXPECT_EQ(text_of(target), "0123456789abcd") << name;
    }
    put(target, "0123456789");
    const OpenFile middle(target, O_WRONLY);
    middle.seek(4);
    write_text(name.parent_path() / middle.names()[0].filename(), "ab");
    middle.write("cd");  // the position went on
    EXPECT_EQ(text_of(target), "0123abcd89") << name;
  }
  EXPECT_THAT(names(), ElementsAre("log"));
}

TEST_F(AtomicFiles, ALinkToAnOpenFileIsWrittenTo) {
  put(folder_ / "log", "old ");
  const OpenFile appending(folder_ / "log", O_WRONLY | O_APPEND);
  fs::create_symlink(appending.names()[1], folder_ / "link");
  write_text(folder_ / "link", "new");
  EXPECT_EQ(text_of(folder_ / "log"), "old new");
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  fs::remove(folder_ / "log");  // which an open file outlives
  write_text(folder_ / "link", "nowhere");
  EXPECT_THAT(names(), ElementsAre("link"));
}

TEST_F(AtomicFiles, AnotherProcessesOpenFileIsAppendedTo) {
  put(folder_ / "log", "old ");
  const OpenFile file(folder_ / "log", O_WRONLY);
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  write_text(fs::path("/proc") / std::to_string(child) / "fd" / file.names()[0].filename(), "new");
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(text_of(folder_ / "log"), "old new");
}

TEST_F(AtomicFiles, AnOpenFileThatIsReadAloneIsAnError) {
  put(folder_ / "log", "old");
  const OpenFile file(folder_ / "log", O_RDONLY);
  EXPECT_THAT(error_of([&] { write_text(file.names()[0], "new"); }),
              AllOf(HasSubstr("Bad file descriptor"), HasSubstr("its end is missing")));
  EXPECT_EQ(text_of(folder_ / "log"), "old");
}

TEST_F(AtomicFiles, APipeIsWrittenToAndASocketIsRefused) {
  const fs::path pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0666), 0);
  const AtomicFile probe(pipe);  // waits for no reader, and gives it no end
  std::string read;
  std::thread reader([&] { read = text_of(pipe); });
  const std::string text(300'000, 'n');
  write_text(pipe, text);
  reader.join();
  EXPECT_TRUE(read == text);
  EXPECT_TRUE(fs::is_fifo(pipe));

  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  const std::string name = (folder_ / "socket").string();
  name.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_THAT(error_of([&] { write_text(name, "x"); }), HasSubstr("it is a socket"));
  EXPECT_TRUE(fs::is_socket(name));
  ::close(socket);
}

TEST_F(AtomicFiles, AFormatThatSeeksTakesNoPipe) {
  put(folder_ / "log", "old");
  const OpenFile file(folder_ / "log", O_WRONLY | O_APPEND);
  EXPECT_THAT(error_of([&] { TiffWriter writer(file.names()[0]); }),
              HasSubstr("needs a regular file"));
  EXPECT_EQ(text_of(folder_ / "log"), "old");
}

}  // namespace
}  // namespace tessera
