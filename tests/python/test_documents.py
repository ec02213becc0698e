"""What the tree's texts show is run as it stands there: blocks of Python; flags and files that they name are there."""

import functools
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tessera
from tessera.program import PROGRAM
from test_arrays import with_preprocessing
from test_tessera import HAN, UNET, make_scans, picture, without

ROOT = Path(__file__).parents[2]
TEXTS = [ROOT / name for name in ("README.md", "tools/python/README.md", "tools/packaging/README.md", "kernels/README.md")]


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text.read_text(), re.M | re.S)


PYTHON = [(text, block) for text in TEXTS for block in blocks(text, "python")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the blocks name, small; they train small networks here."""
    shutil.copy(UNET, tmp_path / "unet.safetensors")
    shutil.copy(HAN, tmp_path / "han.safetensors")
    golden = ROOT / "tests/golden/import/milesial_2022_bilinear.safetensors"
    (tmp_path / "checkpoint.pth").write_bytes(without(golden.read_bytes(), "golden/"))
    make_scans(tmp_path / "scans")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tessera, "train_unet", functools.partial(tessera.train_unet, base=2, depth=1, tile=64, threads=1))
    monkeypatch.setattr(tessera, "train_han", functools.partial(tessera.train_han, units=2, features=2, threads=1))
    return tmp_path


def make_slide(path):
    zarr = pytest.importorskip("zarr")
    slide = zarr.create_array(path, shape=(300, 260), chunks=(128, 128), dtype="uint8")
    slide[...] = picture(300, 260)
    return zarr


@pytest.mark.parametrize("text, block", PYTHON, ids=[f"{text.parent.name}-{i}" for i, (text, _) in enumerate(PYTHON)])
def test_blocks_of_python_run(folder, text, block):
    given = {"image": picture(64, 80), "other": picture(48, 60), "texts": ["good film", "bad film"] * 4, "labels": [1, 0] * 4,
             "tessera": tessera}
    if re.search(r"\bray\b", block):
        pytest.skip("test_ray.py runs what it shows, on a cluster")
    if "zarr" in block:
        given |= {"zarr": make_slide(folder / "slide.zarr"), "model": tessera.load(UNET)}
    exec(compile(block, str(text), "exec"), given)
    if "slide" in given:
        np.testing.assert_array_equal(given["mask"][...], given["model"](given["slide"][...]).mask)
    else:
        assert given["answer"].label == "positive" and (folder / "unet.safetensors").stat().st_size < UNET.stat().st_size


@functools.cache
def help_of(*verbs):
    return subprocess.run([PROGRAM, *verbs, "--help"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.parent.name)
def test_flags_and_files_that_texts_name_are_there(text):
    verbs = re.findall(r"^  ([a-z]+) ", help_of().split("Verbs:")[1], re.M)
    said = text.read_text()
    for verb, rest in re.findall(rf"\btessera (train unet|train han|{'|'.join(verbs)})\b([^`|\n]*)", said):
        known = help_of(*verb.split()) if verb != "train" else help_of("train", "unet") + help_of("train", "han")
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest):
            assert flag in known, f"tessera {verb} has no {flag}"
    for path in re.findall(r"(?<![\w./-])((?:tools|tests|engine|kernels|models)/[\w./-]*\w)", said):
        assert "foo" in path or list(ROOT.glob(path)), f"{text.name} names {path}, which is not there"
