#!/usr/bin/env python3
"""What the program answers, as digests, so that a change that should not alter an answer can prove it.

    tools/bench/baseline.py record before.json --program before/tessera
    tools/bench/baseline.py compare before.json --program build/tessera   # exit code 1: something differs

Every bundled and golden model, and those of --models that the program opens, meet the same images
and documents: in fp32 and bf16, images in one piece and in tiles, with probabilities, objects and
attention weights; then a few training steps of small networks, and 'eval'. The file holds a SHA-256
of each output. Inputs are copied under fixed names, and times are left out, so that neither place
nor hour is in a digest. Digests are of one machine and compiler: record and compare on the same.
"""

import argparse
import hashlib
import json
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMO = ROOT / "models" / "demo"
GOLDEN = ROOT / "tests" / "golden" / "models"
PRECISIONS = ["fp32", "bf16"]
# Wider than the widest halo of these networks, so that --tile cuts it.
DRAWN = (240, 1000)
TILES = {"large tiles": "704", "small tiles": "208"}
# The first file of each is a sample, where it is there.
SHARED_IMAGES = ["dsb2018/fluo256/image", "drive/training/images"]
SHARED_TEXTS = ["text/yelp"]
UNETS = {"same": ["--norm", "before_relu", "--border-weight", "5"],
         "valid": ["--padding", "valid", "--up", "bilinear", "--dropout", "0.2", "--optimiser", "sgd"]}
HANS = {"gru": ["--dense", "4"], "lstm": ["--cell", "lstm", "--optimiser", "adamw", "--clip", "1"]}


def sha(data):
    return hashlib.sha256(data).hexdigest()


def read_safetensors(path):
    """(header, bytes of the tensors) of a safetensors file."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + length]), data[8 + length:]


def draw(path):
    """Writes an image without flat parts, as PGM, and returns the path."""
    height, width = DRAWN
    pixels = bytes((x * x // 97 + x * y // 41 + 13 * y) % 256 for y in range(height) for x in range(width))
    path.write_bytes(b"P5 %d %d 255\n" % (width, height) + pixels)
    return path


def write_usable(golden, path):
    """A golden model as one the program opens: without what the test compares, with a vocabulary."""
    header, data = read_safetensors(golden)
    tensors = {name: (one["dtype"], one["shape"], data[slice(*one["data_offsets"])])
               for name, one in header.items() if not name.startswith(("golden/", "__"))}
    han = json.loads(header["__metadata__"]["tessera"]).get("han")
    if han:
        words = re.findall("[a-z]+", (DEMO / "reviews.tsv").read_text().lower())
        # Two of the ids are padding and unknown words.
        blob = "".join(f"{word}\n" for word in sorted(set(words))[:han["words"] - 2]).encode()
        tensors["vocabulary"] = ("U8", [len(blob)], blob)
    made, offset = {"__metadata__": {"tessera": header["__metadata__"]["tessera"]}}, 0
    for name, (dtype, shape, values) in tensors.items():
        made[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(values)]}
        offset += len(values)
    text = json.dumps(made).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(one[2] for one in tensors.values()))


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(one) for key, one in value.items() if "seconds" not in key}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def json_digest(text):
    """Of one JSON text, or of one in each line, in a form that order of keys does not alter."""
    try:
        values = [json.loads(text)]
    except ValueError:
        values = [json.loads(line) for line in text.splitlines()]
    return sha(json.dumps(without_times(values), sort_keys=True).encode())


def file_digests(name, path):
    """{name: digest} of a result; of a model its weights and its description apart."""
    if path.suffix == ".safetensors":
        header, data = read_safetensors(path)
        description = header.pop("__metadata__", {})
        description = {key: without_times(json.loads(text)) for key, text in description.items()}
        return {f"{name}: tensors": sha(json.dumps(header, sort_keys=True).encode() + data),
                f"{name}: description": sha(json.dumps(description, sort_keys=True).encode())}
    if path.suffix in (".json", ".jsonl"):
        return {name: json_digest(path.read_text())}
    return {name: sha(path.read_bytes())}


def run(program, folder, *arguments):
    return subprocess.run([program, *map(str, arguments)], cwd=folder, capture_output=True, text=True)


def outputs(program, folder, *arguments, keep=()):
    """Digests of the exit code, of stdout and of all files below keep, which are then removed. The
    journal of --resume knows the program and the files' times: it is no answer."""
    done = run(program, folder, *arguments)
    found = {"exit code": str(done.returncode)}
    if done.returncode != 0:
        return {**found, "stderr": done.stderr}
    if done.stdout:
        found["stdout"] = json_digest(done.stdout)
    for one in [folder / name for name in keep]:
        for path in sorted(one.rglob("*")) if one.is_dir() else [one]:
            if path.is_file() and path.name != "tessera.journal":
                found.update(file_digests(str(path.relative_to(folder)), path))
        shutil.rmtree(one) if one.is_dir() else one.unlink()
    return found


