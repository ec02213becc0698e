#!/usr/bin/env python3
"""tools/gpu_suite.sh run: on a GPU, tests, sanitizers, models, profiles, and PyTorch beside us, in
answering and in training.

    tools/gpu_suite.sh run                   # results in tools/bench/results/<date>-<gpu>.json
    tools/gpu_suite.sh run --out DIR         # in DIR
    tools/gpu_suite.sh run --only tests,profile --ncu

Each step has a limit of its own and all together have --limit; one that fails or is cut off does
not stop the next. Exit code 0: every step that ran passed; 1: one did not; 2: nothing to run on.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "build-gpu" / "bundle"
DEMO = ROOT / "models" / "demo"
SANITIZERS = ["memcheck", "racecheck", "synccheck", "initcheck"]
# Cases for the sanitizers, which slow a kernel down by 10 to 100: the fast ones of every suite.
SMALL_CASE_SECONDS, SMALL_CASES_OF_SUITE = 0.1, 3
FINDING = 9  # the sanitizer's exit code where it found something
PROFILES = [("unet-paper", "bf16"), ("unet-paper", "tf32"), ("unet-paper", "fp32"),
            ("han", "fp32"), ("han", "bf16"), ("han-paper", "fp32")]
PRECISIONS = ["fp32", "tf32", "bf16", "fp16"]
TRAINED = ["unet", "han", "han-ragged"]
MOST_PIXELS = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 1e-2, "fp16": 1e-2}  # share that may differ
LAST_LINES = 60  # of the tables beside PyTorch
SECONDS_TO_REPORT = 5
WHERE_TOOLS_LIE = ["/usr/local/cuda/bin", "/opt/nvidia/nsight-compute"]


def say(text=""):
    print(text, flush=True)


# ---- running -----------------------------------------------------------------------------------


class Skip(Exception):
    """A step that cannot run here, and why."""


class Failure(Exception):
    """A step that found something wrong."""


class Clock:
    """Time that is left for all steps together."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def left(self):
        return self.end - time.monotonic()


class Runner:
    """Runs commands, within the limit of the step that is under way."""

    def __init__(self, clock, log):
        self.clock, self.log, self.step_end = clock, log, 0

    def begin(self, limit):
        self.step_end = time.monotonic() + min(limit, self.clock.left())

    def left(self):
        return self.step_end - time.monotonic()

    def run(self, command, limit=None, variables=None):
        """(exit code, output); the code is None where time ran out. Both streams are one."""
        command = [str(part) for part in command]
        seconds = self.left()
        if limit is not None:
            seconds = min(seconds, limit)
        if seconds <= 0:
            return None, ""
        self.log.write(f"$ {shlex.join(command)}\n")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True, errors="replace", start_new_session=True, cwd=ROOT,
                                   env={**os.environ, **(variables or {})})
        try:
            output, _ = process.communicate(timeout=seconds)
            code = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            code = None
        self.log.write(output + f"[exit code {code}]\n\n")
        self.log.flush()
        return code, output

    def must(self, command, limit=None):
        """Standard output and error of a command that has to succeed."""
        code, output = self.run(command, limit)
        if code is None:
            raise Failure(f"{pathlib.Path(command[0]).name}: no end within the time")
        if code != 0:
            last = output.strip().splitlines()[-1:] or [""]
            raise Failure(f"exit code {code}: {last[0]}")
        return output

    def report(self, command, limit=None):
        """The JSON that a command prints, after notes if any."""
        output = self.must(command, limit)
        return json.JSONDecoder().raw_decode(output, output.index("{"))[0]


class Programs:
    """The bundle's programs, on this machine's C library or, where that is too old, on its own."""

    def __init__(self):
        self.prefix = []
        plain = [BUNDLE / "bin" / "tessera", "--version"]
        if subprocess.run(plain, capture_output=True).returncode != 0:
            loader = next((BUNDLE / "glibc").glob("ld-linux*"))
            places = [BUNDLE / "glibc", BUNDLE / "lib", *os.environ.get(
                "LD_LIBRARY_PATH", "").split(":")]
            self.prefix = [str(loader), "--library-path", ":".join(str(p) for p in places if p)]
        done = subprocess.run([*self.prefix, *plain], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"gpu_suite: the bundle does not run here: {done.stderr.strip()}")
        self.version = done.stdout.splitlines()[0]

    def command(self, name, *arguments):
        return [*self.prefix, str(BUNDLE / "bin" / name), *map(str, arguments)]


