"""Tessera: images segmented with UNet, documents classified with HAN.

    import tessera
    model = tessera.load("unet.safetensors")
    result = model(image)                # (H, W) or (H, W, 3): uint8, uint16, uint32 or float32
    result.mask                          # (H, W) uint8, an index into model.classes
    result.objects()                     # a pandas table, as regionprops_table's

Answers are those of the program `tessera` and of the C++ library, to the byte.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _engine
from ._results import Classification, Segmentation, Sentence, Word
from .program import eval_model, import_model, train_han, train_unet, verify

if TYPE_CHECKING:
    from .sklearn import HanClassifier

__all__ = ["Classification", "HanClassifier", "Model", "Segmentation", "Sentence", "Word", "eval_model",
           "import_model", "load", "train_han", "train_unet", "verify"]
__version__ = "0.1.0"

Progress = Callable[[int, int], None]


def __getattr__(name: str) -> Any:
    if name == "HanClassifier":  # scikit-learn is imported when it is used
        from .sklearn import HanClassifier
        return HanClassifier
    raise AttributeError(f"module 'tessera' has no attribute {name!r}")


def _bytes_of(size: int | str | None) -> int:
    """Bytes of 2**30, "2G", "512M" or None (0: as the machine allows)."""
    if size is None:
        return 0
    if isinstance(size, str):
        factors = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
        text = size.strip().upper().removesuffix("IB").removesuffix("B")
        factor = factors.get(text[-1:], 1)
        try:
            size = int(float(text[:-1] if factor > 1 else text) * factor)
        except (ValueError, OverflowError):
            raise ValueError(f"max_memory is a number of bytes, or one such as '2G', not {size!r}") from None
    if size < 0:
        raise ValueError(f"max_memory is 0 or more bytes, not {size}")
    return size


def load(path: str | os.PathLike[str], *, device: str = "auto", precision: str = "auto", threads: int = 0,
         max_memory: int | str | None = None, tile: int = 0, range: tuple[float, float] | str | None = None,
         probabilities: bool = False, on_note: Callable[[str], None] | None = None) -> Model:
    """Opens a model file: Tessera's own, or one of PyTorch, Keras or ONNX.

    device         "cpu", "cuda", "cuda:N", or "auto": a GPU, and the CPU where there is none
    precision      "fp32", "bf16", on a GPU also "tf32" and "fp16", or "auto"
    threads        of the CPU; 0: as many as the machine grants
    max_memory     bytes that the process may take ("2G" and the like); picks the tile
    tile           largest side of a tile in pixels; 0: as memory allows
    range          (LO, HI): the values that become 0 and 1 in a model of scale "unit"; "auto": each image's own
    probabilities  also give each class's probability of each pixel
    on_note        hears, in one line each, what is worth knowing of how the model runs
    """
    return Model(path, device=device, precision=precision, threads=threads, max_memory=max_memory, tile=tile,
                 range=range, probabilities=probabilities, on_note=on_note)


class Model:
    """A model on a device. Any number of threads may call it at once; a process that is given one opens it anew."""

    def __init__(self, path: str | os.PathLike[str], **options: Any):
        self._path, self._options = os.fspath(path), options
        span = options["range"]
        self._model = _engine.open(
            self._path, options["device"], options["precision"], options["threads"],
            _bytes_of(options["max_memory"]), options["tile"],
            span if isinstance(span, str) else "" if span is None else f"{span[0]!r},{span[1]!r}",
            options["probabilities"], options["on_note"])
        self.config: dict[str, Any] = json.loads(self._model.config_json)
        self.classes: tuple[str, ...] = tuple(one.name for one in self._model.classes)
        self.colours: tuple[tuple[int, int, int], ...] = tuple(one.colour for one in self._model.classes)
        self._lanes = options["threads"] or os.cpu_count() or 1

    def __reduce__(self):
        return _reopen, (self._path, self._options)

    def __repr__(self) -> str:
        return (f"<tessera.Model {self._path!r}: {self.task}s into {len(self.classes)} classes on {self.device}, "
                f"{self.precision}>")

    @property
    def task(self) -> str:
        """"segment" or "classify"."""
        return "segment" if self._model.segments else "classify"

    @property
    def device(self) -> str:
        """The one in use: "cpu", "cuda:0 (NVIDIA H200)"."""
        return self._model.device

    @property
    def precision(self) -> str:
        """The one in use: "fp32", "tf32", "bf16" or "fp16"."""
        return self._model.precision

    @property
    def parameters(self) -> int:
        """Weights in the file, in elements."""
        return self._model.parameters

    def __call__(self, inputs, progress: Progress | None = None):
        """`segment` or `classify`, as the model is made for."""
        return self.segment(inputs, progress) if self._model.segments else self.classify(inputs, progress)

    def segment(self, image, progress: Progress | None = None) -> Segmentation | list[Segmentation]:
        """The mask of an image, or of each image of a list or another iterable, of any sizes.

        image     array (H, W) or (H, W, C), C 1 or 3, of uint8, uint16, uint32 or float32; what NumPy, DLPack or the
                  buffer protocol can show is not copied where its rows have no gaps
        progress  called with (tiles done, all tiles), for a list with (images done, all images); what it raises
                  ends the call, as Ctrl-C does
        """
        if hasattr(image, "__array__") or hasattr(image, "__dlpack__"):
            mask, probabilities = self._model.segment(_pixels(image), progress)
            return self._segmentation(mask, probabilities)
        if isinstance(image, (str, bytes)) or not isinstance(image, Iterable):
            raise TypeError(f"an image is an array, not {type(image).__name__}; read the file first, for example with "
                            "tifffile.imread or imageio.imread")
        return self._segment_list(list(image), progress)

    def _segment_list(self, images: list, progress: Progress | None) -> list[Segmentation]:
        cancelled = Event()

        def check(done: int, tiles: int) -> None:
            if cancelled.is_set():
                raise KeyboardInterrupt

        def one(image):
            if cancelled.is_set():
                return None
            return self._segmentation(*self._model.segment(_pixels(image), check))

        results = []
        # The engine divides its threads among those that call at once.
        with ThreadPoolExecutor(max(1, min(self._lanes, len(images)))) as pool:
            try:
                for result in pool.map(one, images):
                    results.append(result)
                    if progress is not None:
                        progress(len(results), len(images))
            except BaseException:
                cancelled.set()
                raise
        return results

    def _segmentation(self, mask, probabilities) -> Segmentation:
        return Segmentation(mask, probabilities, self.classes, self.config.get("masks", {}).get("min_area", 1))

    def classify(self, texts, progress: Progress | None = None) -> Classification | list[Classification]:
        """The class of a text, or of each of a list, pandas Series, pyarrow array or other iterable, in order.

        A text without words raises ValueError; in a list its answer has `error` set instead.
        progress is called with (documents done, all documents); what it raises ends the call, as Ctrl-C does.
        """
        if isinstance(texts, str):
            raw = self._model.classify([texts], progress)[0]
            if raw.error:
                raise ValueError(raw.error)
            return Classification(texts, raw, self.classes)
        if isinstance(texts, bytes) or not isinstance(texts, Iterable):
            raise TypeError(f"a document is a str, not {type(texts).__name__}; decode it first")
        if hasattr(texts, "to_pylist"):
            texts = texts.to_pylist()  # pyarrow's elements are no strings
        texts = list(texts)
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"document {i} is a {type(text).__name__}, not a str; leave it out or convert it")
        return [Classification(text, raw, self.classes)
                for text, raw in zip(texts, self._model.classify(texts, progress), strict=True)]

    def plan(self, height: int, width: int):
        """Tiles and memory of an image of this size, before anything runs."""
        return self._model.plan(height, width)


def _reopen(path: str, options: dict[str, Any]) -> Model:
    return Model(path, **options)


def _pixels(image):
    if not hasattr(image, "__array__") and not hasattr(image, "__dlpack__"):
        raise TypeError(f"an image is an array, not {type(image).__name__}")
    if isinstance(image, np.ndarray) or not hasattr(image, "__array__"):
        return image
    return np.asarray(image)
