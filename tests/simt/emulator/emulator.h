// The SIMT emulator as tests see it: how it schedules, what it found, what a launch cost, and the
// device that its CUDA runtime pretends to have.
//
// Kernels compiled by the host compiler (simt.h) run as fibers, one per CUDA thread, block by
// block; host code written against <cuda_runtime.h> links against runtime.cpp. Builds:
//
//   plain   wrong results, deadlocks, misuse of barriers, overruns past a device buffer
//   check   (SIMT_CHECK, kernels compiled with -fsanitize=thread) also races, uninitialised shared
//           memory, every access out of bounds or misaligned, and the counts of Profile
//   asan    overruns of local arrays, undefined behaviour
//
// Not emulated: time, caches, registers, weak memory order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace simt {

extern const bool kChecked;    // is this the check build
extern const bool kSanitized;  // is this the asan build: an overrun ends the process

// When work that nobody waits for yet is done.
enum class Async {
  kEarly,   // as it is issued
  kLate,    // as late as the waits allow
  kRandom,  // somewhere in between
};

// Initial values come from the environment variables that are named here.
struct Config {
  unsigned seed = 0;           // SIMT_SEED: 0 runs threads in order, others pick at random
  Async async = Async::kLate;  // SIMT_ASYNC: cp.async, TMA and wgmma; early, late or random
  // SIMT_STREAMS: launches, fills, and copies, which read and write the host's memory then. Late,
  // work of a stream is done only for a call that waits for it.
  Async streams = Async::kLate;
  unsigned stream_seed = 0;  // of random streams
  int workers = 1;           // SIMT_WORKERS: OS threads that share the blocks of a launch
  bool profile = false;      // SIMT_PROFILE: 1 counts memory requests (check build)
  bool throws = true;        // a launch with findings throws std::runtime_error
  double hang_seconds = 20;  // a thread that runs so long without giving way is stopped
};
Config& config();

// What was found since the last call, one finding per place, each with file:line. Where
// `Config::throws` is set, the call that has the work done throws them instead.
std::vector<std::string> take_findings();

// What a launch cost. Memory is counted per warp-wide request, in check builds: global memory in
// sectors of 32 bytes, shared memory in waves over its 32 banks; "ideal" is what the same bytes
// would cost if they were adjacent and free of conflicts. The figures depend on the compiler alone.
struct Profile {
  std::string kernel;
  std::uint64_t global_requests = 0, global_sectors = 0, global_ideal = 0;
  std::uint64_t shared_requests = 0, shared_waves = 0, shared_ideal = 0;
  std::uint64_t barriers = 0;  // of a block, named or not, and of the grid
  std::uint64_t mma = 0;       // mma.sync and wgmma instructions
};
// One per launch since the last call, in order; recorded while `Config::profile` is set.
std::vector<Profile> take_profiles();
// The lines of source that cost most above their ideal since the last call.
std::vector<std::string> costly_lines(std::size_t count);

// The device, and the failures that are to happen. Errors are cudaError_t codes, 0 for none.
struct FakeDevice {
  int count = 1;
  int count_error = 0;         // what cudaGetDeviceCount reports, such as cudaErrorNoDevice
  int driver_version = 13000;  // the newest CUDA that it knows; 0: there is no driver
  int major = 9, minor = 0;
  int multiprocessors = 4;
  std::size_t total_bytes = std::size_t{16} << 30;
  std::size_t shared_per_block = 232448;  // with cudaFuncSetAttribute
  int fail_allocation = 0;                // the n-th from now on fails; 0: none
  int launch_error = 0;                   // what the next launch reports
  int run_error = 0;                      // what the next wait reports, as of work that failed
  int lost = -1;       // the device that fails every call, as one does after an illegal address
  int lose_after = 0;  // the n-th launch from now on loses its device; 0: none
};
FakeDevice& device();
// Bytes of device memory that are allocated now, of all devices or one, and allocations.
std::size_t allocated_bytes();
std::size_t allocated_bytes(int device);
std::size_t allocation_count();

}  // namespace simt
