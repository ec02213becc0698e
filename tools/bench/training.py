#!/usr/bin/env python3
"""Measures steps of training against PyTorch: same weights, same batch, same machine, same run.

    tools/bench/training.py                          # all networks, 2 threads
    tools/bench/training.py unet han --threads 1
    tools/bench/training.py --device cuda            # in bf16 and tf32

Networks: unet (the ISBI recipe's: base 16, batch norm, 4 x 256 x 256), unet-paper (base 64, valid,
1 x 572 x 572), han (the IMDB recipe's: GRU 50, 64 documents of 20 x 40 words, an embedding of
30,000 x 100 that is trained), han-ragged (the same with lengths from 1 up to that, evenly).

PyTorch's newest release is installed from PyPI into .venv-training by the first run (about 3 GB);
--python names an interpreter that has it. It is measured in every way that a user would write
(tools/bench/training_peer.py): images contiguous and channels_last; documents packed and masked,
with dense and sparse gradients of the embedding; on a GPU also the whole step as a CUDA graph and,
once, after all else, the U-Nets through torch.compile. Speed is against the best of them in that
network. On a GPU bf16 is autocast for PyTorch (its cuDNN may run the recurrence in fp16).

A step is forward, cross-entropy, backward and Adam, on a GPU from a batch in the host's memory to
the loss there. Each round measures every variant of PyTorch and Tessera (`tessera bench --train`)
once, on the CPU each in a process of its own; a figure is the median over the rounds of the median
within each, speed the median of the rounds' ratios. The run fails if the losses of the first steps
differ: then the programs do not train the same network. Memory on a GPU is, for PyTorch, the most
that its tensors took, for Tessera what the device has less.

Prints a Markdown table and writes all figures to tools/bench/results/<date>-<cpu>-training.json
(on a GPU <date>-<gpu>-training.json); after a failure only where -o says. Exit code 1: something
failed, other than a CUDA graph or torch.compile.
"""

import argparse
import datetime
import json
import math
import pathlib
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import time

from peers import commit, machine, slug

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEER = pathlib.Path(__file__).with_name("training_peer.py")
WORK = ROOT / "out" / "training"
RESULTS = ROOT / "tools" / "bench" / "results"
# Of the loss of the first steps in fp32, relative. Measured: to 1.4e-4, where Adam divides small
# gradients by their own size; two layouts of PyTorch differ as much. A step left out moves it by
# 1e-2. In bf16 and tf32: autocast moves PyTorch's own on a CPU by up to 3e-4, factors rounded to 10
# bits by 1.4e-3, and both programs round. The paper's U-Net overshoots in its second step, from 1.9
# to 10: there autocast moves it by 1.4e-2.
CHECKED_STEPS, LARGEST_DIFFERENCE = 3, 1e-3
ROUNDED_DIFFERENCE, OF_THE_PAPER = 5e-3, 5e-2
COMPILED, GRAPH = "channels_last, torch.compile", ", CUDA graph"
UNET_VARIANTS = ("contiguous", "channels_last")
HAN_VARIANTS = ("packed", "packed, sparse", "masked", "masked, sparse")
MOST_SECONDS = {"cpu": math.inf, "cuda": 45}  # of a process: one that hangs leaves the others time
PRECISIONS = {"cpu": ("fp32",), "cuda": ("bf16", "tf32", "fp32")}


class Network:
    def __init__(self, title, variants, same, arguments, graph, compiled=(),
                 rounded=ROUNDED_DIFFERENCE):
        self.title, self.variants, self.arguments = title, variants, arguments
        self.same = same  # variants that compute what Tessera does, in the first steps
        self.rounded = rounded  # difference of the losses below fp32
        # On a GPU in a process each: a capture that fails may spoil what comes after it, and the
        # compiler may have to be ended.
        self.graph, self.compiled = (graph + GRAPH,), compiled

    def groups(self, device):
        """Variants by the process that measures them: on the CPU the memory is the process's."""
        return [(variant,) for variant in self.variants] if device == "cpu" else [self.variants]

    def computes_the_same(self, variant):
        return variant in self.same or variant in self.compiled or \
            variant.removesuffix(GRAPH) in self.same


