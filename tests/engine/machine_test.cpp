// Processors and memory as they are granted, read from made-up trees of control groups.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "engine/device/control_group.h"
#include "engine/device/machine.h"
#include "tests/support/error.h"
#include "tests/support/temp_folder.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

class ControlGroups : public testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) {
    const fs::path file = root_ / path;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  // As systemd and container run-times of today mount it.
  void mount_v2(const std::string& shown = "/") {
    write("proc/self/mountinfo",
          "22 1 0:20 / /proc rw - proc proc rw\n"
          "30 23 0:26 " +
              shown + " /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n");
  }
  void mount_v1(const std::string& shown = "/") {
    write("proc/self/mountinfo",
          "31 23 0:27 " + shown +
              " /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
              "32 23 0:28 " +
              shown +
              " /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory\n"
              "33 23 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  }
  int processors(int allowed) const { return granted_processors(allowed, root_); }

  const test::TempFolder scratch_;
  const fs::path root_ = scratch_.path();
};

TEST_F(ControlGroups, WithoutAnyTheAffinityMaskCounts) {
  EXPECT_EQ(processors(12), 12);
  EXPECT_EQ(processors(0), 1);
  EXPECT_FALSE(memory_left(root_));
}

TEST_F(ControlGroups, AQuotaIsRoundedDownAndAtLeastOne) {
  mount_v2();
  write("proc/self/cgroup", "0::/\n");
  const std::map<std::string, int> expected{
      {"200000 100000", 2}, {"250000 100000", 2}, {"399999 100000", 3}, {"50000 100000", 1},
      {"1000 100000", 1},   {"800000 50000", 12}, {"max 100000", 12},   {"", 12},
      {"nonsense", 12},     {"0 0", 12}};
  for (const auto& [text, count] : expected) {
    write("sys/fs/cgroup/cpu.max", text);
    EXPECT_EQ(processors(12), count) << text;
  }
}

TEST_F(ControlGroups, TheLeastOfNestedGroupsCounts) {
  mount_v2();
  write("proc/self/cgroup", "0::/pod/container/job\n");
  write("sys/fs/cgroup/pod/cpu.max", "300000 100000");
  write("sys/fs/cgroup/pod/container/cpu.max", "max 100000");
  write("sys/fs/cgroup/pod/container/job/cpu.max", "600000 100000");
  EXPECT_EQ(processors(12), 3);
  write("sys/fs/cgroup/pod/container/job/cpu.max", "150000 100000");
  EXPECT_EQ(processors(12), 1);
  EXPECT_DOUBLE_EQ(processor_quota(root_).value(), 1.5);
}

TEST_F(ControlGroups, AContainerThatSeesItsOwnGroupAsTheTop) {
  mount_v2("/docker/abc");
  write("proc/self/cgroup", "0::/docker/abc/worker\n");
  write("sys/fs/cgroup/cpu.max", "400000 100000");
  write("sys/fs/cgroup/worker/cpu.max", "200000 100000");
  EXPECT_EQ(processors(12), 2);
  // A group outside of what is mounted: the mount's top is all there is to read.
  write("proc/self/cgroup", "0::/../other\n");
  EXPECT_EQ(processors(12), 4);
}

TEST_F(ControlGroups, VersionOneHasItsFilesElsewhere) {
  mount_v1("/docker/abc");
  write("proc/self/cgroup", "9:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/docker/abc\n");
  write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1");
  write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
  EXPECT_EQ(processors(12), 12);
  EXPECT_FALSE(memory_left(root_));
  write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "350000");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000000");
  write("sys/fs/cgroup/memory/memory.usage_in_bytes", "700000");
  write("sys/fs/cgroup/memory/memory.stat",
        "cache 5\ninactive_file 1\ntotal_inactive_file 200000\n");
  EXPECT_EQ(processors(12), 3);
  EXPECT_EQ(memory_left(root_), 500000u);
}

TEST_F(ControlGroups, MemoryIsWhatTheTightestGroupHasLeft) {
  mount_v2();
  write("proc/self/cgroup", "0::/a/b\n");
  write("sys/fs/cgroup/a/b/memory.max", "max\n");
  EXPECT_FALSE(memory_left(root_));
  write("sys/fs/cgroup/a/memory.max", "1000\n");
  write("sys/fs/cgroup/a/memory.current", "400\n");
  EXPECT_EQ(memory_left(root_), 600u);
  // The page cache would be given up.
  write("sys/fs/cgroup/a/memory.stat", "anon 100\ninactive_file 300\n");
  EXPECT_EQ(memory_left(root_), 900u);
  write("sys/fs/cgroup/a/b/memory.max", "500\n");
  write("sys/fs/cgroup/a/b/memory.current", "700\n");
  EXPECT_EQ(memory_left(root_), 0u);
}

TEST(Machine, ThreadsAreThoseOfTheEnvironmentElseAsGranted) {
  const char* before = std::getenv("OMP_NUM_THREADS");
  const std::string kept = before != nullptr ? before : "";
  ::setenv("OMP_NUM_THREADS", "3", 1);
  EXPECT_EQ(default_threads(), 3);
  ::setenv("OMP_NUM_THREADS", "2,4", 1);
  EXPECT_EQ(default_threads(), 2);
  for (const char* many : {"99999", "4097", "99999999999999999999"}) {
    ::setenv("OMP_NUM_THREADS", many, 1);
    EXPECT_EQ(test::error_of([] { default_threads(); }),
              fmt::format("the environment's OMP_NUM_THREADS is {}: expected 1 to 4096; set it so, "
                          "or say --threads",
                          many));
  }
  ::setenv("OMP_NUM_THREADS", "none", 1);
  const int granted = default_threads();
  EXPECT_GE(granted, 1);
  EXPECT_LE(granted, static_cast<int>(::sysconf(_SC_NPROCESSORS_CONF)));
  if (before != nullptr) {
    ::setenv("OMP_NUM_THREADS", kept.c_str(), 1);
  } else {
    ::unsetenv("OMP_NUM_THREADS");
  }
}

}  // namespace
}  // namespace tessera
