// NCCL as its documentation has it, for ranks that are threads of this process and devices whose
// memory is the host's: bytes go from one to another when a group ends, in the order of each pair.
// A receiver whose sender gives another count is told so, where NCCL would hang or write beyond.
// FAKE_NCCL_FAILS names a function that fails.
#include <cuda_runtime_api.h>
#include <nccl.h>

#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

std::mutex mutex;
std::condition_variable changed;

// What ranks of one id have in common.
struct Meeting {
  int count = 0;
  std::set<int> ranks, devices;
  bool failed = false;
  std::map<std::pair<int, int>, std::deque<std::vector<char>>> on_the_way;  // from, to
};
std::map<std::string, std::shared_ptr<Meeting>> meetings;
int ids = 0;

struct Work {
  enum class Kind { kSend, kReceive } kind;
  const void* from;
  void* to;
  std::size_t bytes;
  int peer;
  ncclComm_t comm;
  cudaStream_t stream;
};
thread_local int depth = 0;
thread_local std::vector<Work> group;

}  // namespace

struct ncclComm {
  std::shared_ptr<Meeting> meeting;
  int rank;
};

namespace {

// The work of the streams is done, then all sends, which wait for nobody, then all receives.
ncclResult_t run_group() {
  const std::vector<Work> works = std::exchange(group, {});
  for (const Work& work : works) {
    if (cudaStreamSynchronize(work.stream) != cudaSuccess) return ncclUnhandledCudaError;
  }
  std::unique_lock lock(mutex);
  for (const Work& work : works) {
    if (work.kind != Work::Kind::kSend) continue;
    const auto* const from = static_cast<const char*>(work.from);
    work.comm->meeting->on_the_way[{work.comm->rank, work.peer}].emplace_back(from,
                                                                              from + work.bytes);
  }
  changed.notify_all();
  for (const Work& work : works) {
    if (work.kind != Work::Kind::kReceive) continue;
    Meeting& meeting = *work.comm->meeting;
    auto& way = meeting.on_the_way[{work.peer, work.comm->rank}];
    changed.wait(lock, [&] { return !way.empty() || meeting.failed; });
    if (way.empty()) return ncclRemoteError;
    if (way.front().size() != work.bytes) return ncclInvalidArgument;
    std::memcpy(work.to, way.front().data(), work.bytes);
    way.pop_front();
  }
  return ncclSuccess;
}

bool fails(std::string_view function) {
  const char* const name = std::getenv("FAKE_NCCL_FAILS");
  return name != nullptr && name == function;
}

ncclResult_t add(const Work& work) {
  group.push_back(work);
  return depth > 0 ? ncclSuccess : run_group();
}

}  // namespace

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = 22809;
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    default:
      return "unknown result code";
  }
}
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const std::lock_guard lock(mutex);
  std::memset(id, 0, sizeof *id);
  std::strcpy(id->internal, std::to_string(++ids).c_str());
  return ncclSuccess;
}
ncclResult_t ncclCommInitRank(ncclComm_t* made, int count, ncclUniqueId id, int rank) {
  int device = -1;
  cudaGetDevice(&device);
  std::unique_lock lock(mutex);
  std::shared_ptr<Meeting>& meeting = meetings[id.internal];
  if (!meeting) meeting = std::make_shared<Meeting>();
  meeting->count = count;
  if (!meeting->ranks.insert(rank).second || !meeting->devices.insert(device).second ||
      fails("ncclCommInitRank"))
    meeting->failed = true;
  changed.notify_all();
  changed.wait(lock, [&] { return meeting->failed || std::ssize(meeting->ranks) == count; });
  if (meeting->failed) return ncclInvalidUsage;
  *made = new ncclComm{meeting, rank};
  return ncclSuccess;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  {
    const std::lock_guard lock(mutex);
    comm->meeting->failed = true;
  }
  changed.notify_all();
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclGroupStart() {
  ++depth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  if (depth == 0) return ncclInvalidUsage;
  if (--depth > 0) return ncclSuccess;
  if (!fails("ncclGroupEnd")) return run_group();
  group.clear();
  return ncclSystemError;
}
ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  if (fails("ncclSend")) return ncclInvalidUsage;
  if (type != ncclFloat || peer < 0 || peer >= comm->meeting->count) return ncclInvalidArgument;
  return add({Work::Kind::kSend, from, nullptr, count * sizeof(float), peer, comm, stream});
}
ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  if (type != ncclFloat || peer < 0 || peer >= comm->meeting->count) return ncclInvalidArgument;
  return add({Work::Kind::kReceive, nullptr, to, count * sizeof(float), peer, comm, stream});
}
ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  if (type != ncclFloat || root < 0 || root >= comm->meeting->count) return ncclInvalidArgument;
  const std::size_t bytes = count * sizeof(float);
  ncclGroupStart();
  for (int rank = 0; rank < comm->meeting->count && comm->rank == root; ++rank)
    add({Work::Kind::kSend, from, nullptr, bytes, rank, comm, stream});
  add({Work::Kind::kReceive, nullptr, to, bytes, root, comm, stream});
  return ncclGroupEnd();
}

}  // extern "C"
