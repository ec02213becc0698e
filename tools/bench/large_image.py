#!/usr/bin/env python3
"""Images larger than memory: makes one, and checks the mask that `tessera segment` makes of it.

    large_image.py make slide.tif --size 20000
    large_image.py model models/demo/unet_isbi.safetensors unit.safetensors
    tessera segment slide.tif -o mask.tif -m unit.safetensors --max-memory 1G -v
    large_image.py check slide.tif mask.tif -m unit.safetensors --tessera build/tessera --cuts 20

The image is made tile by tile, each from its own place, so that any part of it can be made again.
`check` segments cut-outs in memory; their middles must have the bytes of the mask there. A cut-out
has no statistics of the whole, so the model must take none: `model` copies one with the scale "unit".
Reads and writes tiled TIFF by itself, so that a fault of the program's library is seen too.
"""
import argparse
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib

import numpy
import PIL.Image

TILE = 512
MARGIN = 512  # of a cut-out: above the receptive field, and a multiple of every grid


def tile_pixels(size, row, column):
    """Cells on a noisy ground; what crosses a tile's border is cut there."""
    random = numpy.random.default_rng([size, row, column])
    line = numpy.arange(TILE, dtype=numpy.float32)
    ground = 90 + 30 * numpy.outer(numpy.cos((line + row * TILE) / 47), numpy.sin((line + column * TILE) / 61))
    for _ in range(24):
        cy, cx, radius = random.uniform(0, TILE), random.uniform(0, TILE), random.uniform(8, 40)
        y0, x0 = max(0, int(cy - radius - 12)), max(0, int(cx - radius - 12))
        y1, x1 = int(cy + radius + 12), int(cx + radius + 12)
        ring = numpy.abs(numpy.hypot(line[y0:y1, None] - cy, line[None, x0:x1] - cx) - radius)
        ground[y0:y1, x0:x1] -= 70 * numpy.exp(-(ring / 3) ** 2)
    ground += random.standard_normal(ground.shape, numpy.float32) * 9
    return numpy.clip(ground, 0, 255).astype(numpy.uint8)


def make(path, size):
    write_tiled(path, size, size, lambda row, column: tile_pixels(size, row, column), packed=True)


