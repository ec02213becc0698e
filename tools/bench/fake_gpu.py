#!/usr/bin/env python3
"""What tools/gpu_suite.sh asks of a GPU machine, answered without one: gpu_suite.py --dry-run.

A device that is slow and does what real ones do at their worst: of its tests one ends the process,
one never ends, one makes all that follow it in its process fail, one fails always. The sanitizer
never ends either, and the peer dies half-way.
"""

import json
import os
import pathlib
import sys
import time

SCALE = 0.02  # of seconds
TESTS = [f"{suite}.Case{i}" for suite in ("CudaLanguage", "CudaPeak", "CudaConv", "CudaLinear",
                                          "CudaRnn", "CudaTraining") for i in range(8)]
ENDS, HANGS, POISONS, FAILS = "CudaConv.Case3", "CudaRnn.Case2", "CudaLinear.Case4", "CudaRnn.Case5"


def option(name, default=None):
    return next((a.split("=", 1)[1] for a in sys.argv if a.startswith(name + "=")), default)


def value_after(name):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None


def wait(seconds):
    time.sleep(SCALE * seconds)


def say(text):
    print(text, flush=True)


def matches(test, pattern):
    return any(p == test or (p.endswith("*") and test.startswith(p[:-1]))
               for p in pattern.split(":"))


def tests():
    if "--gtest_list_tests" in sys.argv:
        for suite in dict.fromkeys(t.split(".")[0] for t in TESTS):
            say(f"{suite}.")
            for test in TESTS:
                if test.startswith(suite + "."):
                    say(f"  {test.split('.')[1]}  # GetParam() = 1")
        return 0
    wait(10)  # the context and the kernels
    if path := os.environ.get("TESSERA_SWEEP"):
        pathlib.Path(path).write_text(json.dumps({"kind": "sweep", "rows": [
            {"layer": "down1/conv2", "tile": "mma 128x128", "seconds": 66e-6}]}))
    poisoned = failed = 0
    for test in (t for t in TESTS if matches(t, option("--gtest_filter", "*"))):
        say(f"[ RUN      ] {test}")
        wait(1)
        if test == ENDS:
            os.kill(os.getpid(), 11)
        if test == HANGS:
            time.sleep(3600)
        poisoned = poisoned or test == POISONS
        if poisoned or test == FAILS:
            failed += 1
            say("cuda_check.cpp:65: Failure\nCUDA: run: an illegal memory access was encountered")
        say(f"[  FAILED  ] {test} (20 ms)" if poisoned or test == FAILS
            else f"[       OK ] {test} (20 ms)")
    return 1 if failed else 0


def tessera():
    wait(5)
    verb = sys.argv[2]
    if verb == "--version":
        say("tessera 0.0 (a fake)")
    elif verb == "profile":
        wait(10)
        say(json.dumps({"workload": sys.argv[3], "precision": value_after("--precision"),
                        "peak_flops_per_second": 7e14, "bandwidth_bytes_per_second": 3e12,
                        "nodes": [{"name": f"node{i}", "kind": "conv", "seconds": 1e-5 * (i + 1),
                                   "flops": 1e9, "bytes": 1e6, "share_of_roofline": 0.3}
                                  for i in range(20)]}))
    elif verb == "bench":
        wait(20)
        say(json.dumps({"workload": sys.argv[3], "precision": value_after("--precision")}))
        for i in range(20):
            wait(20 if i == 18 and sys.argv[3] == "han" else 1)
            say(json.dumps({"node": f"node{i}", "kind": "conv", "seconds": 1e-5, "note": "",
                            **({"peer": "cuDNN", "way": "engine 1", "peer_seconds": 2e-5,
                                "ratio": 2.0, "largest_difference": 1e-3, "largest_value": 1.0}
                               if i % 2 else {})}))
    elif verb == "segment":
        out = pathlib.Path(value_after("-o"))
        out.mkdir(parents=True, exist_ok=True)
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 2, 1), }".ljust(117) + "\n"
        (out / "membranes.probabilities.npy").write_bytes(
            b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() +
            memoryview(bytes(16)))
    elif verb == "classify":
        say(json.dumps({"label": "a", "probabilities": [{"label": "a", "probability": 1.0}]}))
    return 0


def peers():
    for i in range(1, 40):
        wait(10)
        say(f"row {i} of a long table " + "x" * 400)
        pathlib.Path(value_after("--json") or value_after("-o")).write_text(
            json.dumps({"rows": [{"row": k} for k in range(i)]}))
        if i == 4:
            return 3
    return 0


def profile():
    wait(10)
    out = pathlib.Path(value_after("-o"))
    out.mkdir(parents=True, exist_ok=True)
    (out / "tessera.qdstrm").write_bytes(bytes(64))
    (out / "table.txt").write_text("node  us\n")
    say("profile: this nsys has no importer")
    return 0


def ncu():
    wait(10)
    for kernel in ("conv_mma_kernel", "rnn_mma_kernel"):
        say(f"  void tessera::{kernel}<8>(ConvArgs) (648, 1, 1)x(256, 1, 1), Context 1, Stream 13\n"
            "    Section: GPU Speed Of Light Throughput\n"
            "    ----------------------- ----------- ------------\n"
            "    Metric Name             Metric Unit Metric Value\n"
            "    ----------------------- ----------- ------------\n"
            "    Duration                         us        66.10\n"
            "    Memory Throughput                 %        41.02\n")
    return 0


def sanitizer():
    say("========= COMPUTE-SANITIZER")
    say("[       OK ] CudaConv.Case1 (20 ms)")
    if value_after("--tool") == "racecheck":
        time.sleep(3600)
    say("========= ERROR SUMMARY: 0 errors")
    return 0


if __name__ == "__main__":
    sys.exit({"tessera": tessera, "tessera_cuda_tests": tests, "gpu_peers.py": peers,
              "training.py": peers, "ncu": ncu, "profile.sh": profile,
              "compute-sanitizer": sanitizer}[sys.argv[1]]())
