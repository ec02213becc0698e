#!/usr/bin/env python3
"""Draws models/demo/membranes.png: a synthetic section of tissue as an electron microscope shows it.

    python3 tools/make_demo_samples.py        (needs numpy)

Cells are the regions of a Voronoi diagram with wavy borders; membranes are dark lines between them,
mitochondria dark ellipses with a rim, all under the blur and the noise of a microscope.
"""
import pathlib
import struct
import zlib

import numpy as np

SIZE, CELLS, MITOCHONDRIA = 512, 75, 34
OUT = pathlib.Path(__file__).parent.parent / "models/demo/membranes.png"


def smooth(image, sigma):
    """Gaussian blur by FFT; the field wraps around, which a noise field may."""
    frequency = np.fft.fftfreq(SIZE)
    kernel = np.exp(-2 * (np.pi * sigma) ** 2 * (frequency[:, None] ** 2 + frequency[None, :] ** 2))
    return np.real(np.fft.ifft2(np.fft.fft2(image) * kernel))


def field(random, sigma):
    """A smooth random field of mean 0 and deviation 1."""
    values = smooth(random.standard_normal((SIZE, SIZE)), sigma)
    return values / values.std()


def draw(random):
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(float)
    y_bent, x_bent = y + 7 * field(random, 14), x + 7 * field(random, 14)
    centres = random.uniform(-30, SIZE + 30, (CELLS, 2))
    distance = np.sqrt((y_bent[..., None] - centres[:, 0]) ** 2 + (x_bent[..., None] - centres[:, 1]) ** 2)
    nearest = np.partition(distance, 1, axis=-1)
    to_membrane = nearest[..., 1] - nearest[..., 0]
    cell = np.argmin(distance, axis=-1)

    image = 178 + 9 * random.standard_normal(CELLS)[cell] + 7 * field(random, 3) + 5 * field(random, 20)
    for _ in range(MITOCHONDRIA):
        cy, cx, angle = random.uniform(0, SIZE, 2).tolist() + [random.uniform(0, np.pi)]
        a, b = random.uniform(8, 15), random.uniform(5, 8)
        u = (x_bent - cx) * np.cos(angle) + (y_bent - cy) * np.sin(angle)
        v = (y_bent - cy) * np.cos(angle) - (x_bent - cx) * np.sin(angle)
        radius = np.sqrt((u / a) ** 2 + (v / b) ** 2)
        inside = (radius < 1) & (to_membrane > 14)
        image[inside] = (112 + 10 * np.sin(u * 1.4) - 30 * (radius > 0.85))[inside]
    membrane = np.exp(-((to_membrane / (6 + 1.5 * field(random, 25))) ** 2))
    image = image * (1 - membrane) + 62 * membrane
    return np.clip(smooth(image, 0.9) + 11 * random.standard_normal((SIZE, SIZE)), 0, 255).astype(np.uint8)


def write_png(path, grey):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = grey.shape
    rows = b"".join(b"\0" + row.tobytes() for row in grey)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
                     + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))


if __name__ == "__main__":
    write_png(OUT, draw(np.random.default_rng(12)))
