#!/usr/bin/env python3
"""Segments one OME-Zarr with Tessera in windows, and with the same network in ONNX Runtime under
Dask's map_overlap: time, peak memory of the process, and labels that differ from the whole image's.

    pip install dask zarr onnxruntime pillow
    tools/bench/dask_windows.py --size 4096 --overlap 32 --overlap 96

The whole image's answer is ONNX Runtime's own on the picture in one piece (--no-whole leaves it out:
it needs memory), so that labels that differ are seams, and rounding where two classes are as good as
equal. At the picture's borders Dask adds nothing (boundary "none"), so that the network pads there.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy
from large_image import TILE, Peak, tile_pixels, unit_model

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHUNK = 1024  # of Dask


def network(model, threads):
    import json
    import struct

    import onnxruntime

    data = pathlib.Path(model).with_suffix(".safetensors").read_bytes()
    header = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])
    pixels = json.loads(header["__metadata__"]["tessera"])["preprocessing"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(block):
        image = (block.astype(numpy.float32) / 255 - pixels["mean"][0]) / pixels["std"][0]
        return session.run(["mask"], {"image": image[None, None]})[0][0].astype(numpy.uint8)

    return run


def run_dask(source, target, model, overlap, threads):
    """The child process that is measured."""
    import dask
    import dask.array
    import zarr

    run = network(model, threads)
    if overlap < 0:  # the whole picture
        pixels = zarr.open_group(source, mode="r")["0"][:]
        zarr.save_array(target, run(pixels))
        return
    image = dask.array.from_zarr(source, component="0").rechunk(CHUNK)
    mask = image.map_overlap(run, depth=overlap, boundary="none", dtype=numpy.uint8,
                             meta=numpy.empty((0, 0), numpy.uint8))
    with dask.config.set(scheduler="synchronous"):  # the threads are ONNX Runtime's
        mask.to_zarr(target, overwrite=True)


def measured(command):
    """Seconds and MiB of a process of its own."""
    begin, peak = time.monotonic(), Peak()
    if peak.start(command).wait() != 0:
        sys.exit(f"failed: {' '.join(map(str, command))}")
    return time.monotonic() - begin, peak.mib


def make_picture(path, size):
    import zarr

    group = zarr.open_group(path, mode="w", zarr_format=2)
    axes = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]
    array = group.create_array("0", shape=(size, size), chunks=(TILE, TILE), dtype="u1")
    for row in range(size // TILE):
        for column in range(size // TILE):
            array[row * TILE:(row + 1) * TILE, column * TILE:(column + 1) * TILE] = tile_pixels(size, row, column)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096, help=f"pixels a side, a multiple of {CHUNK}")
    parser.add_argument("--overlap", type=int, action="append", help="of Dask's chunks, multiples of 16: 32 and 96")
    parser.add_argument("--max-memory", default="1G", help="of Tessera")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--no-whole", action="store_true")
    parser.add_argument("--program", default=ROOT / "build/tessera")
    parser.add_argument("--dask", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.dask:
        source, target, model, overlap = options.dask
        return run_dask(source, target, model, int(overlap), options.threads)
    if options.size % CHUNK != 0:
        parser.error(f"--size {options.size}: expected a multiple of {CHUNK}")

    import zarr
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make_picture(folder / "image.zarr", options.size)
        unit_model(ROOT / "models/demo/unet_isbi.safetensors", folder / "model.safetensors")
        model = folder / "model.onnx"
        subprocess.run([options.program, "export", folder / "model.safetensors", "-o", model], check=True,
                       stdout=subprocess.DEVNULL)

        def child(target, overlap):
            return measured([sys.executable, __file__, "--threads", str(options.threads),
                             "--dask", folder / "image.zarr", target, model, str(overlap)])

        whole = None
        if not options.no_whole:  # in a process of its own: the memory of this one would count in its children's
            child(folder / "whole.zarr", -1)
            whole = zarr.open_array(folder / "whole.zarr", mode="r")[:]

        def report(label, seconds, memory, mask):
            line = f"| {label} | {seconds:.1f} s | {memory:,.0f} MiB |"
            if whole is not None:
                line += f" {int((mask != whole).sum()):,} |"
            print(line, flush=True)

        print(f"{options.size} x {options.size}, {options.threads} threads")
        print("| what | time | peak memory |" + ("" if whole is None else " labels that differ |"))
        print("|---|---:|---:|" + ("" if whole is None else "---:|"))
        target = folder / "mask.zarr"
        figures = measured([options.program, "segment", folder / "image.zarr", "-o", target, "--windows", "1/1",
                            "-m", folder / "model.safetensors", "--max-memory", options.max_memory,
                            "--threads", str(options.threads)])
        report(f"Tessera, --max-memory {options.max_memory}", *figures, zarr.open_group(target, mode="r")["0"][:])
        for overlap in options.overlap or [32, 96]:
            target = folder / f"dask{overlap}.zarr"
            figures = child(target, overlap)
            report(f"Dask and ONNX Runtime, overlap {overlap}", *figures, zarr.open_array(target, mode="r")[:])


if __name__ == "__main__":
    main()