def write_tiled(path, height, width, tile, packed=False):
    """A BigTIFF in tiles, deflated ones if `packed`; the last ones are filled up."""
    down, across = -(-height // TILE), -(-width // TILE)
    offsets, counts = [], []
    with open(path, "wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        for row in range(down):
            for column in range(across):
                data = tile(row, column).tobytes()
                data = zlib.compress(data, 1) if packed else data
                offsets.append(file.tell())
                counts.append(len(data))
                file.write(data)
        file.write(b"\0" * (-file.tell() % 8))
        tables = file.tell()
        file.write(struct.pack(f"<{2 * len(offsets)}Q", *offsets, *counts))
        directory = file.tell()
        long8 = lambda tag, count, value: struct.pack("<HHQQ", tag, 16, count, value)
        entries = [long8(256, 1, width), long8(257, 1, height), long8(258, 1, 8), long8(259, 1, 8 if packed else 1),
                   long8(262, 1, 1), long8(277, 1, 1), long8(322, 1, TILE), long8(323, 1, TILE),
                   long8(324, len(offsets), tables), long8(325, len(counts), tables + 8 * len(offsets))]
        file.write(struct.pack("<Q", len(entries)) + b"".join(entries) + struct.pack("<Q", 0))
        file.seek(8)
        file.write(struct.pack("<Q", directory))


class TiledTiff:
    """8-bit grey, in tiles, deflated or plain, classic or big, of this machine's byte order."""

    def __init__(self, path):
        self.file = open(path, "rb")
        big = struct.unpack("<2sH", self.file.read(4)) == (b"II", 43)
        word, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
        self.file.seek(8 if big else 4)
        self.file.seek(struct.unpack(f"<{word}", self.file.read(struct.calcsize(word)))[0])
        number = struct.unpack(f"<{count}", self.file.read(struct.calcsize(count)))[0]
        tags = {}
        for raw in [self.file.read(entry) for _ in range(number)]:
            tag, kind, values = struct.unpack_from(f"<HH{word}", raw)
            code = {3: "H", 4: "I", 16: "Q"}.get(kind)
            if code is None:
                continue
            where, length = raw[4 + struct.calcsize(word):], values * struct.calcsize(code)
            if length > struct.calcsize(word):
                self.file.seek(struct.unpack(f"<{word}", where)[0])
                where = self.file.read(length)
            tags[tag] = struct.unpack_from(f"<{values}{code}", where)
        (self.width,), (self.height,), (self.tile,) = tags[256], tags[257], tags[322]
        self.packed = tags[259] != (1,)
        self.offsets, self.counts = tags[324], tags[325]

    def part(self, y, x, height, width):
        whole = numpy.zeros((height, width), numpy.uint8)
        across = -(-self.width // self.tile)
        for row in range(y // self.tile, -(-(y + height) // self.tile)):
            for column in range(x // self.tile, -(-(x + width) // self.tile)):
                index = row * across + column
                self.file.seek(self.offsets[index])
                data = self.file.read(self.counts[index])
                data = zlib.decompress(data) if self.packed else data
                tile = numpy.frombuffer(data, numpy.uint8).reshape(self.tile, self.tile)
                top, left = row * self.tile - y, column * self.tile - x
                y0, x0 = max(0, top), max(0, left)
                y1, x1 = min(height, top + self.tile), min(width, left + self.tile)
                whole[y0:y1, x0:x1] = tile[y0 - top:y1 - top, x0 - left:x1 - left]
        return whole


def write_pgm(path, pixels):
    path.write_bytes(b"P5 %d %d 255\n" % pixels.shape[::-1] + pixels.tobytes())


class Peak:
    """The most resident memory of child processes, by the kernel's own high-water mark. That of wait4
    would count this process before its fork."""

    def __init__(self):
        self.mib = 0

    def start(self, command):
        """Runs `command`; returns the child."""
        child = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL)  # behind its exec
        threading.Thread(target=self._watch, args=(child,)).start()
        return child

    def _watch(self, child):
        while child.poll() is None:
            try:
                status = pathlib.Path(f"/proc/{child.pid}/status").read_text()
                self.mib = max(self.mib, int(status.split("VmHWM:")[1].split()[0]) / 1024)
            except (OSError, IndexError):  # it has just ended
                pass
            time.sleep(0.02)


def cut_outs(image, mask, model, tessera, cuts):
    """Pixels of the mask in so many cut-outs that differ from the in-memory answer."""
    image, mask = TiledTiff(image), TiledTiff(mask)
    if (image.height, image.width) != (mask.height, mask.width):
        sys.exit(f"the mask has {mask.height} x {mask.width} pixels, the image {image.height} x {image.width}")
    random = numpy.random.default_rng(1)
    side, different = 512, 0
    for cut in range(cuts):
        # Corners first, then anywhere on the grid; a margin is left out where the image ends.
        places = []
        for length, first in ((image.height, cut & 1), (image.width, cut >> 1 & 1)):
            last = (length - side) // MARGIN
            begin = (first * last if cut < 4 else int(random.integers(0, last + 1))) * MARGIN
            read = max(0, begin - MARGIN), min(length, begin + side + MARGIN)
            places.append((begin, *read))
        (y, y0, y1), (x, x0, x1) = places
        with tempfile.TemporaryDirectory() as folder:
            cut_out = pathlib.Path(folder) / "cut.pgm"
            write_pgm(cut_out, image.part(y0, x0, y1 - y0, x1 - x0))
            subprocess.run([tessera, "segment", cut_out, "-m", model, "-o", folder, "--no-overlay", "-q"], check=True)
            made = numpy.asarray(PIL.Image.open(f"{folder}/cut.mask.png"))
        wrong = int((made[y - y0:y - y0 + side, x - x0:x - x0 + side] != mask.part(y, x, side, side)).sum())
        print(f"cut-out of {side} x {side} at {y}, {x}: {wrong} pixels differ")
        different += wrong
    return different


def unit_model(source, target):
    data = pathlib.Path(source).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    config = json.loads(header["__metadata__"]["tessera"])
    # About what the statistics of a whole image that `make` makes would be.
    config["preprocessing"].update(scale="unit", mean=[0.33], std=[0.11])
    header["__metadata__"]["tessera"] = json.dumps(config)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(target).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("make")
    verb.add_argument("image")
    verb.add_argument("--size", type=int, default=20000)
    verb = verbs.add_parser("model")
    verb.add_argument("source")
    verb.add_argument("target")
    verb = verbs.add_parser("check")
    verb.add_argument("image")
    verb.add_argument("mask")
    verb.add_argument("-m", "--model", required=True)
    verb.add_argument("--tessera", default="build/tessera")
    verb.add_argument("--cuts", type=int, default=20)
    options = parser.parse_args()
    if options.verb == "make":
        make(options.image, options.size)
    elif options.verb == "model":
        unit_model(options.source, options.target)
    else:
        sys.exit(1 if cut_outs(options.image, options.mask, options.model, options.tessera, options.cuts) else 0)


if __name__ == "__main__":
    main()
