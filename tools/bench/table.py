#!/usr/bin/env python3
"""Writes the README's tables of measurements, and the rates by which a convolution's tile is chosen
(kernels/ops/conv/cuda_rates.inc), from the newest files in tools/bench/results.

    tools/bench/table.py            # rewrites both
    tools/bench/table.py --check    # fails if one is not what the results say

README.md says where, between a pair of comments each:

    <!-- results:cpu -->       ...  <!-- end -->    of tools/bench/peers.py
    <!-- results:training -->  ...  <!-- end -->    of tools/bench/training.py
    <!-- results:shared -->    ...  <!-- end -->    of tools/bench/shared_machine.py
    <!-- results:gpu -->       ...  <!-- end -->    of tools/gpu_suite.sh

A table without a file says that nothing was measured yet.
"""

import argparse
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tools" / "bench" / "results"
NOTHING = "Not measured yet."
ENGINES = {"eager": "PyTorch", "graph": "PyTorch, CUDA graph", "compile": "PyTorch, torch.compile"}
LARGEST_NODES = 8
RATES = ROOT / "kernels" / "ops" / "conv" / "cuda_rates.inc"
WGMMA_TILES = ["256x128", "224x128", "208x128", "176x128", "160x128", "128x128", "64x128", "512x64", "448x64", "416x64"]
CONV_TILES = [*(f"wgmma {pair}{tile}" for pair in ("", "pair ") for tile in WGMMA_TILES), "mma 128x128", "mma 256x64",
              "mma 256x32", "mma 64x64", "fma 128x64", "fma 256x16"]


