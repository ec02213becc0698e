"""For gpu_suite.py: tests in shards of which none can spoil the others.

An illegal access makes every later test of its process fail, and a hang takes the rest along. So
tests run in several processes; what a process did not reach runs in another; and what failed runs
again alone, which tells faults from their victims.
"""

import concurrent.futures
import functools
import os
import re

PROCESSES = 4
SHARDS = 12
HANG_SECONDS = 15  # without a word of a test


class Tests:
    def __init__(self, runner, machine, root):
        self.runner, self.machine, self.root = runner, machine, root
        self.results = {}  # by name: {status, ms, note, alone}; status as in `states`
        self.first_of_process = []  # failures that no earlier one of their process can explain

    @functools.cache
    def names(self):
        """All tests, in order."""
        output = self.runner.must(
            self.machine.program("tessera_cuda_tests", "--gtest_list_tests"))
        names, suite = [], ""
        for line in output.splitlines():
            word = line.split("#")[0].rstrip()
            if re.fullmatch(r"[A-Za-z_][\w/]*\.", word):
                suite = word
            elif suite and word.startswith("  "):
                names.append(suite + word.strip())
        return names

    @functools.cache
    def libraries(self):
        return self.machine.library_folders()

    def process(self, names, limit=None):
        """Runs the tests in one process; results of those that it reached."""
        code, output = self.runner.run(
            self.machine.program("tessera_cuda_tests", f"--gtest_filter={':'.join(names)}"),
            limit=limit, silence=self.machine.hang_scale * HANG_SECONDS,
            variables={"TESSERA_SOURCE_DIR": str(self.root),
                       "TESSERA_LIBRARIES": self.libraries(),  # cuDNN's, an oracle
                       # and each its share of processors
                       "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // PROCESSES))})
        found, current, said = {}, None, []
        for line in output.splitlines():
            if begin := re.match(r"\[ RUN      \] (\S+)", line):
                current, said = begin[1], []
            elif current is None:
                continue
            elif end := re.match(r"\[(       OK|  FAILED |  SKIPPED) ?\] .*\((\d+) ms\)$", line):
                state = {"OK": "passed", "FAILED": "failed", "SKIPPED": "skipped"}[end[1].strip()]
                found[current] = {"status": state, "ms": int(end[2])}
                if state != "passed":
                    found[current]["note"] = " / ".join(said)[:300]
                current = None
            elif line.strip():
                said.append(line.strip())
        if current is not None:
            ended = f"the process ended with {code}" if code is not None else "no end in time"
            found[current] = {"status": "hung" if code is None else "ended",
                              "note": " / ".join([ended, *said])[:300]}
        return found, code

    def shard(self, names):
        left = names
        while left and self.runner.left() > 0:
            found, _ = self.process(left)
            if not found:
                break  # the program does not start, or no time is left
            self.results.update(found)
            self.first_of_process += [n for n, r in found.items()
                                      if r["status"] not in ("passed", "skipped")][:1]
            left = [name for name in left if name not in self.results]

    def alone(self, name):
        found, _ = self.process([name], limit=2 * HANG_SECONDS)
        if name in found:
            self.results[name]["alone"] = found[name]["status"]
            if found[name].get("note"):
                self.results[name]["note"] = found[name]["note"]

    def run(self, names, save=lambda: None):
        """Fills `results`; `save` is called each time that more is known."""
        shards = [names[i::SHARDS] for i in range(min(SHARDS, len(names)))]
        with concurrent.futures.ThreadPoolExecutor(PROCESSES) as pool:
            for _ in concurrent.futures.as_completed([pool.submit(self.shard, s) for s in shards]):
                save()
            failed = self.of("failed", "ended", "hung")
            failed.sort(key=lambda name: name not in self.first_of_process)
            for _ in concurrent.futures.as_completed([pool.submit(self.alone, n) for n in failed]):
                save()

    def of(self, *states):
        return [name for name, one in self.results.items() if one["status"] in states]

    def faults(self):
        """Tests that fail by themselves, or could not be tried alone."""
        return [name for name in self.of("failed", "ended", "hung")
                if self.results[name].get("alone") != "passed"]

    def report(self, names):
        """What is kept of them."""
        slowest = sorted(self.of("passed"), key=lambda n: -self.results[n]["ms"])[:10]
        return {"tests": len(names), "passed": len(self.of("passed")),
                "skipped": len(self.of("skipped")), "failed": self.faults(),
                "fail_beside_others_alone": [
                    n for n in self.of("failed", "ended", "hung") if n not in self.faults()],
                "not_run": [n for n in names if n not in self.results],
                "details": {n: self.results[n]
                            for n in self.of("failed", "ended", "hung")[:60]},
                "slowest_ms": {n: self.results[n]["ms"] for n in slowest}}
