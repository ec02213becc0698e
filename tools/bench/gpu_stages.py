"""For gpu_suite.py: what is measured and tested, a method for each stage.

A stage returns its results, or raises Skip or Failure; with `self.save(results)` it keeps what it
knows so far, which stays if it is cut off.
"""

import json
import re
import shlex
import shutil
import sys
import time

from gpu_machine import ROOT, Failure, Skip
from gpu_tests import Tests

DEMO = ROOT / "models" / "demo"
LANGUAGE = ("CudaLanguage.", "CudaPeak.")  # what all other kernels are made of
# Cases for the sanitizers, which slow a kernel down by 10 to 100: the fast ones of every suite.
SMALL_CASE_MS, SMALL_CASES_OF_SUITE = 100, 3
SANITIZER_SILENCE = 25  # seconds without a word of a case, which is a hang
FINDING = 9  # the sanitizer's exit code where it found something
PROFILES = [("unet-paper", "bf16"), ("han", "fp32"), ("han", "bf16"), ("han-paper", "fp32")]
OTHER_PROFILES = [("unet-paper", "tf32"), ("unet-paper", "fp32")]
BESIDE = [("unet-paper", "bf16"), ("han", "fp32"), ("unet-paper", "tf32"), ("han", "bf16")]
PRECISIONS = ["fp32", "tf32", "bf16", "fp16"]
TRAINED = ["unet", "han", "han-ragged"]
MOST_PIXELS = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 1e-2, "fp16": 1e-2}  # share that may differ
LARGEST_KEPT = 8 << 20  # bytes of a file that comes back
LAST_LINES = 24  # of the tables beside PyTorch
SECONDS_TO_REPORT = 5
# Of ncu: kernels that take most of the time, how many launches, and which of its tables.
NCU_KERNELS = {"unet-paper": ("conv_mma_kernel|conv_transpose_mma_kernel", 21),
               "han": ("rnn_mma_kernel|gemm_mma_kernel|rnn_fma_kernel", 4)}
NCU_SECTIONS = ["SpeedOfLight", "Occupancy", "LaunchStats", "WarpStateStats"]


