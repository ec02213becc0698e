#!/usr/bin/env python3
"""The proof for images larger than memory: makes a picture with a known number of objects, and
segments it with `tessera segment` within a limit of memory, twice:

1. killed at ten random moments, and gone on with by --resume;
2. by two processes that share it, --windows 1/2 and 2/2.

Both must make the same bytes, stay within the limit (peak resident memory of every process), and
count the objects that were drawn; 20 random cut-outs must have the bytes of the in-memory answer.

    giant_proof.py --size 6000 --max-memory 200M
    giant_proof.py --size 60000 --height 2000 --max-memory 512M
    giant_proof.py --size 60000 --max-memory 1G -o tools/bench/results/DATE-giant.json

Of disk it takes the picture's bytes, those of two masks with labels, which are small, and up to a
quarter more for rows that wait.

The network is a small UNet that `tessera train` makes on pictures of the same kind, drawn elsewhere.
"""
import argparse
import datetime
import filecmp
import json
import os
import pathlib
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy
import PIL.Image
from large_image import TILE, Peak, cut_outs, write_tiled

ROOT = pathlib.Path(__file__).resolve().parents[2]
PITCH = 160  # of the objects; no divisor of a tile or window, so that all edges cut some
LEAST, MOST, GAP = 8, 44, 8  # their radii, and pixels to the next one at least, twice


