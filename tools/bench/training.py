#!/usr/bin/env python3
"""Measures steps of training against PyTorch: same weights, same batch, same machine, same run.

    tools/bench/training.py                          # all networks, 2 threads
    tools/bench/training.py unet han --threads 1

Networks: unet (the ISBI recipe's: base 16, batch norm, 4 x 256 x 256), unet-paper (base 64, valid,
1 x 572 x 572), han (the IMDB recipe's: GRU 50, 64 documents of 20 x 40 words, an embedding of
30,000 x 100 that is trained), han-ragged (the same with lengths from 1 up to that, evenly).

PyTorch's newest release is installed from PyPI into .venv-training by the first run (about 3 GB).
It is measured in every way that a user would write (tools/bench/training_peer.py): images
contiguous and channels_last; documents packed and masked, with dense and sparse gradients of the
embedding. Speed is against the best of them in that network.

A step is forward, cross-entropy, backward and Adam. Each round measures every variant of PyTorch
and Tessera (`tessera bench --train`) once, each in a process of its own; a figure is the median
over the rounds of the median within each, speed the median of the rounds' ratios. The run fails if
the losses of the first steps differ: then the programs do not train the same network.

Prints a Markdown table and writes all figures to tools/bench/results/<date>-<cpu>-training.json.
"""

import argparse
import datetime
import json
import pathlib
import re
import shlex
import statistics
import subprocess
import sys

from peers import Program, commit, machine

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEER = pathlib.Path(__file__).with_name("training_peer.py")
WORK = ROOT / "out" / "training"
RESULTS = ROOT / "tools" / "bench" / "results"
# Of the loss of the first steps, relative. Measured: to 1.4e-4, where Adam divides small gradients
# by their own size; two layouts of PyTorch differ as much. A step left out moves it by 1e-2.
CHECKED_STEPS, LARGEST_DIFFERENCE = 3, 1e-3
UNET_VARIANTS = ("contiguous", "channels_last")
HAN_VARIANTS = ("packed", "packed, sparse", "masked", "masked, sparse")


class Network:
    def __init__(self, title, variants, same, arguments):
        self.title, self.variants, self.arguments = title, variants, arguments
        self.same = same  # variants that compute what Tessera does, in the first steps


NETWORKS = {
    "unet": Network("U-Net of the ISBI recipe (base 16, batch norm), 4 x 256 x 256 x 1",
                    UNET_VARIANTS, UNET_VARIANTS, ["--batch", 4, "--size", 256]),
    "unet-paper": Network("U-Net 2015 (base 64), 1 x 572 x 572 x 1", UNET_VARIANTS, UNET_VARIANTS,
                          ["--size", 572]),
    "han": Network("HAN of the IMDB recipe, 64 x 20 sentences x 40 words", HAN_VARIANTS,
                   ("packed", "masked"), ["--batch", 64]),
    "han-ragged": Network("HAN of the IMDB recipe, 64 x up to 20 sentences x up to 40 words",
                          HAN_VARIANTS, ("packed",), ["--batch", 64, "--ragged"]),
}


def peer_python(venv):
    """The interpreter of `venv`, which is made if need be."""
    python = venv / "bin" / "python"
    if not python.exists():
        print(f"making {venv} with PyTorch", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    if subprocess.run([python, "-c", "import torch, numpy"], stderr=subprocess.DEVNULL).returncode:
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*pip, "torch", "numpy"]).returncode != 0:
            sys.exit("training: cannot install torch and numpy; is PyPI reachable?")
    return python