NETWORKS = {
    "unet": Network("U-Net of the ISBI recipe (base 16, batch norm), 4 x 256 x 256 x 1",
                    UNET_VARIANTS, UNET_VARIANTS, ["--batch", 4, "--size", 256],
                    "channels_last", (COMPILED,)),
    "unet-paper": Network("U-Net 2015 (base 64), 1 x 572 x 572 x 1", UNET_VARIANTS, UNET_VARIANTS,
                          ["--size", 572], "channels_last", (COMPILED,), OF_THE_PAPER),
    "han": Network("HAN of the IMDB recipe, 64 x 20 sentences x 40 words", HAN_VARIANTS,
                   ("packed", "masked"), ["--batch", 64], "masked"),
    "han-ragged": Network("HAN of the IMDB recipe, 64 x up to 20 sentences x up to 40 words",
                          HAN_VARIANTS, ("packed",), ["--batch", 64, "--ragged"], "masked"),
}


# ---- the two programs --------------------------------------------------------------------------


class Failure(Exception):
    """What ends one measurement or comparison; the others go on."""


class Clock:
    """Time that is left for all together."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def left(self, most=math.inf):
        """Seconds for subprocess.run(timeout=...): None for as long as it takes."""
        seconds = min(self.end - time.monotonic(), most)
        if seconds <= 0:
            raise Failure("no time left (--limit)")
        return None if seconds == math.inf else seconds


class Tessera:
    def __init__(self, command):
        self.command = shlex.split(command)
        if not self.command or not shutil.which(self.command[0]):
            sys.exit(f"training: no program at '{command}'; build it (cmake --build build), or "
                     "name it with --tessera")

    def run(self, arguments, timeout=None):
        command = [*self.command, *map(str, arguments)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired as late:
            raise Failure(f"not done after {late.timeout:.0f} s") from None
        sys.stderr.write(done.stderr)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or [""])[-1]
            raise Failure(f"'{shlex.join(command)}' ended with {done.returncode}: {last}")
        return done.stdout

    def version(self):
        return self.run(["--version"]).splitlines()[0].removeprefix("tessera ")

    def bench(self, model, arguments, precision, options):
        return json.loads(self.run(
            ["bench", "-m", model, *arguments, "--train", "--json", "--device", options.device,
             "--precision", precision, "--threads", options.threads, "--warmup", options.warmup,
             "--iterations", options.iterations],
            options.clock.left(MOST_SECONDS[options.device])))


def has_torch(python):
    return subprocess.run([python, "-c", "import torch, numpy"],
                          stderr=subprocess.DEVNULL).returncode == 0


def peer_python(options):
    """The interpreter that has torch; of the environment, which is made if need be."""
    if options.python:
        if not shutil.which(options.python) or not has_torch(options.python):
            sys.exit(f"training: '{options.python}' has no torch or no numpy")
        return options.python
    python = options.venv / "bin" / "python"
    if not python.exists():
        print(f"making {options.venv} with PyTorch", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", options.venv], check=True)
    if not has_torch(python):
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*pip, "torch", "numpy"]).returncode != 0:
            sys.exit("training: cannot install torch and numpy; is PyPI reachable?")
    return python


class Peer:
    """tools/bench/training_peer.py."""

    def __init__(self, options):
        self.python, self.options = peer_python(options), options

    def run(self, *arguments, limit=math.inf):
        """(lines that it printed, why it did not end well). By way of a file: of a pipe, whatever
        torch.compile has started would keep the end open."""
        command = [str(part) for part in (self.python, PEER, *arguments)]
        path = WORK / "peer.jsonl"
        with open(path, "w") as file:
            try:
                done = subprocess.run(command, stdout=file, timeout=self.options.clock.left(limit))
                why = f"ended with {done.returncode}" if done.returncode != 0 else ""
            except subprocess.TimeoutExpired as late:
                why = f"not done after {late.timeout:.0f} s"
            except Failure as failure:
                why = str(failure)
        return [line for line in path.read_text().splitlines() if line.endswith("}")], why

    def write(self, names):
        """Makes the model files; what PyTorch runs on."""
        lines, why = self.run("write", WORK, *names, "--device", self.options.device)
        if why:
            sys.exit(f"training: PyTorch made no networks: training_peer.py {why}")
        return json.loads(lines[0])

    def measure(self, name, variants, limit):
        """Measurements by variant and precision; of what did not run, the error."""
        options = self.options
        lines, why = self.run("measure", name, *variants, "--device", options.device,
                              "--precision", ",".join(options.precisions), "--threads",
                              options.threads, "--warmup", options.warmup, "--iterations",
                              options.iterations, limit=limit)
        found = {(variant, precision): {"error": why or "no result"} for variant in variants
                 for precision in options.precisions}
        return found | {(one["variant"], one["precision"]): one for one in map(json.loads, lines)}


# ---- comparing ---------------------------------------------------------------------------------


class Comparison:
    """One network in one precision."""

    def __init__(self, name, precision, options):
        self.name, self.network, self.precision = name, NETWORKS[name], precision
        self.options, self.title = options, f"{name}, {precision}"
        self.peers, self.own, self.did_not_run = {}, [], {}

    def fail(self, variant, why):
        self.did_not_run[variant] = why
        print(f"  {self.title}, {variant}: {why}", file=sys.stderr)

    def add(self, found):
        for (variant, precision), one in found.items():
            if precision == self.precision:
                if "error" in one:
                    self.fail(variant, one["error"])
                else:
                    self.peers.setdefault(variant, []).append(one)

    def add_own(self, tessera):
        try:
            self.own.append(tessera.bench(WORK / f"{self.name}.safetensors", self.network.arguments,
                                          self.precision, self.options))
        except Failure as why:
            self.fail("Tessera", str(why))

    def errors(self):
        return [f"{self.title}, {variant}: {why}" for variant, why in self.did_not_run.items()
                if variant == "Tessera" or variant in self.network.variants]

    def check_losses(self):
        """Largest difference of the first steps' losses, relative."""
        bound = LARGEST_DIFFERENCE if self.precision == "fp32" else self.network.rounded
        own, largest = self.losses(self.own), []
        for variant in [v for v in self.peers if self.network.computes_the_same(v)]:
            losses = self.losses(self.peers[variant])
            differences = [abs(a / b - 1) for a, b in zip(own, losses)]
            print(f"  {self.title}: losses differ by {max(differences):.2g} ({variant})",
                  file=sys.stderr)
            if all(difference <= bound for difference in differences):  # NaN fails too
                largest.append(max(differences))
                continue
            why = (f"losses {losses} of the first steps, Tessera's {own}: expected to differ by at "
                   f"most {bound}, relative")
            if variant in self.network.variants:
                raise Failure(f"{variant}: {why}")
            self.fail(variant, why)
            del self.peers[variant]
        if not largest:
            raise Failure("PyTorch: no variant ran that computes what Tessera does")
        return max(largest)

    @staticmethod
    def losses(rounds):
        return rounds[0]["losses"][:CHECKED_STEPS]

    def result(self):
        largest = self.check_losses()
        times = {variant: [statistics.median(one["seconds"]) for one in rounds]
                 for variant, rounds in self.peers.items()}
        best = min(times, key=lambda variant: statistics.median(times[variant]))
        items = self.own[0]["items_per_second"] * self.own[0]["median_seconds"]

        def row(title, rounds, peak):
            median = statistics.median(rounds)
            return {"name": title, "seconds": median, "rounds": rounds,
                    "speed_against_peer": statistics.median(
                        peer / one for peer, one in zip(times[best], rounds)),
                    "items_per_second": items / median, "peak_bytes": peak}

        rows = [row(f"PyTorch, {variant}", times[variant],
                    max(one["peak_bytes"] for one in self.peers[variant]))
                for variant in sorted(times, key=lambda variant: statistics.median(times[variant]))]
        rows.append({**row("Tessera", [one["median_seconds"] for one in self.own],
                           max(one["measured_peak_bytes"] for one in self.own)),
                     "flops_per_second": statistics.median(one["flops_per_second"]
                                                           for one in self.own),
                     "arena_bytes": self.own[0]["arena_bytes"]})
        return {"network": self.network.title, "precision": self.precision,
                "item": self.own[0]["item"], "warmup": self.options.warmup,
                "iterations": self.options.iterations, "rounds": self.options.rounds, "rows": rows,
                "losses": {"steps": CHECKED_STEPS, "largest_difference": largest},
                "did_not_run": {variant: why for variant, why in self.did_not_run.items()
                                if variant not in self.peers}}