def find_tool(name):
    """Path of a tool of the CUDA toolkit, or None."""
    found = shutil.which(name)
    for place in WHERE_TOOLS_LIE:
        found = found or next((str(p) for p in pathlib.Path(place).glob(f"**/{name}")
                               if os.access(p, os.X_OK) and p.is_file()), None)
    return found


def need_tool(name):
    found = find_tool(name)
    if not found:
        raise Skip(f"{name} is not on this machine")
    return found


def need_pytorch():
    if subprocess.run([sys.executable, "-c", "import torch, numpy"],
                      capture_output=True).returncode != 0:
        raise Skip(f"{sys.executable} has no PyTorch or no numpy")


# ---- the steps ---------------------------------------------------------------------------------


class Suite:
    """Each method is a step: it returns its results, or raises Skip or Failure."""

    def __init__(self, options, programs, runner):
        self.options, self.programs, self.runner = options, programs, runner
        self.cases = []  # of the tests that ran: suite, name, seconds

    def tessera(self, *arguments):
        return self.programs.command("tessera", *arguments)

    def tests(self):
        listing = self.options.work / "tests.json"
        listing.unlink(missing_ok=True)
        code, output = self.runner.run(
            self.programs.command("tessera_cuda_tests", f"--gtest_output=json:{listing}"),
            variables={"TESSERA_SOURCE_DIR": str(ROOT)})
        closing = re.findall(r"^\[(?:=+|  PASSED  |  SKIPPED |  FAILED  )\] .*$", output,
                             re.MULTILINE)
        for line in closing[-40:]:
            say(f"  {line}")
        if code is None:
            last = (re.findall(r"^\[ RUN      \] (.*)$", output, re.MULTILINE) or ["none"])[-1]
            raise Failure(f"cut off in {last}")
        if not listing.exists():
            raise Failure(f"ended with {code} before its report was written")
        report = json.loads(listing.read_text())
        ran = [(suite["name"], case["name"], float(case["time"].rstrip("s")), case)
               for suite in report["testsuites"] for case in suite["testsuite"]]
        skipped = [case for *_, case in ran if case.get("result") == "SKIPPED"]
        self.cases = [one[:3] for one in ran if one[3].get("result") == "COMPLETED"
                      and "failures" not in one[3]]
        results = {"tests": report["tests"], "failures": report["failures"],
                   "skipped": len(skipped)}
        if code != 0 or report["failures"] > 0:
            names = [f"{suite}.{name}" for suite, name, _, case in ran if "failures" in case]
            raise Failure(f"{report['failures']} of {report['tests']} failed: {', '.join(names)}")
        # Tests that need no GPU pass all the same; the others say why they skip (cuda_check.cpp).
        if "no GPU:" in output or not self.cases:
            raise Failure(f"{len(skipped)} of {report['tests']} tests were skipped", results)
        return results

    def small_cases(self):
        """A filter of GoogleTest."""
        if self.options.sanitize:
            return self.options.sanitize
        if not self.cases:
            raise Skip("needs the step 'tests', which times the cases, or --sanitize FILTER")
        chosen, count = [], {}
        for suite, name, seconds in sorted(self.cases, key=lambda case: case[2]):
            if seconds <= SMALL_CASE_SECONDS and count.get(suite, 0) < SMALL_CASES_OF_SUITE:
                count[suite] = count.get(suite, 0) + 1
                chosen.append(f"{suite}.{name}")
        if not chosen:
            raise Skip(f"no case takes less than {SMALL_CASE_SECONDS} s")
        return ":".join(chosen)

    def sanitize(self):
        tool, cases = need_tool("compute-sanitizer"), self.small_cases()
        results, found = {"cases": cases.count(":") + 1}, []
        end = self.runner.step_end
        for i, check in enumerate(SANITIZERS):
            code, output = self.runner.run(
                [tool, "--tool", check, "--error-exitcode", str(FINDING),
                 *self.programs.command("tessera_cuda_tests", f"--gtest_filter={cases}")],
                limit=(end - time.monotonic()) / (len(SANITIZERS) - i),
                variables={"TESSERA_SOURCE_DIR": str(ROOT)})
            passed = len(re.findall(r"^\[       OK \]", output, re.MULTILINE))
            findings = [line for line in output.splitlines()
                        if re.search(r"^=+ (ERROR SUMMARY|RACECHECK SUMMARY|Error|Invalid|Uninit|"
                                     r"Race|Barrier|Internal)", line)]
            results[check] = {"passed": passed, "exit_code": code, "lines": findings[-5:]}
            say(f"  {check}: {passed} cases passed"
                f"{', cut off' if code is None else ''}; {'; '.join(findings[-1:])}")
            seen = re.search(r"^=+ (Invalid|Error: Race|Barrier error|Uninit)", output,
                             re.MULTILINE)
            if code not in (0, None) or seen:
                found.append(check)
        if found:
            raise Failure(f"findings or failures: {', '.join(found)} (see the log)", results)
        return results

    def models(self):
        results, wrong = {"unet": {}, "han": {}}, []
        cpu = self.segment("cpu", "fp32")
        labels = self.classify("cpu", "fp32")
        for precision in PRECISIONS:
            mask, seconds = self.segment("cuda", precision), self.seconds
            if mask[0] != cpu[0]:
                raise Failure(f"the mask is {mask[0]}, the CPU's {cpu[0]}")
            differ = sum(a != b for a, b in zip(mask[1], cpu[1]))
            share = differ / len(cpu[1])
            results["unet"][precision] = {"pixels": len(cpu[1]), "differ": differ, "share": share,
                                          "seconds": seconds}
            say(f"  unet_isbi {precision}: {differ} of {len(cpu[1])} pixels differ from the CPU's")
            if share > MOST_PIXELS[precision]:
                wrong.append(f"masks in {precision}")
        for precision in PRECISIONS:
            found = self.classify("cuda", precision)
            if len(found) != len(labels):
                raise Failure(f"{len(found)} answers, the CPU gives {len(labels)}")
            differ = sum(a["label"] != b["label"] for a, b in zip(found, labels))
            largest = max(abs(a["classes"][label] - b["classes"][label])
                          for a, b in zip(found, labels) for label in b["classes"])
            results["han"][precision] = {"documents": len(labels), "labels_differ": differ,
                                         "largest_difference": largest, "seconds": self.seconds}
            say(f"  han_imdb {precision}: {differ} of {len(labels)} labels differ from the CPU's, "
                f"a probability by up to {largest:.2g}")
            if differ > 0:
                wrong.append(f"labels in {precision}")
        if wrong:
            raise Failure(f"answers that differ from the CPU's: {', '.join(wrong)}", results)
        return results

    def segment(self, device, precision):
        """Size of the mask and its pixels."""
        out = self.options.work / f"mask-{device}-{precision}"
        start = time.monotonic()
        self.runner.must(self.tessera("segment", DEMO / "membranes.png", "-m",
                                      DEMO / "unet_isbi.safetensors", "-o", out, "--device", device,
                                      "--precision", precision, "--no-overlay", "--quiet",
                                      "--probabilities"))
        self.seconds = time.monotonic() - start
        return classes_of_npy(out / "membranes.probabilities.npy")

    def classify(self, device, precision):
        start = time.monotonic()
        output = self.runner.must(self.tessera(
            "classify", DEMO / "reviews.tsv", "-m", DEMO / "han_imdb.safetensors", "--device",
            device, "--precision", precision, "--json"))
        self.seconds = time.monotonic() - start
        answers = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        return [{"label": one["label"],
                 "classes": {p["label"]: p["probability"] for p in one["probabilities"]}}
                for one in answers if "label" in one]  # the last line sums up

    def profile(self):
        results, failed = [], []
        for preset, precision in PROFILES:
            try:
                report = self.runner.report(self.tessera(
                    "profile", preset, "--device", "cuda", "--precision", precision,
                    "--iterations", 10, "--json"), limit=30)
            except Failure as failure:
                failed.append(f"{preset} {precision}: {failure}")
                continue
            results.append(report)
            print_profile(report)
        if failed:
            raise Failure("; ".join(failed), results)
        return results

    def peers(self):
        """Of answers."""
        need_pytorch()
        path = self.options.work / "peers.json"
        return self.against_pytorch("gpu_peers.py", path, "PyTorch ", [
            "--json", path, "--work", self.options.work / "peers", "--compile-seconds",
            max(1, round(0.4 * self.runner.left()))])

    def training(self):
        """Of steps of training."""
        need_pytorch()
        path = self.options.work / "training.json"
        limit = max(1, round(self.runner.left() - SECONDS_TO_REPORT))
        return self.against_pytorch("training.py", path, "Training on ", [
            *TRAINED, "-o", path, "--python", sys.executable, "--rounds", 1, "--limit", limit])

    def against_pytorch(self, program, path, title, arguments):
        """The results that tools/bench/<program> writes to `path`; `title` begins its tables."""
        path.unlink(missing_ok=True)
        code, output = self.runner.run(
            [sys.executable, f"tools/bench/{program}", "--device", "cuda", "--tessera",
             shlex.join(self.tessera()), *arguments])
        results = json.loads(path.read_text()) if path.exists() else None
        table = output[output.find(title):] if title in output else output
        say("\n".join(f"  {line}" for line in table.strip().splitlines()[-LAST_LINES:]))
        if code != 0:
            raise Failure("cut off" if code is None else f"exit code {code}", results)
        return results

    def ncu(self):
        report = self.options.out / "ncu-unet"
        self.runner.must([need_tool("ncu"), "--force-overwrite", "--nvtx", "--set", "basic",
                          "--clock-control", "none", "--launch-count", "40", "-o", report,
                          *self.tessera("profile", "unet-paper", "--device", "cuda", "--precision",
                                        "bf16", "--iterations", 1, "--json")])
        return {"report": f"{report.name}.ncu-rep"}

    def nsys(self):
        report = self.options.out / "nsys-unet"
        self.runner.must([need_tool("nsys"), "profile", "--force-overwrite", "true", "--trace",
                          "cuda,nvtx", "-o", report,
                          *self.tessera("profile", "unet-paper", "--device", "cuda", "--precision",
                                        "bf16", "--iterations", 1, "--json")])
        return {"report": f"{report.name}.nsys-rep"}