def run_peer(python, *arguments):
    command = [str(a) for a in (python, PEER, *arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"training: '{shlex.join(command)}' ended with {done.returncode}")
    return done.stdout


def difference(losses, others):
    return max(abs(a / b - 1) for a, b in zip(losses[:CHECKED_STEPS], others[:CHECKED_STEPS]))


def measure(name, network, program, python, options, versions):
    print(network.title, file=sys.stderr)
    model = WORK / f"{name}.safetensors"
    run_peer(python, "write", name, model)
    peers, own = {variant: [] for variant in network.variants}, []
    for i in range(options.rounds):
        print(f"  round {i + 1} of {options.rounds}", file=sys.stderr)
        for variant in network.variants:
            peers[variant].append(json.loads(run_peer(python, "measure", name, variant,
                                                      options.threads, options.warmup,
                                                      options.iterations)))
        own.append(json.loads(program.run(
            ["bench", "-m", model, *network.arguments, "--train", "--json", "--device", "cpu",
             "--warmup", options.warmup, "--iterations", options.iterations], options.threads)))
    versions.update(peers[network.variants[0]][0]["versions"])
    differences = {variant: difference(own[0]["losses"], peers[variant][0]["losses"])
                   for variant in network.same}
    print("  losses differ by " + ", ".join(f"{value:.2g} ({variant})"
                                            for variant, value in differences.items()),
          file=sys.stderr)
    if not max(differences.values()) <= LARGEST_DIFFERENCE:  # NaN fails too
        sys.exit(f"training: the losses of the first {CHECKED_STEPS} steps differ by up to "
                 f"{max(differences.values()):.2g}, expected at most {LARGEST_DIFFERENCE}")

    times = {variant: [statistics.median(one["seconds"]) for one in rounds]
             for variant, rounds in peers.items()}
    best = min(times, key=lambda variant: statistics.median(times[variant]))
    items = own[0]["items_per_second"] * own[0]["median_seconds"]

    def row(title, rounds, peak):
        median = statistics.median(rounds)
        return {"name": title, "seconds": median, "rounds": rounds,
                "speed_against_peer": statistics.median(
                    peer / one for peer, one in zip(times[best], rounds)),
                "items_per_second": items / median, "peak_bytes": peak}

    rows = [row(f"PyTorch, {variant}", times[variant],
                max(one["peak_bytes"] for one in peers[variant]))
            for variant in sorted(times, key=lambda variant: statistics.median(times[variant]))]
    rows.append({**row("Tessera", [one["median_seconds"] for one in own],
                       max(one["measured_peak_bytes"] for one in own)),
                 "flops_per_second": statistics.median(one["flops_per_second"] for one in own),
                 "arena_bytes": own[0]["arena_bytes"]})
    return {"network": network.title, "item": own[0]["item"], "warmup": options.warmup,
            "iterations": options.iterations, "rounds": options.rounds, "rows": rows,
            "losses": {"steps": CHECKED_STEPS, "largest_difference": max(differences.values())}}


def markdown(report):
    lines = [f"{report['machine']['cpu']}, threads: {report['threads']}; "
             + ", ".join(f"{name} {version}" for name, version in report["versions"].items()), ""]
    for result in report["results"]:
        lines += [f"| {result['network']} | step | rounds | {result['item']}s/s | speed | memory |",
                  "|---|---:|---:|---:|---:|---:|"]
        for row in result["rows"]:
            lines.append(f"| {row['name']} | {1e3 * row['seconds']:.1f} ms "
                         f"| {1e3 * min(row['rounds']):.1f} to {1e3 * max(row['rounds']):.1f} ms "
                         f"| {row['items_per_second']:.4g} | {row['speed_against_peer']:.2f} x "
                         f"| {row['peak_bytes'] / 2**20:.0f} MiB |")
        lines += ["", f"Losses of the first {result['losses']['steps']} steps differ by "
                  f"{result['losses']['largest_difference']:.2g} at most.", ""]
    return "\n".join(lines)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK",
                        help=f"{', '.join(NETWORKS)}; default: all")
    parser.add_argument("--threads", type=int, default=2, help="of both programs (default: 2)")
    parser.add_argument("--rounds", type=int, default=2, help="default: 2")
    parser.add_argument("--iterations", type=int, default=10, help="steps of a round (default: 10)")
    parser.add_argument("--warmup", type=int, default=3, help="steps that do not count")
    parser.add_argument("--tessera", default=ROOT / "build" / "tessera", metavar="PROGRAM")
    parser.add_argument("--venv", type=pathlib.Path, default=ROOT / ".venv-training", metavar="DIR",
                        help="environment with torch and numpy, made if it is missing")
    parser.add_argument("-o", "--output", type=pathlib.Path, metavar="FILE",
                        help="default: tools/bench/results/<date>-<cpu>-training.json")
    options = parser.parse_args()
    for name in options.networks:
        if name not in NETWORKS:
            parser.error(f"expected {', '.join(NETWORKS)}; found '{name}'")
    for name in ("threads", "rounds", "iterations"):
        if getattr(options, name) < 1:
            parser.error(f"--{name}: expected at least 1, found {getattr(options, name)}")
    if options.warmup + options.iterations < CHECKED_STEPS:
        parser.error(f"--iterations: expected {CHECKED_STEPS} steps or more, with the warm-up")
    return options


def main():
    options = parse_arguments()
    program, python = Program(options.tessera), peer_python(options.venv)
    host = machine()
    if host["load_average_before"] > 0.5:
        print(f"warning: the machine is busy (load {host['load_average_before']:.1f}); figures of "
              "a quiet one differ", file=sys.stderr)
    WORK.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.timezone.utc)
    versions = {"Tessera": program.version().removeprefix("tessera ")}
    report = {"kind": "training", "date": now.isoformat(timespec="seconds"), "commit": commit(),
              "command": shlex.join(["tools/bench/training.py", *sys.argv[1:]]),
              "machine": host, "versions": versions, "threads": options.threads,
              "results": [measure(name, NETWORKS[name], program, python, options, versions)
                          for name in options.networks or NETWORKS]}
    cpu = re.sub(r"[^a-z0-9]+", "-", host["cpu"].lower()).strip("-")
    path = options.output or RESULTS / f"{now:%Y-%m-%d}-{cpu}-training.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(markdown(report))
    print(f"written to {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