class Picture:
    """Bright discs on uneven, noisy ground, a disc or none in each square of PITCH pixels, drawn by
    `seed`. Any part of it can be made by itself."""

    def __init__(self, height, width, seed):
        draws = numpy.random.default_rng([seed, width])
        cells = height // PITCH, width // PITCH  # what would cross the picture's end is left out
        self.there = draws.random(cells) < 0.6
        self.radius = draws.uniform(LEAST, MOST, cells)
        free = PITCH / 2 - GAP - self.radius
        middle_y, middle_x = ((numpy.arange(count) + 0.5) * PITCH for count in cells)
        self.y = middle_y[:, None] + draws.uniform(-1, 1, cells) * free
        self.x = middle_x[None, :] + draws.uniform(-1, 1, cells) * free
        self.light = draws.uniform(150, 215, cells)
        self.noise = draws.normal(0, 9, (4 * TILE, 4 * TILE)).astype(numpy.float32)

    @property
    def objects(self):
        return int(self.there.sum())

    def part(self, y, x, height, width):
        """Pixels, and the truth: 1 in objects."""
        rows, columns = numpy.arange(y, y + height), numpy.arange(x, x + width)
        ground = 80 + 25 * numpy.outer(numpy.cos(rows / 470), numpy.sin(columns / 610))
        truth = numpy.zeros((height, width), numpy.uint8)
        down, across = self.there.shape
        for i in range(y // PITCH, min((y + height - 1) // PITCH + 1, down)):
            for j in range(x // PITCH, min((x + width - 1) // PITCH + 1, across)):
                if not self.there[i, j]:
                    continue
                cy, cx, radius = self.y[i, j] - y, self.x[i, j] - x, self.radius[i, j]
                y0, x0 = max(0, int(cy - radius)), max(0, int(cx - radius))
                y1, x1 = min(height, int(cy + radius) + 2), min(width, int(cx + radius) + 2)
                if y0 >= y1 or x0 >= x1:
                    continue
                inside = numpy.hypot(numpy.arange(y0, y1)[:, None] - cy, numpy.arange(x0, x1)[None] - cx) <= radius
                ground[y0:y1, x0:x1][inside] = self.light[i, j]
                truth[y0:y1, x0:x1][inside] = 1
        noise = self.noise[numpy.ix_(rows * 3 % len(self.noise), columns * 5 % len(self.noise))]
        return numpy.clip(ground + noise, 0, 255).astype(numpy.uint8), truth

    def tile(self, row, column):
        return self.part(row * TILE, column * TILE, TILE, TILE)[0]


def train(program, folder, model):
    """A small network, from eight pictures of another seed."""
    side, base = 256, Picture(4096, 4096, 1)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for i in range(8):
        pixels, truth = base.part(i * 400 % 3700, i * 1100 % 3700, side, side)
        PIL.Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        PIL.Image.fromarray(truth * 255).save(folder / "masks" / f"{i}.png")
    subprocess.run([program, "train", "unet", folder, "-o", model, "--depth", "2", "--base", "4", "--norm",
                    "before_relu", "--epochs", "60", "--rate", "0.005", "--schedule", "cosine", "--elastic", "0",
                    "--rotation", "0", "--validation", "none", "--mask-format", "binary", "-q"], check=True)


class Runs:
    """Processes of the program on one picture and mask; the largest peak of any."""

    def __init__(self, options, folder, image, mask):
        self.mask, self.watched = mask, Peak()
        self.command = [options.program, "segment", image, "-m", folder / "model.safetensors", "-o", mask,
                        "--max-memory", options.max_memory, "--threads", str(options.threads), "--instances",
                        "--no-overlay", "-q"]

    def start(self, *more):
        return self.watched.start([*self.command, *more])

    @property
    def peak(self):
        return self.watched.mib

    def end(self, child, expected=0):
        code = child.wait()
        if code != expected:
            sys.exit(f"a process ended with {code}, expected {expected}")

    def finished(self):
        return len(list(pathlib.Path(f"{self.mask}.windows").glob("row*.mask.tif")))

    def objects(self):
        with open(self.mask.with_suffix(".instances.csv")) as table:
            return sum(1 for _ in table) - 1


def kill_and_resume(runs, height, width, kills):
    """How many windows there are, and how many each kill left finished."""
    draws, left = random.Random(1), []
    child, begin = runs.start("--windows", "1/1"), time.monotonic()
    manifest = pathlib.Path(f"{runs.mask}.windows/windows.json")
    while child.poll() is None and not manifest.exists():
        time.sleep(0.02)
    rows, columns = json.loads(manifest.read_text())["window"]
    windows = -(-height // rows) * -(-width // columns)
    for target in sorted(draws.randrange(max(1, windows * 4 // 5)) for _ in range(kills)):
        while child.poll() is None and runs.finished() < target:
            time.sleep(0.05)
        done = runs.finished()
        time.sleep(draws.uniform(0, (time.monotonic() - begin) / max(1, done)))
        if runs.finished() >= windows or child.poll() is not None:
            break  # it was over before: too small a picture
        child.send_signal(signal.SIGKILL)
        runs.end(child, -signal.SIGKILL)
        left.append(runs.finished())
        child = runs.start("--windows", "1/1", "--resume")
    runs.end(child)
    return windows, left


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=6000, help="pixels a side")
    parser.add_argument("--height", type=int, help="rows, if others than columns")
    parser.add_argument("--max-memory", default="1G")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--program", default=ROOT / "build/tessera")
    parser.add_argument("--folder", help="for the picture and the masks, kept; else a temporary one")
    parser.add_argument("-o", "--output", help="JSON file of the figures")
    options = parser.parse_args()
    height, width = options.height or options.size, options.size
    folder = pathlib.Path(options.folder or tempfile.mkdtemp(prefix="giant_proof."))
    folder.mkdir(parents=True, exist_ok=True)
    result = {"kind": "giant", "date": f"{datetime.date.today()}", "size": options.size, "height": height, "max_memory": options.max_memory,
              "threads": options.threads, "machine": platform.machine(), "load": os.getloadavg()[0]}
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
    result["commit"] = head.stdout.strip()

    def say(**figures):
        result.update(figures)
        print(figures, flush=True)

    def timed(name, work, *arguments):
        begin = time.monotonic()
        made = work(*arguments)
        say(**{f"{name}_seconds": round(time.monotonic() - begin, 1)})
        return made

    picture, image = Picture(height, width, 7), folder / "image.tif"
    if not (folder / "model.safetensors").exists():
        timed("train", train, options.program, folder / "training", folder / "model.safetensors")
    if not image.exists():
        timed("draw", write_tiled, folder / "part.tif", height, width, picture.tile)
        os.rename(folder / "part.tif", image)
    say(objects=picture.objects, image_bytes=image.stat().st_size)

    killed = Runs(options, folder, image, folder / "killed.tif")
    windows, left = timed("killed", kill_and_resume, killed, height, width, options.kills)
    say(windows=windows, left_by_kills=left)
    say(killed_peak_mib=round(killed.peak), killed_objects=killed.objects())

    shared = Runs(options, folder, image, folder / "shared.tif")

    def share():
        children = [shared.start("--windows", f"{i}/2") for i in (1, 2)]
        for child in children:
            shared.end(child)

    timed("shared", share)
    say(shared_peak_mib=round(shared.peak), shared_objects=shared.objects())
    say(same_bytes=all(filecmp.cmp(folder / f"killed{end}", folder / f"shared{end}", shallow=False)
                       for end in (".tif", ".instances.csv", ".instances.tif")))
    say(cut_outs=options.cuts, cut_out_pixels_that_differ=timed(
        "cuts", cut_outs, image, folder / "killed.tif", folder / "model.safetensors", options.program, options.cuts))
    limit = int(options.max_memory[:-1]) * {"M": 1, "G": 1024}[options.max_memory[-1]]
    holds = {"kills": len(left) == options.kills,
             "objects": killed.objects() == shared.objects() == picture.objects,
             "memory": max(killed.peak, shared.peak) <= limit,
             "bytes": result["same_bytes"] and result["cut_out_pixels_that_differ"] == 0}
    say(holds=holds)
    if options.output:
        pathlib.Path(options.output).write_text(json.dumps(result, indent=1) + "\n")
    if not options.folder:
        shutil.rmtree(folder)
    sys.exit(0 if all(holds.values()) else 1)


if __name__ == "__main__":
    main()