# Seconds at most; together they fit in the ten minutes of a lent machine's command.
STEPS = {"tests": 110, "sanitize": 80, "models": 30, "profile": 40, "peers": 160, "training": 115,
         "ncu": 20, "nsys": 15}
OPTIONAL = ["ncu", "nsys"]


def classes_of_npy(path):
    """(shape, most probable class of each pixel) of probabilities (1, h, w, outputs) in f32."""
    content = path.read_bytes()
    size = int.from_bytes(content[8:10], "little")
    header = content[10:10 + size].decode()
    shape = tuple(map(int, re.search(r"'shape': \(([^)]*)\)", header)[1].strip(", ").split(",")))
    values = memoryview(content)[10 + size:].cast("f")
    outputs = shape[-1]
    if outputs == 1:
        return shape, [int(value > 0.5) for value in values]
    return shape, [max(range(outputs), key=values[i:i + outputs].__getitem__)
                   for i in range(0, len(values), outputs)]


def print_profile(report):
    total = sum(node["seconds"] for node in report["nodes"])
    peak, bandwidth = report["peak_flops_per_second"], report["bandwidth_bytes_per_second"]
    say(f"  {report['workload']}, {report['precision']}: {1e3 * total:.3f} ms node by node; peak "
        f"{1e-12 * peak:.1f} TFLOP/s, {1e-9 * bandwidth:.0f} GB/s")
    for node in sorted(report["nodes"], key=lambda n: -n["seconds"])[:12]:
        say(f"    {node['name']:<24} {node['kind']:<14} {1e6 * node['seconds']:>9.1f} us "
            f"{100 * node['seconds'] / total:>5.1f} %  "
            f"{1e-12 * node['flops'] / node['seconds']:>7.2f} TFLOP/s "
            f"{1e-9 * node['bytes'] / node['seconds']:>8.1f} GB/s "
            f"{100 * node['share_of_roofline']:>6.1f} % of roofline")