def collect(folder, models, data):
    """Copies models and samples under names of their own: (images, documents)."""
    for name in ("models", "samples", "pairs/images", "pairs/masks"):
        (folder / name).mkdir(parents=True)
    for path in sorted(DEMO.glob("*.safetensors")):
        shutil.copy(path, folder / "models" / f"demo_{path.name}")
    for path in sorted(GOLDEN.glob("*.safetensors")):
        write_usable(path, folder / "models" / f"golden_{path.name}")
    for path in sorted(models.rglob("*.safetensors")):
        shutil.copy(path, folder / "models" / ("shared_" + "_".join(path.relative_to(models).parts)))
    images = [DEMO / "membranes.png"] + [sorted((data / one).glob("*"))[0] for one in SHARED_IMAGES
                                         if (data / one).is_dir()]
    texts = [DEMO / "reviews.tsv"] + [data / one / "test.tsv.gz" for one in SHARED_TEXTS
                                      if (data / one).is_dir()]
    return tuple([pathlib.Path(shutil.copy(path, folder / "samples" / f"{i}_{path.name}")).relative_to(folder)
                  for i, path in enumerate(paths)] for paths in (images, texts))


def cases(program, folder, images, texts):
    """Yields (name, digests) of every case."""
    drawn = draw(folder / "samples" / "drawn.pgm").relative_to(folder)
    for path in sorted((folder / "models").glob("*")):
        model = path.relative_to(folder)
        about = run(program, folder, "info", model, "--json")
        if about.returncode != 0:
            if not path.name.startswith("shared_"):
                yield f"{path.stem}", {"stderr": about.stderr}
            continue
        common = ["-m", model, "--device", "cpu", "--threads", "2", "--json"]
        for precision in PRECISIONS:
            # Whatever is no text model is one of images.
            if json.loads(about.stdout)["architecture"] == "han":
                yield f"{path.stem} {precision}", outputs(
                    program, folder, "classify", *texts, *common, "--precision", precision, "--attention")
                continue
            segment = [*common, "--precision", precision, "--probabilities", "--instances", "-o", "out"]
            yield f"{path.stem} {precision}", outputs(
                program, folder, "segment", *images, drawn, *segment, keep=["out"])
            for tiling, tile in TILES.items():
                yield f"{path.stem} {precision} {tiling}", outputs(
                    program, folder, "segment", drawn, *segment, "--tile", tile, keep=["out"])
    # The masks to train with are the bundled model's own.
    run(program, folder, "segment", images[0], "-m", "models/demo_unet_isbi.safetensors", "-o", "masks")
    for name in "ab":
        shutil.copy(folder / images[0], folder / "pairs" / "images" / f"{name}.png")
        shutil.copy(folder / "masks" / f"{images[0].stem}.mask.png", folder / "pairs" / "masks" / f"{name}.png")
    yield "eval unet", outputs(program, folder, "eval", "pairs", "-m", "models/demo_unet_isbi.safetensors",
                               "--json", "--threads", "2", "--objects")
    yield "eval han", outputs(program, folder, "eval", texts[0], "-m", "models/demo_han_imdb.safetensors",
                              "--json", "--threads", "2")
    training = ["-o", "new.safetensors", "--device", "cpu", "--threads", "2", "--steps", "4", "--batch", "2",
                "--seed", "3", "--json"]
    for name, options in UNETS.items():
        yield f"train unet {name}", outputs(
            program, folder, "train", "unet", "pairs", *training, "--depth", "2", "--base", "8", "--tile", "96",
            "--validation", "names:b", *options, keep=["new.safetensors", "new.safetensors.run"])
    for name, options in HANS.items():
        yield f"train han {name}", outputs(
            program, folder, "train", "han", texts[0], *training, "--features", "8", "--units", "6",
            "--attention", "5", "--validation", "0.25", *options,
            keep=["new.safetensors", "new.safetensors.run"])


def record(options):
    program = pathlib.Path(options.program).resolve()
    with tempfile.TemporaryDirectory(prefix="tessera_baseline_") as name:
        folder = pathlib.Path(name)
        images, texts = collect(folder, options.models, options.data)
        return dict(cases(program, folder, images, texts))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["record", "compare"])
    parser.add_argument("file", type=pathlib.Path, metavar="FILE", help="the recorded digests (JSON)")
    parser.add_argument("--program", default=ROOT / "build" / "tessera")
    parser.add_argument("--models", type=pathlib.Path, default=ROOT.parent / "shared" / "models")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data")
    options = parser.parse_args()
    before = json.loads(options.file.read_text()) if options.verb == "compare" else None
    now = record(options)
    count = sum(len(one) for one in now.values())
    if before is None:
        options.file.write_text(json.dumps(now, indent=1) + "\n")
        print(f"{len(now)} cases, {count} digests -> {options.file}")
        return 0
    differences = 0
    for case in [*before, *(one for one in now if one not in before)]:
        if case not in before:
            print(f"new: {case}")
            continue
        old, new = before[case], now.get(case, {})
        for output in sorted({*old, *new}):
            if old.get(output) != new.get(output):
                differences += 1
                print(f"differs: {case}: {output}: {old.get(output)} is now {new.get(output)}")
    print(f"{len(before)} cases, {sum(len(one) for one in before.values())} digests recorded, {differences} differ")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
