"""The program `tessera`, which comes with the package: the command, and training, import and checks by it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("bin") / "tessera"
Path_ = str | os.PathLike[str]


def main() -> None:
    """The command `tessera`: the program, and `tessera app`, which is Python's."""
    if sys.argv[1:2] == ["app"]:
        from .app import main as app
        return app(sys.argv[2:])
    os.execv(PROGRAM, [str(PROGRAM), *sys.argv[1:]])


def _arguments(options: dict[str, Any]) -> list[str]:
    """{"epochs": 3, "bf16": True, "classes": ["a", "b"]} as the program takes it; None and False are left out."""
    words = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            words.append(flag)
        elif isinstance(value, (list, tuple)):
            words.append(f"{flag}={','.join(map(str, value))}")
        else:
            words.append(f"{flag}={value}")
    return words


def _finish(process: subprocess.Popen, said: str) -> None:
    if process.returncode < 0:
        raise RuntimeError(f"tessera ended by signal {-process.returncode}: {said.strip()}")
    if process.returncode == 2:
        raise ValueError(said.strip())
    if process.returncode != 0:
        raise RuntimeError(said.strip())


def _run(*words: str) -> str:
    process = subprocess.Popen([PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, said = process.communicate()
    _finish(process, said or out)
    return out


def import_model(source: Path_, output: Path_, *, family: str | None = None, key: str | None = None,
                 vocabulary: Path_ | None = None, **guesses: Any) -> str:
    """Writes a model file of what PyTorch, Keras or ONNX saved, and returns what was read and guessed, as text.

    guesses: what the file does not say, where the guess is wrong, e.g. output="sigmoid". Nothing in the file is
    executed. Raises RuntimeError where it cannot be read, with what was found in it.
    """
    words = _arguments({"output": os.fspath(output), "family": family, "key": key,
                        "vocabulary": None if vocabulary is None else os.fspath(vocabulary)})
    for name, value in guesses.items():
        words.append(f"--set={name}={value}")
    return _run("import", os.fspath(source), *words)


def verify(model: Path_, input: Path_, expect: Path_, *, tolerance: float | None = None) -> str:
    """Runs a network on a .npy file and compares: the report as text; RuntimeError beyond the tolerance."""
    return _run("verify", os.fspath(model), *_arguments(
        {"input": os.fspath(input), "expect": os.fspath(expect), "tolerance": tolerance}))


def eval_model(model: Path_, data: Path_, **options: Any) -> dict[str, Any]:
    """The figures of `tessera eval DATA -m MODEL`: accuracy, IoU, objects found, ... options are its flags."""
    return json.loads(_run("eval", os.fspath(data), "-m", os.fspath(model), "--json", *_arguments(options)))


def train_unet(data: Path_ | tuple[Sequence, Sequence], output: Path_, *,
               on_epoch: Callable[[dict[str, Any]], Any] | None = None, **options: Any) -> list[dict[str, Any]]:
    """Trains on images and masks, writes the model file `output`, returns the figures of each validation.

    data      a folder of images/ and masks/, a list of image<TAB>mask lines, or arrays: (images, masks), two sequences,
              images (H, W) or (H, W, 3) of uint8, uint16, uint32 or float32, masks (H, W) of uint8, uint16 or uint32
    on_epoch  called with each line of metrics.jsonl as it is written (step, epoch, losses, rate, scores); when it
              returns False the run saves its state and ends, and resume=True goes on to the same bytes
    options   flags of `tessera train unet`: epochs=10, batch=4, rate=1e-3, recipe="...", metrics="run/", bf16=True, ...

    It runs in a process of its own, which the end of this one, or of its memory, does not harm.
    """
    if not isinstance(data, tuple):
        return _train("unet", data, output, on_epoch, options)
    from ._images import write_tiff
    images, masks = map(list, data)
    if len(images) != len(masks):
        raise ValueError(f"{len(images)} images and {len(masks)} masks; each image needs its own")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "arrays"  # what the model says that it was made from
        for part, arrays in (("images", images), ("masks", masks)):
            (folder / part).mkdir(parents=True)
            for number, array in enumerate(arrays):
                write_tiff(folder / part / f"{number:06}.tif", array)
        return _train("unet", folder, output, on_epoch, options)


def train_han(data: Path_ | tuple[Sequence[str], Sequence], output: Path_, *,
              on_epoch: Callable[[dict[str, Any]], Any] | None = None, **options: Any) -> list[dict[str, Any]]:
    """Trains on labelled texts: a file (TSV, CSV, JSON lines), or (texts, labels), two sequences.

    Else as `train_unet`, with the flags of `tessera train han`.
    """
    if not isinstance(data, tuple):
        return _train("han", data, output, on_epoch, options)
    texts, labels = map(list, data)
    if len(texts) != len(labels):
        raise ValueError(f"{len(texts)} texts and {len(labels)} labels; each text needs its own")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"text {number} is a {type(text).__name__}, not a str; leave it out or convert it")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "texts.jsonl"
        with file.open("w", encoding="utf-8") as lines:
            for text, label in zip(texts, labels, strict=True):
                lines.write(json.dumps({"text": text, "label": str(label)}, ensure_ascii=False) + "\n")
        return _train("han", file, output, on_epoch, options)


def _train(network: str, data: Path_, output: Path_, on_epoch, options: dict[str, Any]) -> list[dict[str, Any]]:
    output = os.fspath(output)
    folder = options.setdefault("metrics", output + ".run")
    log = _Log(Path(os.fspath(folder)) / "metrics.jsonl", bool(options.get("resume")))
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([PROGRAM, "train", network, os.fspath(data), "-o", output, "--quiet",
                                    *_arguments(options)], stdout=subprocess.DEVNULL, stderr=said)
        stopped = False
        try:
            while True:
                ended = process.poll() is not None
                for line in log.new_lines():
                    lines.append(line)
                    if on_epoch is not None and on_epoch(line) is False and not ended:
                        stopped = True
                        process.send_signal(signal.SIGINT)
                if ended:
                    break
                time.sleep(0.05)
        finally:
            if process.poll() is None:  # The callback raised, or Ctrl-C: the program saves what it has.
                process.send_signal(signal.SIGINT)
                process.wait()
        said.seek(0)
        if not stopped:
            _finish(process, said.read())
    return lines


class _Log:
    """metrics.jsonl while the program writes it."""

    def __init__(self, path: Path, resume: bool):
        self._path = path
        text = self._read()
        self._seen = text if resume else b""
        self._stale = None if resume else self._state()  # of an earlier run, until the program replaces it

    def new_lines(self) -> list[dict[str, Any]]:
        if self._stale is not None and self._state() == self._stale:
            return []
        self._stale = None
        text = self._read()
        # A run that goes on first cuts off the lines that its checkpoint does not know.
        known = len(os.path.commonprefix([text, self._seen]))
        known = text.rfind(b"\n", 0, known) + 1
        end = text.rfind(b"\n") + 1  # the last line may be half there
        self._seen = text[:end]
        return [json.loads(line) for line in text[known:end].splitlines()]

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return b""

    def _state(self):
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns
