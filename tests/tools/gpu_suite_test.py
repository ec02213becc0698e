#!/usr/bin/env python3
"""tools/gpu_suite.sh run against the fake GPU: within its time and its 10,000 characters, with every
fault told from its victims, and all of it on disk."""

import json
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "bench"))

from gpu_machine import Runner  # noqa: E402
from gpu_stages import kernels_of_ncu  # noqa: E402


def run(folder, *arguments):
    begin = time.monotonic()
    done = subprocess.run([ROOT / "tools" / "gpu_suite.sh", "run", "--dry-run",
                           "--out", folder, *arguments], capture_output=True, text=True)
    return done, time.monotonic() - begin


def report_of(folder):
    path, = pathlib.Path(folder).glob("20*-fake-gpu.json")
    return json.loads(path.read_text())


class DryRun(unittest.TestCase):
    def test_first_and_second_command(self):
        with tempfile.TemporaryDirectory() as folder:
            done, seconds = run(folder)
            self.assertEqual(done.stderr, "")
            self.assertEqual(done.returncode, 1, done.stdout)  # the fake has faults
            self.assertLess(seconds, 300)
            self.assertLess(len(done.stdout), 10_000)
            files = list(pathlib.Path(folder).iterdir())
            self.assertLessEqual(len(files), 8)
            self.assertLess(sum(file.stat().st_size for file in files), 1 << 20)
            report = report_of(folder)
            status = {step["name"]: step["status"] for step in report["steps"]}
            self.assertEqual(list(status), ["language", "profile", "sweep", "tests", "models",
                                            "peers", "layers", "ncu", "sanitize"])
            for stage in ("language", "profile", "sweep", "models", "layers", "ncu"):
                self.assertEqual(status[stage], "passed", report["steps"])
            layers = report["results"]["layers"]
            self.assertEqual([one["workload"] for one in layers],
                             ["unet-paper", "han", "unet-paper", "han"])
            self.assertEqual([len(one["rows"]) for one in layers], [20] * 4)
            self.assertIn("10 of 20 layers beside a peer", done.stdout)
            self.assert_tests(report["results"]["tests"])
            # What a peer had measured when it died is kept.
            self.assertEqual(status["peers"], "failed")
            self.assertEqual(len(report["results"]["peers"]["rows"]), 4)
            # One tool that never ends takes nothing from the other.
            self.assertEqual(status["sanitize"], "failed")
            self.assertEqual(report["results"]["sanitize"]["memcheck"]["exit_code"], 0)
            self.assertIsNone(report["results"]["sanitize"]["racecheck"]["exit_code"])
            for step in report["steps"]:
                self.assertIn(step["name"], done.stdout[done.stdout.index("=== summary"):])

            done, _ = run(folder, "--rest")
            self.assertLess(len(done.stdout), 10_000)
            again = report_of(folder)
            self.assertNotIn("=== profile", done.stdout)  # passed before
            self.assertIn("=== training", done.stdout)
            self.assertEqual(again["results"]["profile"], report["results"]["profile"])
            # What the profiler wrote is kept.
            self.assertEqual(again["results"]["nsys"]["files"],
                             ["nsys-unet-table.txt", "nsys-unet-tessera.qdstrm"])
            # Only what failed runs again.
            self.assertEqual(again["results"]["tests"]["tests"], 4)

    def test_time_that_runs_out(self):
        with tempfile.TemporaryDirectory() as folder:
            done, seconds = run(folder, "--limit", "4")
            self.assertLess(seconds, 30)  # less than one of the hangs would take on this machine
            report = report_of(folder)
            self.assertEqual(len(report["steps"]), 9)
            notes = " ".join(step["note"] for step in report["steps"] if step["status"] == "failed")
            self.assertRegex(notes, "no end within the time|cut off|not run")
            self.assertIn("summary", done.stdout)

    def assert_tests(self, tests):
        self.assertEqual(sorted(tests["failed"]), ["CudaConv.Case3", "CudaLinear.Case4",
                                                   "CudaRnn.Case2", "CudaRnn.Case5"])
        self.assertEqual(tests["not_run"], [])
        self.assertEqual(tests["details"]["CudaConv.Case3"]["status"], "ended")
        self.assertEqual(tests["details"]["CudaRnn.Case2"]["status"], "hung")
        self.assertIn("illegal memory access", tests["details"]["CudaLinear.Case4"]["note"])
        for name in tests["fail_beside_others_alone"]:  # victims of CudaLinear.Case4
            self.assertEqual(tests["details"][name]["alone"], "passed")
        self.assertEqual(tests["passed"] + 4 + len(tests["fail_beside_others_alone"]),
                         tests["tests"])


