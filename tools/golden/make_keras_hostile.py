#!/usr/bin/env python3
"""HDF5 files that no reader may trust: tests/golden/import/hdf5/*.h5.

    pip install h5py numpy
    python3 tools/golden/make_keras_hostile.py
"""

from pathlib import Path

import h5py
import numpy as np

OUT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "import" / "hdf5"


def keras_file(name, fill, version="2.15.0", layers=("conv",)):
    with h5py.File(OUT / f"{name}.h5", "w") as f:
        if version:
            f.attrs["keras_version"] = np.bytes_(version)
        f.attrs["layer_names"] = np.array(layers, dtype="S")
        group = f.create_group(layers[0])
        group.attrs["weight_names"] = np.array(["kernel:0"], dtype="S")
        fill(f, group)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    one = np.arange(8, dtype=np.float32).reshape(1, 1, 2, 4)

    def chunked(f, g):
        g.create_dataset("kernel:0", data=np.tile(one, (1, 1, 8, 1)), chunks=(1, 1, 4, 4), compression="gzip", shuffle=True, fletcher32=True)
        g.create_dataset("bias:0", data=np.arange(4, dtype=np.float16))

    def cycle(f, g):
        g["again"] = f["/"]

    def twice(f, g):
        g["kernel:0"] = one
        g["other"] = g["kernel:0"]

    def soft(f, g):
        g["kernel:0"] = h5py.SoftLink("/elsewhere")

    def external(f, g):
        g["kernel:0"] = h5py.ExternalLink("/etc/passwd", "/")

    def virtual(f, g):
        layout = h5py.VirtualLayout((4,), dtype="f4")
        layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (4,))
        g.create_virtual_dataset("kernel:0", layout)

    def storage(f, g):
        g.create_dataset("kernel:0", (4,), dtype="f4", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])

    def huge(f, g):
        g.create_dataset("kernel:0", (1 << 30, 1 << 20), dtype="f4", chunks=(1, 1024), compression="gzip")

    def overflow(f, g):
        g.create_dataset("kernel:0", (1 << 39, 1 << 39), dtype="f4", chunks=(1, 1024))

    def deep(f, g):
        for i in range(40):
            g = g.create_group("g")

    keras_file("chunked", chunked)
    keras_file("cycle", cycle)
    keras_file("twice", twice)
    keras_file("soft_link", soft)
    keras_file("external_link", external)
    keras_file("virtual", virtual)
    keras_file("external_storage", storage)
    keras_file("filter", lambda f, g: g.create_dataset("kernel:0", data=one, chunks=(1, 1, 2, 4), compression="lzf"))
    keras_file("huge", huge)
    keras_file("overflow", overflow)
    keras_file("unwritten", lambda f, g: g.create_dataset("kernel:0", (4,), dtype="f4"))
    keras_file("big_endian", lambda f, g: g.create_dataset("kernel:0", data=one.astype(">f4")))
    keras_file("deep", deep)
    keras_file("keras1", lambda f, g: g.create_dataset("kernel:0", data=one), version=None)
    keras_file("text", lambda f, g: g.create_dataset("kernel:0", data=np.bytes_("no numbers")))
    with h5py.File(OUT / "other.h5", "w") as f:
        f["x"] = one
    with h5py.File(OUT / "missing_group.h5", "w") as f:
        f.attrs["keras_version"] = np.bytes_("2.15.0")
        f.attrs["layer_names"] = np.array(["gone"], dtype="S")
    # Names of layers in pieces, as Keras cuts lists that an attribute has no room for.
    with h5py.File(OUT / "pieces.h5", "w") as f:
        f.attrs["keras_version"] = np.bytes_("2.15.0")
        for i, name in enumerate(["image", "conv"]):
            f.attrs[f"layer_names{i}"] = np.array([name], dtype="S")
            group = f.create_group(name)
            group.attrs["weight_names0"] = np.array(["conv/kernel:0"] if i else [], dtype="S6" if not i else "S")
            group.attrs["weight_names1"] = np.array(["conv/bias:0"] if i else [], dtype="S6" if not i else "S")
        f["conv"]["conv/kernel:0"] = one[:, :, :1, :1]
        f["conv"]["conv/bias:0"] = np.zeros(1, np.float32)


if __name__ == "__main__":
    main()
