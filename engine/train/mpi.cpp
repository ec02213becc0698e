#include "engine/train/mpi.h"

#include <dlfcn.h>

#include <atomic>
#include <cstdlib>
#include <limits>

#include "kernels/error.h"

namespace tessera {

namespace {

// Open MPI's handles, pointers to objects of the library.
using Communicator = void*;
using Datatype = void*;

class Mpi {
 public:
  // Opened and started once in a process, and shut down when the process ends well.
  static const Mpi& instance(const std::string& library) {
    static const Mpi& mpi = *new Mpi(library);  // it is used when the process ends
    return mpi;
  }

  Communicator world() const { return world_; }
  Datatype byte() const { return byte_; }

 private:
  explicit Mpi(const std::string& library) : library_(library), handle_(open(library)) {
    int is_initialised = 0;
    Initialized(&is_initialised);
    if (is_initialised != 0) return;  // by the program that this library is part of
    constexpr int kSerialized = 2;    // MPI_THREAD_SERIALIZED: one call at a time, from any thread
    int provided = 0;
    Init_thread(nullptr, nullptr, kSerialized, &provided);
    std::atexit([] {
      // Without it mpirun takes the process for a failed one, and ends the others.
      if (in_use == 0) instance("").Finalize();
    });
  }

  // Its plug-ins look for its symbols among those of all.
  static void* open(const std::string& library) {
    void* const handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (handle == nullptr)
      fail(
          "this process is one of several ranks, and Open MPI's library is missing ({}); apt-get "
          "install openmpi-bin, on every machine that trains, or give --ranks none",
          ::dlerror());
    return handle;
  }
  template <class Symbol>
  Symbol symbol(const char* name) const {
    void* const found = ::dlsym(handle_, name);
    require(found != nullptr, "{} has no {}, so it is not Open MPI's; apt-get install openmpi-bin",
            library_, name);
    return reinterpret_cast<Symbol>(found);
  }

  std::string library_;
  void* handle_;
  Communicator world_ = symbol<Communicator>("ompi_mpi_comm_world");
  Datatype byte_ = symbol<Datatype>("ompi_mpi_byte");

 public:
  using Each = int (*)(const void* send, int count, Datatype, void* received, int received_count,
                       Datatype, Communicator);
  int (*Initialized)(int*) = symbol<int (*)(int*)>("MPI_Initialized");
  int (*Init_thread)(int*, char***, int,
                     int*) = symbol<int (*)(int*, char***, int, int*)>("MPI_Init_thread");
  int (*Finalize)() = symbol<int (*)()>("MPI_Finalize");
  int (*Comm_dup)(Communicator,
                  Communicator*) = symbol<int (*)(Communicator, Communicator*)>("MPI_Comm_dup");
  int (*Comm_free)(Communicator*) = symbol<int (*)(Communicator*)>("MPI_Comm_free");
  int (*Comm_rank)(Communicator, int*) = symbol<int (*)(Communicator, int*)>("MPI_Comm_rank");
  int (*Comm_size)(Communicator, int*) = symbol<int (*)(Communicator, int*)>("MPI_Comm_size");
  Each Alltoall = symbol<Each>("MPI_Alltoall");
  Each Allgather = symbol<Each>("MPI_Allgather");
  int (*Bcast)(void*, int, Datatype, int root, Communicator) =
      symbol<int (*)(void*, int, Datatype, int, Communicator)>("MPI_Bcast");

  static inline std::atomic<int> in_use = 0;
};

int in_world(const Mpi& mpi, int (*Mpi::*question)(Communicator, int*)) {
  int answer = 0;
  (mpi.*question)(mpi.world(), &answer);
  return answer;
}

// MPI counts in int.
int count_of(std::size_t bytes) {
  require(bytes <= static_cast<std::size_t>(std::numeric_limits<int>::max()),
          "ranks hand each other {} bytes at once; expected less than 2 GiB", bytes);
  return static_cast<int>(bytes);
}

// An error of MPI's ends all ranks: what MPI does where nobody asks for its codes.
class MpiRanks : public Ranks {
 public:
  explicit MpiRanks(const Mpi& mpi)
      : Ranks(in_world(mpi, &Mpi::Comm_rank), in_world(mpi, &Mpi::Comm_size)), mpi_(mpi) {
    mpi_.Comm_dup(mpi_.world(), &own_);  // apart from the calls of the program around this library
    ++Mpi::in_use;
  }

  void exchange(std::span<const std::byte> send, std::span<std::byte> received) override {
    const int part = count_of(send.size() / static_cast<std::size_t>(count()));
    mpi_.Alltoall(send.data(), part, mpi_.byte(), received.data(), part, mpi_.byte(), own_);
  }
  void gather(std::span<const std::byte> own, std::span<std::byte> all) override {
    const int part = count_of(own.size());
    mpi_.Allgather(own.data(), part, mpi_.byte(), all.data(), part, mpi_.byte(), own_);
  }
  void broadcast(std::span<std::byte> bytes) override {
    mpi_.Bcast(bytes.data(), count_of(bytes.size()), mpi_.byte(), 0, own_);
  }
  void finish() override {
    mpi_.Comm_free(&own_);
    --Mpi::in_use;
  }

 private:
  const Mpi& mpi_;
  Communicator own_ = nullptr;
};

// Of a number in the environment; 0 where there is none.
int number_in(const char* variable) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? 0 : std::atoi(text);
}

bool is_one_of_several() {
  if (number_in("OMPI_COMM_WORLD_SIZE") > 0) return number_in("OMPI_COMM_WORLD_SIZE") > 1;
  require(number_in("PMI_SIZE") <= 1,
          "an mpirun that is not Open MPI's started this process as one of {}; apt-get install "
          "openmpi-bin and start with mpirun.openmpi, or give --ranks none",
          number_in("PMI_SIZE"));
  return std::getenv("PMIX_RANK") != nullptr;
}

}  // namespace

std::shared_ptr<Ranks> open_ranks(const std::string& name, const std::string& library) {
  require(name == "none" || name == "mpi" || name == "auto",
          "--ranks: expected auto, mpi, none; found '{}'", name);
  if (name == "none" || (name == "auto" && !is_one_of_several())) return one_rank();
  return std::make_shared<MpiRanks>(Mpi::instance(library));
}

}  // namespace tessera