def add(comparisons, found):
    for comparison in comparisons:
        comparison.add(found)


def measure(name, comparisons, peer, tessera, options):
    network = NETWORKS[name]
    print(network.title, file=sys.stderr)
    for i in range(options.rounds):
        print(f"  round {i + 1} of {options.rounds}", file=sys.stderr)
        for variants in network.groups(options.device):
            add(comparisons, peer.measure(name, variants, MOST_SECONDS[options.device]))
        for comparison in comparisons:
            comparison.add_own(tessera)
        if options.device == "cuda":
            add(comparisons, peer.measure(name, network.graph, MOST_SECONDS["cuda"]))


def measure_compiled(name, comparisons, peer, options):
    """torch.compile takes minutes at worst, so it comes last and only once."""
    if options.device == "cpu" or not NETWORKS[name].compiled or options.compile_seconds <= 0:
        return
    print(f"{NETWORKS[name].title}: torch.compile", file=sys.stderr)
    add(comparisons, peer.measure(name, NETWORKS[name].compiled, options.compile_seconds))


# ---- reporting ---------------------------------------------------------------------------------


def markdown(report):
    where = report.get("gpu") or f"{report['machine']['cpu']}, threads: {report['threads']}"
    lines = [f"Training on {where}; "
             + ", ".join(f"{name} {version}" for name, version in report["versions"].items()), ""]
    for result in report["results"]:
        lines += [f"| {result['network']}, {result['precision']} | step | rounds "
                  f"| {result['item']}s/s | speed | memory |",
                  "|---|---:|---:|---:|---:|---:|"]
        for row in result["rows"]:
            lines.append(f"| {row['name']} | {1e3 * row['seconds']:.1f} ms "
                         f"| {1e3 * min(row['rounds']):.1f} to {1e3 * max(row['rounds']):.1f} ms "
                         f"| {row['items_per_second']:.4g} | {row['speed_against_peer']:.2f} x "
                         f"| {row['peak_bytes'] / 2**20:.0f} MiB |")
        lines += ["", f"Losses of the first {result['losses']['steps']} steps differ by "
                  f"{result['losses']['largest_difference']:.2g} at most."]
        lines += [f"Did not run: {variant}: {why}"
                  for variant, why in result["did_not_run"].items()]
        lines.append("")
    return "\n".join(lines + [f"Failed: {error}" for error in report["errors"]])


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK",
                        help=f"{', '.join(NETWORKS)}; default: all")
    parser.add_argument("--device", choices=list(PRECISIONS), default="cpu")
    parser.add_argument("--precision", metavar="NAMES",
                        help="several with commas between; on the CPU fp32, on a GPU fp32, tf32 "
                        "and bf16 (default: bf16,tf32)")
    parser.add_argument("--threads", type=int,
                        help="of both programs (default: 2; on a GPU their own choice)")
    parser.add_argument("--rounds", type=int, default=2, help="default: 2")
    parser.add_argument("--iterations", type=int,
                        help="steps of a round (default: 10; on a GPU 50)")
    parser.add_argument("--warmup", type=int,
                        help="steps that do not count (default: 3; on a GPU 10)")
    parser.add_argument("--limit", type=float, default=math.inf, metavar="S",
                        help="seconds for all together; what has no time left is said to fail")
    parser.add_argument("--compile-seconds", type=float, default=300, metavar="S",
                        help="for each network through torch.compile (default: 300; 0: leave it "
                        "out)")
    parser.add_argument("--tessera", default=shlex.quote(str(ROOT / "build" / "tessera")),
                        metavar="COMMAND", help="program, or a command line that begins with it")
    parser.add_argument("--python", metavar="PATH",
                        help="an interpreter with torch and numpy, instead of --venv")
    parser.add_argument("--venv", type=pathlib.Path, default=ROOT / ".venv-training", metavar="DIR",
                        help="environment with torch and numpy, made if it is missing")
    parser.add_argument("-o", "--output", type=pathlib.Path, metavar="FILE",
                        help="default: tools/bench/results/<date>-<cpu>-training.json")
    options = parser.parse_args()
    on_gpu = options.device == "cuda"
    for name, on_cpu, default in (("threads", 2, 0), ("iterations", 10, 50), ("warmup", 3, 10)):
        if getattr(options, name) is None:
            setattr(options, name, default if on_gpu else on_cpu)
    for name in options.networks:
        if name not in NETWORKS:
            parser.error(f"expected {', '.join(NETWORKS)}; found '{name}'")
    options.networks = options.networks or list(NETWORKS)
    known = PRECISIONS[options.device]
    options.precisions = (options.precision or ",".join(known[:2])).split(",")
    for name in options.precisions:
        if name not in known:
            parser.error(f"--precision: expected some of {', '.join(known)} on {options.device}, "
                         f"found '{name}'")
    for name, least in (("threads", 0 if on_gpu else 1), ("rounds", 1), ("iterations", 1)):
        if getattr(options, name) < least:
            parser.error(f"--{name}: expected at least {least}, found {getattr(options, name)}")
    if options.warmup + options.iterations < CHECKED_STEPS:
        parser.error(f"--iterations: expected {CHECKED_STEPS} steps or more, with the warm-up")
    options.clock = Clock(options.limit)
    return options