class Stages:
    def __init__(self, options, machine, runner, printer, earlier):
        self.options, self.machine, self.runner, self.say = options, machine, runner, printer.say
        self.earlier = earlier  # results of stages of this commit that ran before, by name
        self.tested = Tests(runner, machine, ROOT)
        self.save = lambda results: None  # set by who runs a stage

    def tessera(self, *arguments):
        return self.machine.program("tessera", *arguments)

    # ---- tests

    def run_tests(self, names):
        if not names:
            raise Skip("no such tests")
        chosen = set(names)
        tested = self.tested

        def results():
            known = Tests(tested.runner, tested.machine, tested.root)
            known.results = {n: r for n, r in tested.results.items() if n in chosen}
            return {**known.report(names), "small_cases": self.small_cases()}

        tested.run(names, lambda: self.save(results()))
        found = results()
        self.say(f"  {found['passed']} of {found['tests']} passed, {found['skipped']} skipped, "
                 f"{len(found['failed'])} failed, {len(found['not_run'])} not run"
                 + (f"; {len(found['fail_beside_others_alone'])} failed beside others, not alone"
                    if found["fail_beside_others_alone"] else ""))
        for name in found["failed"][:12]:
            one = found["details"].get(name, {})
            self.say(f"    {name}: {one.get('status')}: {one.get('note', '')[:160]}")
        if found["failed"]:
            raise Failure(f"failed: {len(found['failed'])} of {found['tests']}", found)
        if found["not_run"]:
            raise Failure(f"not run: {len(found['not_run'])} of {found['tests']}", found)
        # Tests that need no GPU pass all the same; the others say why they skip (cuda_check.cpp).
        if any("no GPU:" in r.get("note", "") for r in tested.results.values()):
            raise Failure(f"{found['skipped']} tests found no GPU", found)
        return found

    def language(self):
        return self.run_tests([n for n in self.tested.names() if n.startswith(LANGUAGE)])

    def tests(self):
        names = [n for n in self.tested.names() if not n.startswith(LANGUAGE)]
        before = self.earlier.get("tests")
        if before:  # the others have passed
            again = {*before["failed"], *before["not_run"]}
            names = [n for n in names if n in again]
        return self.run_tests(names)

    def small_cases(self):
        chosen, count = [], {}
        passed = {n: self.tested.results[n]["ms"] for n in self.tested.of("passed")}
        for name in sorted(passed, key=passed.get):
            suite = name.split(".")[0]
            if passed[name] <= SMALL_CASE_MS and count.get(suite, 0) < SMALL_CASES_OF_SUITE:
                count[suite] = count.get(suite, 0) + 1
                chosen.append(name)
        return chosen

    def sanitize(self, checks=("memcheck", "racecheck")):
        tool = self.machine.tool("compute-sanitizer")
        cases = self.options.sanitize or ":".join(
            self.small_cases() or (self.earlier.get("tests") or {}).get("small_cases", []))
        if not cases:
            raise Skip("needs the stage 'tests', which times the cases, or --sanitize FILTER")
        results, found = {"cases": cases.count(":") + 1}, []
        end = self.runner.stage_end
        for i, check in enumerate(checks):
            code, output = self.runner.run(
                [*tool, "--tool", check, "--error-exitcode", FINDING,
                 *self.machine.program("tessera_cuda_tests", f"--gtest_filter={cases}")],
                limit=(end - time.monotonic()) / (len(checks) - i),
                silence=self.machine.hang_scale * SANITIZER_SILENCE,
                variables={"TESSERA_SOURCE_DIR": str(ROOT)})
            passed = len(re.findall(r"^\[       OK \]", output, re.MULTILINE))
            lines = [line for line in output.splitlines()
                     if re.search(r"^=+ (ERROR SUMMARY|RACECHECK SUMMARY|Error|Invalid|Uninit|"
                                  r"Race|Barrier|Internal)", line)]
            results[check] = {"passed": passed, "exit_code": code,
                              "lines": [*lines[:5], *lines[5:][-3:]]}
            self.save(results)
            self.say(f"  {check}: {passed} cases passed{', cut off' if code is None else ''}; "
                     f"{'; '.join(lines[-1:])}")
            seen = re.search(r"^=+ (Invalid|Error: Race|Barrier error|Uninit)", output,
                             re.MULTILINE)
            if code not in (0, None) or seen:
                found.append(check)
            elif code is None:
                found.append(f"{check} (cut off)")
        if found:
            raise Failure(f"findings, or no end: {', '.join(found)} (see the log)", results)
        return results

    def more_sanitize(self):
        return self.sanitize(("synccheck", "initcheck"))

    # ---- answers

    def models(self):
        results, wrong = {"unet": {}, "han": {}}, []
        cpu = self.segment("cpu", "fp32")
        labels = self.classify("cpu", "fp32")
        for precision in PRECISIONS:
            mask = self.segment("cuda", precision)
            if mask[0] != cpu[0]:
                raise Failure(f"the mask is {mask[0]}, the CPU's {cpu[0]}", results)
            differ = sum(a != b for a, b in zip(mask[1], cpu[1]))
            share = differ / len(cpu[1])
            results["unet"][precision] = {"pixels": len(cpu[1]), "differ": differ, "share": share}
            if not share <= MOST_PIXELS[precision]:
                wrong.append(f"masks in {precision}")
            found = self.classify("cuda", precision)
            if len(found) != len(labels):
                raise Failure(f"{len(found)} answers, the CPU gives {len(labels)}", results)
            changed = sum(a["label"] != b["label"] for a, b in zip(found, labels))
            largest = max(abs(a["classes"][label] - b["classes"][label])
                          for a, b in zip(found, labels) for label in b["classes"])
            results["han"][precision] = {"documents": len(labels), "labels_differ": changed,
                                         "largest_difference": largest}
            self.say(f"  {precision}: {differ} of {len(cpu[1])} pixels differ from the CPU's, "
                     f"{changed} of {len(labels)} labels, a probability by up to {largest:.2g}")
            if changed > 0:
                wrong.append(f"labels in {precision}")
            self.save(results)
        if wrong:
            raise Failure(f"answers that differ from the CPU's: {', '.join(wrong)}", results)
        return results

    def segment(self, device, precision):
        """Size of the mask and its pixels."""
        out = self.options.work / f"mask-{device}-{precision}"
        self.runner.must(self.tessera("segment", DEMO / "membranes.png", "-m",
                                      DEMO / "unet_isbi.safetensors", "-o", out, "--device", device,
                                      "--precision", precision, "--no-overlay", "--quiet",
                                      "--probabilities"))
        return classes_of_npy(out / "membranes.probabilities.npy")

    def classify(self, device, precision):
        output = self.runner.must(self.tessera(
            "classify", DEMO / "reviews.tsv", "-m", DEMO / "han_imdb.safetensors", "--device",
            device, "--precision", precision, "--json"))
        answers = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        return [{"label": one["label"],
                 "classes": {p["label"]: p["probability"] for p in one["probabilities"]}}
                for one in answers if "label" in one]  # the last line sums up

    # ---- speed

    def profile(self, profiles=tuple(PROFILES)):
        results, failed = [], []
        for preset, precision in profiles:
            try:
                report = self.runner.report(self.tessera(
                    "profile", preset, "--device", "cuda", "--precision", precision,
                    "--iterations", 10, "--json"), limit=30)
            except Failure as failure:
                failed.append(f"{preset} {precision}: {failure.args[0]}")
                continue
            results.append(report)
            self.save(results)
            self.print_profile(report)
        if failed:
            raise Failure("; ".join(failed), results)
        return results

    def more_profiles(self):
        return self.profile(OTHER_PROFILES)

    def print_profile(self, report):
        total = sum(node["seconds"] for node in report["nodes"])
        peak, bandwidth = report["peak_flops_per_second"], report["bandwidth_bytes_per_second"]
        self.say(f"  {report['workload']}, {report['precision']}: {1e3 * total:.3f} ms node by "
                 f"node; peak {1e-12 * peak:.1f} TFLOP/s, {1e-9 * bandwidth:.0f} GB/s")
        for node in sorted(report["nodes"], key=lambda n: -n["seconds"])[:4]:
            self.say(f"    {node['name']:<22} {1e6 * node['seconds']:>8.1f} us "
                     f"{1e-12 * node['flops'] / max(node['seconds'], 1e-9):>7.2f} TFLOP/s "
                     f"{100 * node['share_of_roofline']:>6.1f} % of roofline")

    def sweep(self):
        """Every tile over every layer; the file is what the choice of a tile reads."""
        name = f"sweep-{self.options.slug}.json"
        path = self.options.out / name
        if not any(n.startswith("CudaSweep.") for n in self.tested.names()) and \
                not self.options.dry_run:
            raise Skip("this build has no sweep")
        code, _ = self.runner.run(
            self.machine.program("tessera_cuda_tests", "--gtest_filter=CudaSweep.OfTheNetworks"),
            variables={"TESSERA_SWEEP": str(path), "TESSERA_SOURCE_DIR": str(ROOT),
                       "TESSERA_SWEEP_SECONDS": str(max(1, int(self.runner.left()) - 3))})
        if not path.exists():
            raise Failure(f"no results, exit code {code}")
        rows = json.loads(path.read_text())["rows"]
        results = {"file": name, "rows": len(rows)}
        self.say(f"  {len(rows)} rows in {name}")
        if code != 0:
            raise Failure("cut off" if code is None else f"exit code {code}", results)
        return results

    def layers(self):
        """Each layer beside cuDNN and cuBLASLt in one process."""
        results, failed, end = [], [], self.runner.stage_end
        folders = self.machine.library_folders()
        for i, (preset, precision) in enumerate(BESIDE):
            code, output = self.runner.run(
                self.tessera("bench", preset, "--device", "cuda", "--precision", precision,
                             "--against", "cudnn", "--duration", 0.5, "--json",
                             *(["--libraries", folders] if folders else [])),
                limit=(end - time.monotonic()) / (len(BESIDE) - i))
            # A line for each layer, so that what was cut off has all but the last.
            lines = [json.loads(line) for line in output.splitlines()
                     if line.startswith("{") and line.endswith("}")]
            if code != 0:
                said = "cut off" if code is None else output.strip().splitlines()[-1:] or [code]
                failed.append(f"{preset} {precision}: {said if code is None else said[0]}")
            if lines:
                results.append({**lines[0], "rows": lines[1:]})
                self.save(results)
                self.print_layers(results[-1])
        if not results and failed and all("is not on this machine" in one for one in failed):
            raise Skip(failed[0])
        if failed:
            raise Failure("; ".join(failed), results)
        return results

    def print_layers(self, report):
        rows = [row for row in report["rows"] if "ratio" in row]
        ours, theirs = (sum(row[key] for row in rows) for key in ("seconds", "peer_seconds"))
        self.say(f"  {report['workload']}, {report['precision']}: {len(rows)} of "
                 f"{len(report['rows'])} layers beside a peer: {1e6 * ours:.1f} us, theirs "
                 f"{1e6 * theirs:.1f} us")
        for row in sorted(rows, key=lambda row: row["ratio"])[:3]:  # where we lose most
            self.say(f"    {row['node']:<22} {1e6 * row['seconds']:>8.1f} us, {row['peer']} "
                     f"{1e6 * row['peer_seconds']:>8.1f} us ({row['way']}), x {row['ratio']:.2f}")
        worst = max(rows, default=None,
                    key=lambda row: row["largest_difference"] / (row["largest_value"] or 1))
        if worst:
            self.say(f"    largest difference: {worst['largest_difference']:.2g} of "
                     f"{worst['largest_value']:.2g} ({worst['node']})")

    def peers(self):
        path = self.options.work / "peers.json"
        return self.against_pytorch("gpu_peers.py", path, "PyTorch ", [
            "--json", path, "--work", self.options.work / "peers", "--compile-seconds", 0])

    def compiled(self):
        """torch.compile, which takes a minute to begin."""
        path = self.options.work / "compiled.json"
        return self.against_pytorch("gpu_peers.py", path, "PyTorch ", [
            "--json", path, "--work", self.options.work / "peers", "--precision", "bf16",
            "--compile-seconds", max(1, round(0.6 * self.runner.left()))])

    def training(self):
        """Of steps of training."""
        path = self.options.work / "training.json"
        limit = max(1, round(self.runner.left() - SECONDS_TO_REPORT))
        return self.against_pytorch("training.py", path, "Training on ", [
            *TRAINED, "-o", path, "--python", sys.executable, "--rounds", 1, "--limit", limit])

    def against_pytorch(self, program, path, title, arguments):
        """The results that tools/bench/<program> writes to `path`; `title` begins its tables."""
        command = self.machine.pytorch(program)
        path.unlink(missing_ok=True)
        code, output = self.runner.run(
            [*command, "--device", "cuda", "--tessera", shlex.join(self.tessera()), *arguments])
        results = json.loads(path.read_text()) if path.exists() else None
        table = output[output.find(title):] if title in output else output
        self.say("\n".join(f"  {line}" for line in table.strip().splitlines()[-LAST_LINES:]))
        if code != 0:
            raise Failure("cut off" if code is None else f"exit code {code}", results)
        return results

    def ncu(self):
        """Nsight Compute's words on the heaviest kernels, as text."""
        tool, results = self.machine.tool("ncu"), {}
        end, presets = self.runner.stage_end, list(NCU_KERNELS)
        for i, preset in enumerate(presets):
            kernels, count = NCU_KERNELS[preset]
            code, output = self.runner.run(
                [*tool, "-k", f"regex:{kernels}", "--launch-count", count, "--clock-control",
                 "none", "--page", "details",
                 *(word for section in NCU_SECTIONS for word in ("--section", section)),
                 *self.tessera("profile", preset, "--device", "cuda", "--precision", "bf16",
                               "--iterations", 1, "--json")],
                limit=(end - time.monotonic()) / (len(presets) - i))
            found = kernels_of_ncu(output)
            results[preset] = {"exit_code": code, "kernels": found}
            self.save(results)
            self.say(f"  {preset}: {len(found)} launches")
        if not any(one["kernels"] for one in results.values()):
            raise Failure("no kernel was seen (see the log)", results)
        return results

    def nsys(self):
        """The timeline, or where no nsys is, or one that writes no report, our own events."""
        out = self.options.work / "nsys"
        code, output = self.runner.run(
            [*self.machine.script("profile.sh"), "nsys", "unet-paper", "-o", out, "--device",
             "cuda", "--precision", "bf16"], variables={"TESSERA": shlex.join(self.tessera())})
        kept = []
        for file in sorted(out.glob("*")):
            if file.suffix in (".nsys-rep", ".qdstrm", ".svg", ".txt") and \
                    file.stat().st_size <= LARGEST_KEPT:
                shutil.copy(file, self.options.out / f"nsys-unet-{file.name}")
                kept.append(f"nsys-unet-{file.name}")
        self.say("\n".join(f"  {line}" for line in output.strip().splitlines()[:LAST_LINES]))
        if code != 0 and "is not on this machine" in output:
            raise Skip("nsys is not on this machine; the table is of our own events")
        if code != 0:
            raise Failure("cut off" if code is None else f"exit code {code}", {"files": kept})
        return {"files": kept}


def kernels_of_ncu(output):
    """[{kernel, metrics: {name: "value unit"}}] of ncu's details page."""
    found = []
    for line in output.splitlines():
        head = re.match(r"  (\S.*) \(\d+, \d+, \d+\)x\(\d+, \d+, \d+\), Context", line)
        cells = re.match(r"    (\S.*?)  +(\S+)?  +([\d.,]+)$", line)
        if head:
            name = re.search(r"(\w+_kernel)", head[1])
            found.append({"kernel": name[1] if name else head[1][:60], "launch": line.strip()[-90:],
                          "metrics": {}})
        elif cells and found:
            found[-1]["metrics"][cells[1]] = f"{cells[3]} {cells[2] or ''}".strip()
    return found


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
