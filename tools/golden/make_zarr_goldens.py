#!/usr/bin/env python3
"""Small Zarr stores of the real packages, for tests/models/zarr_test.cpp: tests/golden/zarr; and
from them the seeds of tests/fuzz/zarr_fuzz.cpp.

    pip install zarr numcodecs ome-zarr
    tools/golden/make_zarr_goldens.py

Every sample has the value of `picture`, which the test computes too.
"""
import json
import pathlib
import shutil

import numcodecs
import numpy as np
import zarr
from ome_zarr.format import FormatV04, FormatV05
from ome_zarr.writer import write_multiscale
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec

TESTS = pathlib.Path(__file__).resolve().parents[2] / "tests"
FOLDER = TESTS / "golden/zarr"
SEEDS = TESTS / "fuzz/corpus/zarr_fuzz"
STEPS = {"t": 91, "c": 31, "z": 57, "y": 7, "x": 13}


def picture(axes, shape, dtype):
    grid = np.indices(shape)
    value = sum(STEPS[axis] * grid[i] for i, axis in enumerate(axes)) % 251
    return (value * {"uint8": 1, "uint16": 257, "uint32": 65537, "float32": 0.25}[np.dtype(dtype).name]).astype(dtype)


def write(name, axes="yx", shape=(37, 53), chunks=(24, 32), dtype="u2", fill=0, without=None, **options):
    folder = FOLDER / f"{name}.zarr"
    array = zarr.create_array(folder, shape=shape, chunks=chunks, dtype=dtype, fill_value=fill, **options)
    array[:] = picture(axes, shape, array.dtype)
    if without:
        (folder / without).unlink()


def image(name, axes, shape, chunks, format_, **options):
    group = zarr.open_group(FOLDER / f"{name}.zarr", mode="w", zarr_format=format_.zarr_format)
    full = picture(axes, shape, "u2")
    levels = [full, full[..., ::2, ::2], full[..., ::4, ::4]]
    write_multiscale(levels, group, fmt=format_, axes=axes, storage_options={"chunks": chunks, **options})


def write_seed(array, attributes=None):
    """Of a small array its metadata and first chunk."""
    v3 = array / "zarr.json"
    metadata = json.loads((v3 if v3.exists() else array / ".zarray").read_text())
    chunk = next(array / name for name in ("c/0/0", "0.0", "0/0", "c/0/0/0") if (array / name).is_file())
    seed = {"array": metadata, "attributes": attributes, "chunk": chunk.read_bytes().hex()}
    (SEEDS / f"{array.stem}.json").write_text(json.dumps(seed))


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    v2 = {"zarr_format": 2}
    slash = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    write("v2_none", dtype="u1", compressors=None, **v2)
    write("v2_zlib_big_endian", dtype=">u2", compressors=numcodecs.Zlib(), **slash, **v2)
    write("v2_gzip", dtype="f4", compressors=numcodecs.GZip(), fill=float("nan"), **v2)
    write("v2_zstd", dtype="u4", compressors=numcodecs.Zstd(), **v2)
    write("v2_blosc_lz4", compressors=numcodecs.Blosc(cname="lz4"), **v2)
    write("v2_blosc_bits", dtype="f4",
          compressors=numcodecs.Blosc(cname="zstd", shuffle=numcodecs.Blosc.BITSHUFFLE), **v2)
    write("v2_fortran", axes="yxc", shape=(37, 53, 3), chunks=(24, 32, 2), dtype="u1",
          compressors=numcodecs.Zlib(), order="F", **v2)
    write("v2_missing", dtype="u1", fill=9, compressors=numcodecs.Zlib(), without="0.1", **v2)

    v3 = {"zarr_format": 3}
    write("v3_none", serializer=BytesCodec(endian="little"), compressors=None, **v3)
    write("v3_big_endian", serializer=BytesCodec(endian="big"), compressors=GzipCodec(), **v3)
    write("v3_zstd_crc", dtype="f4", compressors=[ZstdCodec(), Crc32cCodec()], **v3)
    write("v3_crc_zstd", dtype="u1", compressors=[Crc32cCodec(), ZstdCodec()], **v3)
    write("v3_blosc", compressors=BloscCodec(cname="blosclz"), **v3)
    write("v3_names", compressors=ZstdCodec(), axes="xcy", shape=(53, 3, 37), chunks=(32, 1, 24),
          dimension_names=("x", "c", "y"), **v3)
    write("v3_missing", fill=9 * 257, compressors=ZstdCodec(), without="c/0/1", **v3)
    write("v3_old_keys", compressors=ZstdCodec(), chunk_key_encoding={"name": "v2", "separator": "."}, **v3)
    write("v3_shards", axes="yxc", shape=(37, 53, 3), chunks=(8, 16, 3), shards=(24, 32, 3), dtype="u1",
          compressors=ZstdCodec(), **v3)

    image("ome04_planes", "tczyx", (2, 3, 2, 37, 53), (1, 3, 1, 24, 32), FormatV04())
    image("ome05_channels", "cyx", (4, 37, 53), (2, 24, 32), FormatV05())

    shutil.rmtree(SEEDS, ignore_errors=True)
    SEEDS.mkdir(parents=True)
    attributes = json.loads((FOLDER / "ome04_planes.zarr/.zattrs").read_text())
    for name in ("v2_gzip", "v2_zstd", "v2_blosc_lz4", "v2_blosc_bits", "v3_zstd_crc", "v3_blosc", "v3_shards"):
        write_seed(FOLDER / f"{name}.zarr", attributes if name == "v2_zstd" else None)


if __name__ == "__main__":
    main()