# ---- the whole ---------------------------------------------------------------------------------


def describe_gpu():
    """What nvidia-smi says of the first GPU; None where there is no GPU."""
    fields = ["name", "driver_version", "memory.total", "clocks.sm", "clocks.max.sm",
              "clocks.max.mem", "power.limit", "compute_cap", "temperature.gpu"]
    try:
        done = subprocess.run(["nvidia-smi", f"--query-gpu={','.join(fields)}",
                               "--format=csv,noheader"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0 or not done.stdout.strip():
        return None
    return dict(zip(fields, map(str.strip, done.stdout.splitlines()[0].split(","))))


def bundle_facts():
    if not (BUNDLE / "bundle.json").exists():
        say("no bundle in build-gpu/bundle: making one")
        if subprocess.run([ROOT / "tools" / "gpu_suite.sh", "bundle"]).returncode != 0:
            sys.exit("gpu_suite: make the bundle on a development machine (tools/gpu_suite.sh "
                     "bundle) and bring build-gpu/bundle here")
    return json.loads((BUNDLE / "bundle.json").read_text())


def parse_arguments():
    parser = argparse.ArgumentParser(prog="tools/gpu_suite.sh run", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tools" / "bench" / "results",
                        metavar="DIR", help="for the results, the log, and captures")
    parser.add_argument("--only", metavar="STEPS", help=f"of {','.join(STEPS)}")
    parser.add_argument("--ncu", action="store_true", help="also capture with Nsight Compute")
    parser.add_argument("--nsys", action="store_true", help="also capture with Nsight Systems")
    parser.add_argument("--sanitize", metavar="FILTER",
                        help="cases for the sanitizers, as GoogleTest filters")
    parser.add_argument("--limit", type=float, default=570, metavar="S",
                        help="seconds for all steps together (default: 570)")
    options = parser.parse_args()
    options.steps = [step for step in STEPS if step not in OPTIONAL or getattr(options, step)]
    if options.only:
        options.steps = options.only.split(",")
        for step in options.steps:
            if step not in STEPS:
                parser.error(f"--only: expected some of {', '.join(STEPS)}, found '{step}'")
    options.work = ROOT / "out" / "gpu_suite"
    options.out = options.out.resolve()
    return options


def run_step(suite, name, runner):
    say(f"\n=== {name}")
    start = time.monotonic()
    result, step = None, {"name": name, "status": "passed", "note": ""}
    runner.begin(STEPS[name])
    if runner.clock.left() <= 0:
        step.update(status="skipped", note="no time left (--limit)")
    else:
        try:
            result = getattr(suite, name)()
        except Skip as why:
            step.update(status="skipped", note=str(why))
        except Failure as why:
            step.update(status="failed", note=str(why.args[0]))
            result = why.args[1] if len(why.args) > 1 else None
        except Exception as error:  # the next steps run all the same
            step.update(status="failed", note=f"{type(error).__name__}: {error}")
    step["seconds"] = round(time.monotonic() - start, 1)
    if step["note"]:
        say(f"  {step['status']}: {step['note']}")
    return step, result


def main(options):
    gpu = describe_gpu()
    if gpu is None:
        say("gpu_suite: no GPU: nvidia-smi is missing or finds none; run this on a machine with an "
            "NVIDIA GPU and its driver")
        return 2
    facts = bundle_facts()
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.timezone.utc)
    slug = re.sub(r"[^a-z0-9]+", "-", gpu["name"].lower()).strip("-")
    path = options.out / f"{now:%Y-%m-%d}-{slug}.json"
    programs = Programs()
    say(f"{programs.version}, commit {facts['commit']}, built with nvcc {facts['nvcc']}")
    say("\n".join(f"  {key}: {value}" for key, value in gpu.items()))

    report = {"kind": "gpu", "date": now.isoformat(timespec="seconds"), "commit": facts["commit"],
              "command": shlex.join(["tools/gpu_suite.sh", "run", *sys.argv[1:]]),
              "gpu": gpu, "bundle": facts, "steps": [], "results": {}}
    with open(options.work / "log.txt", "w", encoding="utf-8") as log:
        runner = Runner(Clock(options.limit), log)
        suite = Suite(options, programs, runner)
        for name in options.steps:
            step, result = run_step(suite, name, runner)
            report["steps"].append(step)
            if result is not None:
                report["results"][name] = result
            path.write_text(json.dumps(report, indent=2) + "\n")  # stays if all is cut off

    say("\n=== summary")
    for step in report["steps"]:
        say(f"  {step['name']:<10} {step['status']:<8} {step['seconds']:>6.1f} s  {step['note']}")
    if options.out != ROOT / "tools" / "bench" / "results":
        shutil.copy(options.work / "log.txt", options.out / "log.txt")
    say(f"written to {path}; every command's output is in {options.work / 'log.txt'}")
    return 1 if any(step["status"] == "failed" for step in report["steps"]) else 0


if __name__ == "__main__":
    sys.exit(main(parse_arguments()))
