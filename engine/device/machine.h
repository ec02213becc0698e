// What is known of this machine: processors and memory.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tessera {

// Threads to use where the user says nothing: OMP_NUM_THREADS, else the processors that this
// process is granted (engine/device/control_group.h). Throws Error for more than kMaxThreads.
int default_threads();

// Bytes of memory, now: in use by this process (resident), its highest so far, and free for it
// (what the machine has, or the control group of a container allows, whichever is less).
std::size_t resident_bytes();
std::size_t peak_resident_bytes();
std::size_t available_bytes();

// "512M", "1.5G", "800000" as bytes (powers of 1024). Throws Error otherwise.
std::size_t parse_bytes(std::string_view text);
std::string format_bytes(std::size_t bytes);  // "371.2 MiB"

}  // namespace tessera