def make_program(folder, name, script):
    path = pathlib.Path(folder, name)
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return path


class Profile(unittest.TestCase):
    """tools/profile.sh with a program and profilers that write what real ones do."""

    def run_script(self, folder, *words):
        tessera = make_program(folder, "tessera", 'case "$*" in *--json*) printf "{\\n}\\n";; '
                                                  '*) echo "own events: $*";; esac\n')
        tools = pathlib.Path(folder, "tools")
        tools.mkdir(exist_ok=True)
        done = subprocess.run([ROOT / "tools" / "profile.sh", *words, "-o", f"{folder}/out"],
                              capture_output=True, text=True,
                              env={"PATH": "/usr/bin:/bin", "TESSERA": str(tessera),
                                   "PROFILE_TOOLS": str(tools)})
        return done, pathlib.Path(folder, "out")

    def make_nsys(self, folder, ending):
        pathlib.Path(folder, "tools").mkdir()
        make_program(folder + "/tools", "nsys",
                     'if [ "$1" = stats ]; then echo "the report\'s table"; exit; fi\n'
                     f'while [ "$1" != -o ]; do shift; done; echo raw >"$2.{ending}"; shift 2; '
                     '"$@"\n')

    def test_no_profiler(self):
        with tempfile.TemporaryDirectory() as folder:
            done, out = self.run_script(folder, "nsys", "model", "image.png", "--precision", "bf16")
            self.assertEqual(done.returncode, 1)
            self.assertIn("nsys is not on this machine", done.stderr)
            self.assertIn("own events: profile image.png -m model --precision bf16 --sort time",
                          done.stdout)
            self.assertEqual((out / "profile.json").read_text(), "{\n}\n")

    def test_an_nsys_that_writes_raw_events_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            self.make_nsys(folder, "qdstrm")
            done, out = self.run_script(folder, "nsys", "unet-paper")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("no importer", done.stderr)
            self.assertTrue((out / "tessera.qdstrm").exists())
            self.assertIn("own events", (out / "table.txt").read_text())

    def test_a_whole_nsys(self):
        with tempfile.TemporaryDirectory() as folder:
            self.make_nsys(folder, "nsys-rep")
            done, out = self.run_script(folder, "nsys", "unet-paper")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(done.stdout, "the report's table\n")
            self.assertEqual((out / "profile.json").read_text(), "{\n}\n")


class Parts(unittest.TestCase):
    def test_a_command_ends_at_its_limit_and_when_it_is_silent(self):
        with tempfile.TemporaryFile("w") as log:
            runner = Runner(log)
            runner.stage_end = time.monotonic() + 60
            begin = time.monotonic()
            code, output = runner.run(["sh", "-c", "echo word; sleep 50 & sleep 50"], silence=0.5)
            self.assertIsNone(code)
            self.assertEqual(output, "word\n")
            code, _ = runner.run(["sh", "-c", "while :; do echo x; sleep 0.1; done"], limit=0.5,
                                 silence=30)
            self.assertIsNone(code)
            self.assertLess(time.monotonic() - begin, 30)
            self.assertEqual(runner.run(["sh", "-c", "exit 3"])[0], 3)

    def test_what_is_printed_stays_short(self):
        script = ("import sys; sys.path.insert(0, sys.argv[1])\n"
                  "from gpu_machine import Printer\n"
                  "p = Printer()\n"
                  "for i in range(5000): p.say('x' * 300)\n"
                  "p.begin_summary(); p.say('the summary')\n")
        done = subprocess.run([sys.executable, "-c", script, str(ROOT / "tools" / "bench")],
                              capture_output=True, text=True, check=True)
        self.assertLess(len(done.stdout), 10_000)
        self.assertTrue(done.stdout.endswith("the summary\n"))

    def test_kernels_of_ncu(self):
        found = kernels_of_ncu(
            "  void tessera::<unnamed>::conv_mma_kernel<8, 16>(ConvArgs) (9, 1, 1)x(256, 1, 1), "
            "Context 1, Stream 7, Device 0, CC 9.0\n"
            "    Metric Name               Metric Unit  Metric Value\n"
            "    Elapsed Cycles                  cycle       120,005\n"
            "    Registers Per Thread  register/thread           124\n")
        self.assertEqual(found[0]["kernel"], "conv_mma_kernel")
        self.assertEqual(found[0]["metrics"], {"Elapsed Cycles": "120,005 cycle",
                                               "Registers Per Thread": "124 register/thread"})


if __name__ == "__main__":
    unittest.main()
