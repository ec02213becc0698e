#include "engine/train/nccl.h"

#include <dlfcn.h>

#include <algorithm>
#include <exception>
#include <fstream>
#include <utility>

#include "engine/device/gpu.h"
#include "kernels/error.h"

namespace tessera {

namespace {

// Of nccl.h, which a build need not have (tests/simt/nccl_test.cpp holds them against it).
struct NcclId {
  char internal[128];
};
using NcclComm = struct NcclCommOpaque*;
constexpr int kNcclFloat = 7, kNcclSuccess = 0;

class Nccl {
 public:
  // Throws Error with the remedy where it is missing. It stays open: its threads may outlive what
  // used it.
  explicit Nccl(const std::string& library)
      : library_(library), handle_(::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ == nullptr)
      fail(
          "NCCL is missing ({}); apt-get install libnccl2 of NVIDIA's packages, or pip install "
          "nvidia-nccl-cu13 and name its folder nvidia/nccl/lib in LD_LIBRARY_PATH",
          ::dlerror());
    find(GetVersion, "ncclGetVersion");
    find(GetUniqueId, "ncclGetUniqueId");
    find(CommInitRank, "ncclCommInitRank");
    find(CommDestroy, "ncclCommDestroy");
    find(CommAbort, "ncclCommAbort");
    find(GetErrorString, "ncclGetErrorString");
    find(GroupStart, "ncclGroupStart");
    find(GroupEnd, "ncclGroupEnd");
    find(Send, "ncclSend");
    find(Recv, "ncclRecv");
    find(Broadcast, "ncclBroadcast");
  }

  // Throws Error, in NCCL's words, unless `result` is success.
  void check(int result, const char* what) const {
    require(result == kNcclSuccess,
            "NCCL: {}: {}; NCCL_DEBUG=WARN says more, and --device cpu trains without it", what,
            GetErrorString(result));
  }
  std::string name() const {
    int version = 0;
    check(GetVersion(&version), "its version");
    return fmt::format("NCCL {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
  }

  int (*GetVersion)(int*) = nullptr;
  int (*GetUniqueId)(NcclId*) = nullptr;
  int (*CommInitRank)(NcclComm*, int count, NcclId, int rank) = nullptr;
  int (*CommDestroy)(NcclComm) = nullptr;
  int (*CommAbort)(NcclComm) = nullptr;
  const char* (*GetErrorString)(int) = nullptr;
  int (*GroupStart)() = nullptr;
  int (*GroupEnd)() = nullptr;
  int (*Send)(const void*, std::size_t count, int type, int peer, NcclComm, void* stream) = nullptr;
  int (*Recv)(void*, std::size_t count, int type, int peer, NcclComm, void* stream) = nullptr;
  int (*Broadcast)(const void*, void*, std::size_t count, int type, int root, NcclComm,
                   void* stream) = nullptr;

 private:
  template <class Function>
  void find(Function*& function, const char* symbol) const {
    function = reinterpret_cast<Function*>(::dlsym(handle_, symbol));
    require(function != nullptr, "{} has no {}, so it is no NCCL of version 2.7 or newer", library_,
            symbol);
  }

  std::string library_;
  void* handle_;
};

class OverNccl : public Transport {
 public:
  // Throws Error where NCCL refuses these ranks.
  OverNccl(std::shared_ptr<Queue> queue, std::shared_ptr<Ranks> ranks, Nccl nccl, const NcclId& id)
      : Transport(std::move(queue), std::move(ranks)), nccl_(std::move(nccl)) {
    stream();  // its device becomes the thread's
    nccl_.check(nccl_.CommInitRank(&comm_, this->ranks().count(), id, this->ranks().rank()),
                "meeting of the ranks");
  }
  // A rank that fails leaves at once: the others cannot answer it any more.
  ~OverNccl() override {
    if (std::uncaught_exceptions() > 0) {
      nccl_.CommAbort(comm_);
    } else {
      nccl_.CommDestroy(comm_);
    }
  }

  void exchange(const std::vector<Stretches>& sent, const std::vector<Stretches>& received,
                int senders) override {
    in_group("exchange of gradients", [&](void* stream) {
      for (int r = 0; r < ranks().count(); ++r) {
        const auto i = static_cast<std::size_t>(r);
        for (const std::span<float> one : ranks().rank() < senders ? sent[i] : Stretches())
          nccl_.check(nccl_.Send(one.data(), one.size(), kNcclFloat, r, comm_, stream), "sending");
        for (const std::span<float> one : r < senders ? received[i] : Stretches())
          nccl_.check(nccl_.Recv(one.data(), one.size(), kNcclFloat, r, comm_, stream),
                      "receiving");
      }
    });
  }
  void gather(const std::vector<Stretches>& owned) override {
    in_group("gathering of weights", [&](void* stream) {
      for (int r = 0; r < ranks().count(); ++r) {
        for (const std::span<float> one : owned[static_cast<std::size_t>(r)])
          nccl_.check(
              nccl_.Broadcast(one.data(), one.data(), one.size(), kNcclFloat, r, comm_, stream),
              "handing out");
      }
    });
  }

 private:
  void* stream() const { return gpu_stream(queue()); }
  // Nothing of a group waits for another part of it.
  void in_group(const char* what, const std::function<void(void*)>& work) {
    void* const stream = this->stream();
    nccl_.check(nccl_.GroupStart(), what);
    work(stream);
    nccl_.check(nccl_.GroupEnd(), what);
  }

  Nccl nccl_;
  NcclComm comm_ = nullptr;
};

// The same text for ranks that compute on the same GPU: NCCL takes one rank of each.
std::string gpu_of(const Device& device) {
  std::string machine;
  std::ifstream boot("/proc/sys/kernel/random/boot_id");
  std::getline(boot, machine);
  return machine + " " + gpu_id(device) + "\n";
}

bool is_shared_gpu(const Queue& queue, Ranks& ranks) {
  const std::string own = gpu_of(queue.device()), all = gather_text(ranks, own);
  const std::size_t first = all.find(own);
  return all.find(own, first + own.size()) != std::string::npos;
}

}  // namespace

NcclTransport open_nccl(const std::shared_ptr<Queue>& queue, const std::shared_ptr<Ranks>& ranks,
                        const std::string& library) {
  // What keeps ranks from it, so that each knows of all before anyone waits for others.
  std::string why;
  const auto attempt = [&](const std::function<void()>& work) {
    try {
      work();
    } catch (const Error& error) {
      why = fmt::format("rank {}: {}", ranks->rank(), error.what());
    }
    // The first rank's trouble stands for that of all.
    const std::string all = gather_text(*ranks, why.empty() ? "" : why + "\n");
    why = all.substr(0, all.find('\n'));
    return why.empty();
  };
  std::unique_ptr<Nccl> nccl;
  NcclId id{};
  std::string name;
  const bool is_shared = is_shared_gpu(*queue, *ranks);
  const bool is_there = attempt([&] {
    require(!is_shared,
            "it shares its GPU with another rank, and NCCL takes one of each; start as many ranks "
            "on a machine as it has GPUs");
    nccl = std::make_unique<Nccl>(library);
    name = nccl->name();
    if (ranks->is_first()) nccl->check(nccl->GetUniqueId(&id), "the ranks' name");
  });
  if (!is_there) return {nullptr, why};
  ranks->broadcast(std::as_writable_bytes(std::span(&id, 1)));
  std::shared_ptr<Transport> transport;
  if (!attempt([&] { transport = std::make_shared<OverNccl>(queue, ranks, *nccl, id); }))
    return {nullptr, why};
  return {std::move(transport), name};
}

}  // namespace tessera
