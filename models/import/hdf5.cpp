#include "models/import/hdf5.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <utility>

#include "engine/files/safetensors.h"
#include "kernels/error.h"
#include "models/import/hdf5_library.h"

namespace tessera {
namespace {

// What the child hands over: the bytes of copied tensors, JSON, and this at the end.
struct Trailer {
  std::uint64_t json_begin = 0, json_bytes = 0;
};

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }

 private:
  int number_;
};

void write_all(int to, const void* from, std::size_t size) {
  const char* at = static_cast<const char*>(from);
  while (size > 0) {
    const ssize_t written = ::write(to, at, size);
    if (written < 0 && errno == EINTR) continue;
    require(written > 0, "no memory for the file's tensors");
    at += written;
    size -= static_cast<std::size_t>(written);
  }
}

// Seconds and bytes beyond what the parent has: a file that makes the library loop or fill the
// memory ends the child alone.
void limit_resources(std::size_t file_bytes) {
  constexpr rlim_t kSeconds = 30;
  constexpr rlim_t kBytes = rlim_t{4} << 30;
  const auto limit = [](auto what, rlim_t value) {
    const rlimit both{value, value};
    ::setrlimit(what, &both);
  };
  limit(RLIMIT_CPU, kSeconds);
  limit(RLIMIT_CORE, 0);
  std::ifstream sizes("/proc/self/statm");
  if (rlim_t pages = 0; sizes >> pages)
    limit(RLIMIT_AS,
          pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + 2 * file_bytes + kBytes);
}

#ifdef SYS_pipe
constexpr auto kPipe = SYS_pipe;
#else
constexpr auto kPipe = SYS_pipe2;
#endif

// From here on the process may use its memory and what it has open, and end; all else fails.
// (The sanitizer of undefined behaviour learns by writing to a pipe whether memory can be read.)
// A kernel without filters leaves it as it is: they are the second wall, not the first.
void renounce_rights() {
  constexpr std::array kAllowed{SYS_read,         SYS_write,          SYS_close,
                                SYS_lseek,        SYS_mmap,           SYS_munmap,
                                SYS_mremap,       SYS_mprotect,       SYS_madvise,
                                SYS_brk,          SYS_futex,          SYS_exit,
                                SYS_exit_group,   SYS_fstat,          SYS_newfstatat,
                                SYS_rt_sigreturn, SYS_getpid,         SYS_rt_sigaction,
                                SYS_getrandom,    SYS_clock_gettime,  SYS_gettimeofday,
                                SYS_sched_yield,  SYS_rt_sigprocmask, SYS_sigaltstack,
                                SYS_gettid,       SYS_pipe2,          kPipe};
  std::vector<sock_filter> filter;
  filter.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  for (std::size_t i = 0; i < kAllowed.size(); ++i) {
    const auto to_allow = static_cast<std::uint8_t>(kAllowed.size() - i);
    filter.push_back(
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(kAllowed[i]), to_allow, 0));
  }
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
    ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

// The child's life. What it writes to `to` is all that is seen of it.
[[noreturn]] void read_in_child(std::span<const std::byte> bytes, int to) {
  for (const int fault : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL}) ::signal(fault, SIG_DFL);
  std::string text;
  std::uint64_t copied = 0;
  try {
    limit_resources(bytes.size());
    renounce_rights();
    const nlohmann::json walked = walk_hdf5(bytes, [&](std::span<const std::byte> values) {
      write_all(to, values.data(), values.size());
      copied += values.size();
    });
    text = walked.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  } catch (const std::exception& error) {
    text = nlohmann::json{{"error", error.what()}}.dump(-1, ' ', false,
                                                        nlohmann::json::error_handler_t::replace);
  }
  int status = 1;
  try {
    const Trailer trailer{copied, text.size()};
    write_all(to, text.data(), text.size());
    write_all(to, &trailer, sizeof trailer);
    status = 0;
  } catch (const std::exception&) {
  }
  ::_exit(status);
}

