// What the control groups of this process (of a container, a service or a batch job) grant it of
// the machine. Both versions of the kernel's interface are read, v1 and v2
// (Documentation/admin-guide in Linux' sources: cgroup-v1, cgroup-v2), at the process's group and
// at each one above it that is to be seen: the least counts.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>

namespace tessera {

// Processors' worth of time that may be used, 0.5 being half a processor; nothing where there is no
// quota. `root` stands for "/" in tests.
std::optional<double> processor_quota(const std::filesystem::path& root = "/");

// Bytes of memory that may still be taken, the page cache that the kernel would give up counted as
// free; nothing where there is no limit.
std::optional<std::size_t> memory_left(const std::filesystem::path& root = "/");

// `allowed` processors (those of the affinity mask) or the quota, whichever is less: whole ones, at
// least 1.
int granted_processors(int allowed, const std::filesystem::path& root = "/");

}  // namespace tessera