def main():
    options = parse_arguments()
    tessera, peer = Tessera(options.tessera), Peer(options)
    version, host = tessera.version(), machine()
    if host["load_average_before"] > 0.5:
        print(f"warning: the machine is busy (load {host['load_average_before']:.1f}); figures of "
              "a quiet one differ", file=sys.stderr)
    WORK.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.timezone.utc)
    facts = peer.write(options.networks)
    comparisons = {name: [Comparison(name, precision, options) for precision in options.precisions]
                   for name in options.networks}
    for name in options.networks:
        measure(name, comparisons[name], peer, tessera, options)
    for name in options.networks:
        measure_compiled(name, comparisons[name], peer, options)

    results, errors = [], []
    for comparison in (one for same_name in comparisons.values() for one in same_name):
        errors += comparison.errors()
        try:
            if comparison.own and comparison.peers:
                results.append(comparison.result())
        except Failure as why:
            errors.append(f"{comparison.title}, {why}")
    on_gpu = options.device == "cuda"
    report = {"kind": "training-gpu" if on_gpu else "training",
              "date": now.isoformat(timespec="seconds"), "commit": commit(),
              "command": shlex.join(["tools/bench/training.py", *sys.argv[1:]]),
              "machine": host, "versions": {"Tessera": version, **facts["versions"]},
              "threads": options.threads, "results": results, "errors": errors}
    device = host["cpu"]
    if on_gpu:
        device = report["gpu"] = facts["gpu"]
    print(markdown(report))
    if options.output or not errors:
        path = options.output or RESULTS / f"{now:%Y-%m-%d}-{slug(device)}-training.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2) + "\n")
        print(f"written to {path}", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
