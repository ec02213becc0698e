#!/usr/bin/env python3
"""Stores and pyramids between Tessera and the packages zarr, ome-zarr and tifffile.

    pip install zarr ome-zarr tifffile
    tests/tools/zarr_peers_test.py build/tessera

Exit code 77, skipped, where the packages are missing.
"""
import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import ome_zarr.io
    import ome_zarr.reader
    import tifffile
    import zarr
    from ome_zarr.format import FormatV04, FormatV05
    from ome_zarr.writer import write_image
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

PROGRAM = pathlib.Path(sys.argv[1]).resolve()
MODEL = pathlib.Path(__file__).resolve().parents[2] / "models/demo/unet_isbi.safetensors"


def segment(folder, *words):
    done = subprocess.run([PROGRAM, "segment", "-m", MODEL, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        rng = np.random.default_rng(1)
        blocks = np.kron(rng.integers(0, 128, (138, 88)), np.ones((8, 8), int))  # so that there are both classes
        image = (blocks + rng.integers(0, 120, blocks.shape)).astype(np.uint8)
        tifffile.imwrite(folder / "image.tif", image)
        segment(folder, "image.tif", "-o", "whole", "--no-overlay")
        subprocess.run([PROGRAM, "segment", "-m", MODEL, "image.tif", "-o", "pyramid.tif", "--pyramid", "--instances"],
                       cwd=folder, check=True, capture_output=True)
        with tifffile.TiffFile(folder / "pyramid.tif") as file:
            expected = file.series[0].levels[0].asarray()
            assert set(np.unique(expected)) == {0, 1}
            levels = [level.asarray() for level in file.series[0].levels]
            assert len(file.series) == 1 and len(levels) == 3, file.series
            assert all(np.array_equal(level, expected[::2**i, ::2**i]) for i, level in enumerate(levels))
        for version, fmt in (("04", FormatV04()), ("05", FormatV05())):
            source = folder / f"image{version}.zarr"
            group = zarr.open_group(source, mode="w", zarr_format=fmt.zarr_format)
            write_image(image, group, axes="yx", fmt=fmt)
            segment(folder, source.name, "-o", "mask.zarr", "--instances")
            group = zarr.open_group(folder / "mask.zarr", mode="r")
            mask = [group[data["path"]][:] for data in group.attrs["multiscales"][0]["datasets"]]
            assert np.array_equal(mask[0], expected)
            assert all(np.array_equal(level, expected[::2**i, ::2**i]) for i, level in enumerate(mask))
            objects = zarr.open_group(folder / "mask.instances.zarr", mode="r")["0"][:]
            assert np.array_equal(objects, tifffile.imread(folder / "pyramid.instances.tif", level=0))

            # What napari-ome-zarr shows: labels with their pyramid and colours.
            nodes = list(ome_zarr.reader.Reader(ome_zarr.io.parse_url(str(folder / "mask.zarr")))())
            assert len(nodes) == 1 and len(nodes[0].data) == len(mask)
            assert np.array_equal(nodes[0].data[1].compute(), mask[1])
            assert any(isinstance(spec, ome_zarr.reader.Label) for spec in nodes[0].specs), nodes[0].specs
    print("passed")


if __name__ == "__main__":
    main()