// All that the child wrote.
std::pair<std::shared_ptr<const std::byte>, std::size_t> map_answer(int from) {
  const off_t size = ::lseek(from, 0, SEEK_END);
  require(size >= static_cast<off_t>(sizeof(Trailer)), "the HDF5 library gave no answer");
  void* map = ::mmap(nullptr, static_cast<std::size_t>(size), PROT_READ, MAP_PRIVATE, from, 0);
  require(map != MAP_FAILED, "no memory for {} bytes of tensors", size);
  const auto bytes = static_cast<std::size_t>(size);
  return {{static_cast<const std::byte*>(map),
           [bytes](const std::byte* at) { ::munmap(const_cast<std::byte*>(at), bytes); }},
          bytes};
}

Hdf5 read_answer(std::span<const std::byte> bytes, int from) {
  const auto [map, size] = map_answer(from);
  Trailer trailer;
  std::memcpy(&trailer, map.get() + size - sizeof trailer, sizeof trailer);
  const std::span<const std::byte> answer(map.get(), size - sizeof trailer);
  require(trailer.json_begin <= answer.size() &&
              trailer.json_bytes == answer.size() - trailer.json_begin,
          "the HDF5 library gave no answer");
  const char* text = reinterpret_cast<const char*>(answer.data() + trailer.json_begin);
  Hdf5 result = hdf5_of_walk(std::string_view(text, trailer.json_bytes), bytes,
                             answer.first(trailer.json_begin));
  result.copy = map;
  return result;
}

}  // namespace

// The child is as little trusted as the file: whatever it says is checked.
Hdf5 hdf5_of_walk(std::string_view text, std::span<const std::byte> bytes,
                  std::span<const std::byte> copied) {
  const nlohmann::json walked = nlohmann::json::parse(text);
  if (walked.contains("error")) throw Error(walked.at("error").get<std::string>());
  Hdf5 result;
  for (const nlohmann::json& one : walked.at("tensors")) {
    StoredTensor tensor;
    tensor.name = one.at("name").get<std::string>();
    const int type = one.at("type").get<int>();
    require(type >= 0 && type <= static_cast<int>(StoredTensor::Type::kF64), "an unknown type");
    tensor.type = static_cast<StoredTensor::Type>(type);
    tensor.shape = one.at("shape").get<std::vector<std::int64_t>>();
    const std::span<const std::byte> source = one.at("copied").get<bool>() ? copied : bytes;
    const auto offset = one.at("offset").get<std::uint64_t>();
    const auto held = one.at("bytes").get<std::uint64_t>();
    require(offset <= source.size() && held <= source.size() - offset,
            "the dataset {} lies beyond the end of the file, which is cut off; fetch it again",
            in_quotes("/" + tensor.name));
    tensor.bytes = source.subspan(offset, held);
    check_stored(tensor);
    result.tensors.push_back(std::move(tensor));
  }
  for (const auto& group : walked.at("groups").items()) {
    require(group.value().is_object(), "a group without attributes");
    for (const nlohmann::json& attribute : group.value()) {
      const auto is_text = [](const nlohmann::json& one) { return one.is_string(); };
      require(
          is_text(attribute) || (attribute.is_array() && std::ranges::all_of(attribute, is_text)),
          "an attribute that is no text");
    }
    result.groups.emplace(group.key(), group.value());
  }
  require(result.groups.contains(""), "no outermost group");
  result.notes = walked.at("notes").get<std::vector<std::string>>();
  return result;
}

Hdf5 read_hdf5(std::span<const std::byte> bytes, const std::string& file) {
  try {
    load_hdf5_library();
    const Descriptor answer(static_cast<int>(::syscall(SYS_memfd_create, "tessera-hdf5", 1u)));
    require(answer.number() >= 0, "no memory for the file's tensors");
    const pid_t child = ::fork();
    require(child >= 0, "no process for the HDF5 library: {}", std::strerror(errno));
    if (child == 0) read_in_child(bytes, answer.number());
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    require(WIFEXITED(status) && WEXITSTATUS(status) == 0,
            "the HDF5 library failed on this file; it is damaged, or made to be: save it again");
    return read_answer(bytes, answer.number());
  } catch (const nlohmann::json::exception& error) {
    fail("{}: the HDF5 library failed on this file: {}", file, error.what());
  } catch (const Error& error) {
    fail("{}: {}", file, error.what());
  }
}

}  // namespace tessera
