#!/usr/bin/env python3
"""Measures what Tessera loses on a machine that it shares: its own choice of threads against every
fixed number of them, in the same run.

    tools/bench/shared_machine.py
    tools/bench/shared_machine.py segment train --rounds 5 --program OTHER/build/tessera

Work: segment (many small images), large (one image of 1500 x 1500), classify (many documents), train
(a HAN), each a whole process of build/tessera with the bundled models, on made-up data. Beside 0, 1
and 2 busy processes a processor, and under a quota of one processor and of half a one: in a control
group of its own where this process may make one, else on one processor (taskset).

Each round runs every number of threads once, another one first each time; a figure is the median of the rounds. The ratio
is that of the default to the best fixed number: 1.1 is the goal. Prints a table, and writes all figures
to tools/bench/results/<date>-<cpu>-shared.json (or -o FILE). With --into FILE the rows take the place
of the same rows of an earlier run, each with the command and the rounds that made it.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import random
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from peers import commit, machine, slug

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tools" / "bench" / "results"
DEMO = ROOT / "models" / "demo"
GROUPS = pathlib.Path("/sys/fs/cgroup")
PERIOD = 100_000  # microseconds, of a quota
SEED = 7


# ---- work ---------------------------------------------------------------------------------------


def write_image(path, side, chance):
    """Cell-like discs on a darker ground, 8-bit grey."""
    rows = [bytearray(chance.randrange(60, 90) for _ in range(side)) for _ in range(side)]
    for _ in range(side * side // 1500):
        x, y, r = chance.randrange(side), chance.randrange(side), chance.randrange(6, 16)
        for row in range(max(0, y - r), min(side, y + r)):
            half = int((r * r - (row - y) ** 2) ** 0.5)
            left, right = max(0, x - half), min(side, x + half)
            rows[row][left:right] = bytes([180]) * max(0, right - left)
    path.write_bytes(b"P5\n%d %d\n255\n" % (side, side) + b"".join(rows))


def write_documents(path, count, chance):
    good = "wonderful great moving brilliant funny lovely superb warm".split()
    bad = "awful dull boring terrible weak stupid poor bland".split()
    plain = "the film was a story of people who came and went in this town while it rained".split()
    with path.open("w") as file:
        for i in range(count):
            words = []
            for _ in range(chance.randrange(3, 12)):
                sentence = chance.choices(plain, k=chance.randrange(5, 20))
                sentence.insert(2, chance.choice(bad if i % 2 else good))
                words.append(" ".join(sentence) + ".")
            file.write(f"{'negative' if i % 2 else 'positive'}\t{' '.join(words)}\n")


def make_work(folder):
    """Name -> (what it is, arguments of the program)."""
    chance = random.Random(SEED)
    images = folder / "images"
    images.mkdir()
    for i in range(60):
        write_image(images / f"{i:03}.pgm", 256, chance)
    write_image(folder / "large.pgm", 1500, chance)
    write_documents(folder / "test.tsv", 3000, chance)
    write_documents(folder / "train.tsv", 1500, chance)
    unet, han = DEMO / "unet_isbi.safetensors", DEMO / "han_imdb.safetensors"
    out = folder / "out"
    return {
        "segment": ("60 images of 256 x 256", ["segment", images, "-m", unet, "-o", out]),
        "large": ("one image of 1500 x 1500", ["segment", folder / "large.pgm", "-m", unet, "-o", out]),
        "classify": ("3,000 documents", ["classify", folder / "test.tsv", "-m", han, "-o", folder / "labels"]),
        "train": ("a HAN, 2 epochs of 1,500 documents",
                  ["train", "han", folder / "train.tsv", "-o", folder / "trained.safetensors",
                   "--epochs", "2", "--validation", "0.1"]),
    }


# ---- what is beside it --------------------------------------------------------------------------


@contextlib.contextmanager
def busy(count):
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(0.2)
        yield []
    finally:
        for one in others:
            one.kill()
        for one in others:
            one.wait()


@contextlib.contextmanager
def quota(processors):
    """Words that a command begins with to run with so much of the machine's time."""
    v1 = GROUPS / "cpu" / "cpu.cfs_quota_us"
    folder = (GROUPS / "cpu" if v1.exists() else GROUPS) / f"tessera-bench-{os.getpid()}"
    try:
        folder.mkdir()
        limit = int(processors * PERIOD)
        if v1.exists():
            (folder / "cpu.cfs_period_us").write_text(str(PERIOD))
            (folder / "cpu.cfs_quota_us").write_text(str(limit))
        else:
            (folder / "cpu.max").write_text(f"{limit} {PERIOD}")
        inside = ["sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh"]
        subprocess.run([*inside, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        with contextlib.suppress(OSError):
            folder.rmdir()
        yield ["taskset", "-c", "0"]
        return
    try:
        yield inside
    finally:
        for _ in range(50):  # the last process may still be leaving it
            with contextlib.suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.1)


def surroundings():
    processors = len(os.sched_getaffinity(0))
    for each in (0, 1, 2):
        yield f"{each} busy processes a processor", lambda n=each * processors: busy(n)
    for share in (1, 0.5):
        yield f"a quota of {share:g} processor", lambda share=share: quota(share)


# ---- measuring ----------------------------------------------------------------------------------


def seconds_of(command, out):
    shutil.rmtree(out, ignore_errors=True)
    begin = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.monotonic() - begin
    if done.returncode != 0:
        sys.exit(f"shared_machine: {shlex.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return seconds


def measure(program, work, out, rounds, command):
    counts = range(1, len(os.sched_getaffinity(0)) + 1)
    rows = []
    for around, enter in surroundings():
        for name, (what, arguments) in work.items():
            seconds = {count: [] for count in ("default", *counts)}
            with enter() as front:
                for begin in range(rounds):
                    order = list(seconds)
                    order = order[begin % len(order):] + order[:begin % len(order)]
                    for count in order:
                        words = [*front, program, *map(str, arguments), "--device", "cpu", "--quiet"]
                        if count != "default":
                            words += ["--threads", str(count)]
                        seconds[count].append(seconds_of(words, out))
            medians = {str(count): statistics.median(values) for count, values in seconds.items()}
            best = min((value, key) for key, value in medians.items() if key != "default")
            rows.append({"work": name, "what": what, "around": around, "seconds": medians,
                         "best_threads": int(best[1]), "ratio": medians["default"] / best[0],
                         "rounds": rounds, "command": command})
            print(f"{name:9} {around:30} default {medians['default']:6.2f} s, best of fixed "
                  f"{best[0]:6.2f} s ({best[1]} threads): {rows[-1]['ratio']:.2f}", flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", nargs="*", help="segment, large, classify, train (default: all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--program", default=str(ROOT / "build" / "tessera"))
    parser.add_argument("-o", "--output", type=pathlib.Path)
    parser.add_argument("--into", type=pathlib.Path, help="the report of an earlier run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        work = make_work(folder)
        unknown = set(options.work) - set(work)
        if unknown:
            parser.error(f"no such work: {', '.join(sorted(unknown))}; there are {', '.join(work)}")
        wanted = {name: one for name, one in work.items() if name in (options.work or work)}
        command = shlex.join(["tools/bench/shared_machine.py", *options.work, "--rounds", str(options.rounds)])
        rows = measure(options.program, wanted, folder / "out", options.rounds, command)
    if options.into:
        again = {(one["work"], one["around"]): one for one in rows}
        rows = [again.pop((one["work"], one["around"]), one)
                for one in json.loads(options.into.read_text())["rows"]] + list(again.values())
    report = {"kind": "shared",
              "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
              "commit": commit(), "machine": machine(), "rows": rows}
    path = options.output or options.into or RESULTS / f"{report['date'][:10]}-{slug(report['machine']['cpu'])}-shared.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