def newest(kind, folder):
    """(path, report) of the newest results of a kind; (None, None) where there are none."""
    found = [(path, json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]
    found = [one for one in found if one[1].get("kind", "cpu") == kind]
    return max(found, key=lambda one: one[1]["date"], default=(None, None))


def row(*cells, bold=False):
    return "| " + " | ".join(f"**{cell}**" if bold and cell else cell for cell in cells) + " |"


def name_of(path):
    return f"`{path.relative_to(ROOT)}`" if ROOT in path.parents else f"`{path}`"


def milliseconds(seconds):
    value = 1e3 * seconds
    return f"{value:.0f} ms" if value >= 100 else f"{value:#.3g} ms"


def thousands(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


# ---- CPU ---------------------------------------------------------------------------------------


def cpu_tables(path, report):
    lines = [f"Measured on an {report['machine']['cpu']}, {report['threads']} threads, the peer in "
             f"the same run, medians; all figures are in {name_of(path)}. Command: "
             f"`{report['command']}`.", ""]
    for result in report["results"]:
        lines += [row(result["network"], "time", "speed", "cold start"), "|---|---:|---:|---:|"]
        for one in result["rows"]:
            cold = one["cold_start_seconds"]
            best = one["name"].startswith("Tessera") and cold is not None
            lines.append(row(one["name"].replace("direct", "direct convolutions alone"),
                             milliseconds(one["seconds"]), f"{one['speed_against_peer']:.2f} x",
                             milliseconds(cold) if cold else "", bold=best))
        differences = ", ".join(
            f"{precision}: {one['largest_difference']:.1e} ({one['labels_changed']} of "
            f"{one['labels']:,} labels differ)" for precision, one in result["answers"].items())
        lines += ["", f"Largest difference of a probability from the peer's: {differences}.", ""]
    return lines[:-1]


# ---- training ----------------------------------------------------------------------------------


def training_tables(path, report):
    lines = [f"Steps of training (forward, loss, backward, Adam) on an {report['machine']['cpu']}, "
             f"{report['threads']} threads, f32, PyTorch {report['versions']['PyTorch']} in the "
             f"same run, medians; speed is against PyTorch's fastest variant, memory is the whole "
             f"process's. All figures are in {name_of(path)}. Command: `{report['command']}`.", ""]
    for result in report["results"]:
        lines += step_table(result, result["network"])
    return lines[:-1]


def step_table(result, title):
    lines = [row(title, "step", f"{result['item']}s/s", "speed", "peak memory"),
             "|---|---:|---:|---:|---:|"]
    for one in result["rows"]:
        lines.append(row(one["name"], milliseconds(one["seconds"]),
                         thousands(one["items_per_second"]), f"{one['speed_against_peer']:.2f} x",
                         f"{one['peak_bytes'] / 2**20:,.0f} MiB", bold=one["name"] == "Tessera"))
    losses = result["losses"]
    lines += ["", f"The losses of the first {losses['steps']} steps differ by "
              f"{losses['largest_difference']:.1e} at most, relative."]
    missing = result.get("did_not_run")
    if missing:
        lines[-1] += f" Did not run: {'; '.join(missing)}."
    return [*lines, ""]


# ---- a shared machine --------------------------------------------------------------------------


def shared_tables(path, report):
    rounds = sorted({one["rounds"] for one in report["rows"]})
    commands = dict.fromkeys(one["command"] for one in report["rows"])
    lines = [f"Whole processes on an {report['machine']['cpu']} of {report['machine']['processors']} "
             f"processors, medians of {' or '.join(map(str, rounds))} rounds, Tessera's own choice of "
             f"threads and, in brackets, its time against the best fixed number of them in the same run. "
             f"All figures are in {name_of(path)}. Commands: {', '.join(f'`{one}`' for one in commands)}.", ""]
    work = list(dict.fromkeys(one["what"] for one in report["rows"]))
    lines += [row("beside it", *work), "|---" + "|---:" * len(work) + "|"]
    for around in dict.fromkeys(one["around"] for one in report["rows"]):
        cells = {one["what"]: f"{one['seconds']['default']:.2f} s ({one['ratio']:.2f})"
                 for one in report["rows"] if one["around"] == around}
        lines.append(row(around, *(cells.get(what, "") for what in work)))
    return lines


# ---- GPU ---------------------------------------------------------------------------------------


def gpu_tables(path, report):
    gpu, results = report["gpu"], report["results"]
    failed = [step["name"] for step in report["steps"] if step["status"] != "passed"]
    lines = [f"Measured on {gpu['name']} (driver {gpu['driver_version']}) at commit "
             f"{report['commit'][:10]}; all figures are in {name_of(path)}. Command: "
             f"`{report['command']}`."]
    if failed:
        lines.append(f"Steps of that run that failed or were left out: {', '.join(failed)}.")
    lines.append("")
    if results.get("peers"):
        lines += peer_table(results["peers"])
    if (results.get("training") or {}).get("results"):
        lines += gpu_training_tables(results["training"])
    for profile in results.get("profile") or []:
        if profile["precision"] == "bf16" or "han" in profile["workload"]:
            lines += profile_table(profile)
    return lines[:-1]


def peer_table(peers):
    lines = [f"Kernels alone, by the device's clock; in brackets from the host's memory to the "
             f"host's memory. PyTorch {peers['versions']['torch']}, cuDNN "
             f"{peers['versions']['cudnn']}.", "",
             row("network", "batch", "precision", "engine", "time", "Tessera's speed"),
             "|---|---:|---|---|---:|---:|"]
    for one in peers["rows"]:
        def engine_row(engine, result, speed, bold=False):
            lines.append(row(one["network"], str(one["batch"]), one["precision"], engine,
                             f"{milliseconds(result['device_seconds'])} "
                             f"({milliseconds(result['seconds'])})", speed, bold=bold))
        for engine, result in one["pytorch"].items():
            if "error" not in result:
                speed = one["speed"][engine]
                engine_row(ENGINES[engine], result,
                           f"{speed['device_seconds']:.2f} x ({speed['seconds']:.2f} x)")
        engine_row("Tessera", one["tessera"], "", bold=True)
    return [*lines, ""]


def gpu_training_tables(training):
    versions = training["versions"]
    lines = [f"Steps of training (forward, loss, backward, Adam), medians, from a batch in the "
             f"host's memory; bf16 is mixed precision, for PyTorch {versions['PyTorch']} (cuDNN "
             f"{versions['cuDNN']}) autocast. Speed is against PyTorch's fastest variant. Memory "
             f"is what the GPU has less with Tessera, and the most that PyTorch's tensors took.",
             ""]
    for result in training["results"]:
        lines += step_table(result, f"{result['network']}, {result['precision']}")
    return lines


def profile_table(profile):
    total = sum(node["seconds"] for node in profile["nodes"])
    lines = [row(f"{profile['workload']}, {profile['precision']}", "time", "share", "TFLOP/s",
                 "GB/s", "of roofline"), "|---|---:|---:|---:|---:|---:|"]
    for node in sorted(profile["nodes"], key=lambda n: -n["seconds"])[:LARGEST_NODES]:
        seconds = node["seconds"]
        lines.append(row(f"{node['name']} ({node['kind']})", f"{1e6 * seconds:.1f} us",
                         f"{100 * seconds / total:.1f} %", f"{1e-12 * node['flops'] / seconds:.1f}",
                         f"{1e-9 * node['bytes'] / seconds:.0f}",
                         f"{100 * node['share_of_roofline']:.0f} %"))
    return [*lines, ""]


# ---- rates ---------------------------------------------------------------------------------------


def conv_rates(path, sweep):
    """cuda_rates.inc, whose rows are those of kConvTiles."""
    if sweep is None:
        return ("// Written by tools/bench/table.py: nothing was measured yet.\n"
                "constexpr std::optional<ConvRates> kMeasuredRates = std::nullopt;\n")
    rows = "".join(f"    {{{rate['full']:.3f}, {rate['alone']:.2f}}},  // {tile}\n"
                   for tile, rate in in_order(sweep["conv_rates"]))
    return (f"// Written by tools/bench/table.py from {name_of(path)[1:-1]}.\n"
            f"constexpr std::optional<ConvRates> kMeasuredRates = ConvRates{{{{\n{rows}}}}};\n")


def in_order(rates):
    """As the tiles are declared: an object of JSON has no order."""
    return [(tile, rates[tile]) for tile in CONV_TILES]


# ---- README ------------------------------------------------------------------------------------


def replaced(text, key, lines):
    pattern = re.compile(rf"(<!-- results:{key} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        sys.exit(f"table: README.md has no '<!-- results:{key} -->' ... '<!-- end -->'")
    return pattern.sub(lambda match: match[1] + "\n".join(lines) + "\n" + match[2], text, count=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--readme", type=pathlib.Path, default=ROOT / "README.md", metavar="FILE")
    parser.add_argument("--rates", type=pathlib.Path, default=RATES, metavar="FILE")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, metavar="DIR")
    options = parser.parse_args()
    old = text = options.readme.read_text()
    for kind, tables in (("cpu", cpu_tables), ("training", training_tables),
                         ("shared", shared_tables), ("gpu", gpu_tables)):
        path, report = newest(kind, options.results)
        text = replaced(text, kind, tables(path, report) if report else [NOTHING])
    rates = conv_rates(*newest("sweep", options.results))
    for path, made, found in ((options.readme, text, old),
                              (options.rates, rates, options.rates.read_text())):
        if made == found:
            continue
        if options.check:
            sys.exit(f"table: {path.name} is not what {options.results} says: run "
                     "tools/bench/table.py")
        path.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
