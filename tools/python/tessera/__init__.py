"""Tessera: images segmented with UNet, documents classified with HAN.

    import tessera
    model = tessera.load("unet.safetensors")
    result = model(image)                # (H, W) or (H, W, 3): uint8, uint16, uint32 or float32
    result.mask                          # (H, W) uint8, an index into model.classes
    result.objects()                     # a pandas table, as regionprops_table's
    tessera.segment_array(model, zarr_in, zarr_out)   # larger than memory

Answers are those of the program `tessera` and of the C++ library, to the byte.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from operator import index
from threading import Event
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _engine
from ._arrays import ArrayLike, PixelScale, Source, Window, bytes_of, segment_array
from ._results import Classification, Segmentation, Sentence, Word
from .program import eval_model, import_model, train_han, train_unet, verify

if TYPE_CHECKING:
    from .sklearn import HanClassifier

__all__ = ["Classification", "HanClassifier", "Model", "PixelScale", "Segmentation", "Sentence", "Window", "Word",
           "eval_model", "import_model", "load", "segment_array", "train_han", "train_unet", "verify"]
__version__ = "0.1.0"

Progress = Callable[[int, int], None]


def __getattr__(name: str) -> Any:
    if name == "HanClassifier":  # scikit-learn is imported when it is used
        from .sklearn import HanClassifier
        return HanClassifier
    raise AttributeError(f"module 'tessera' has no attribute {name!r}")


def load(path: str | os.PathLike[str], *, device: str = "auto", precision: str = "auto", threads: int = 0,
         max_memory: int | str | None = None, tile: int = 0, range: tuple[float, float] | str | None = None,
         probabilities: bool = False, on_note: Callable[[str], None] | None = None) -> Model:
    """Opens a model file: Tessera's own, or one of PyTorch, Keras or ONNX.

    device         "cpu", "cuda", "cuda:N", "cuda:N,M" or "cuda:all" (lists are divided
                   among the GPUs), or "auto": a GPU, and the CPU where there is none
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
        self.path, self.options = os.fsdecode(path), options
        if "\0" in self.path:
            raise ValueError(f"the path {self.path!r} has a null character in it")
        for name in ("threads", "tile"):
            if not 0 <= index(options[name]) < 2**31:
                raise ValueError(f"{name} is a number from 0 to 2**31 - 1, not {options[name]}")
        span = options["range"]
        if not isinstance(span, (str, NoneType)) and len(span) != 2:
            raise ValueError(f"range is 'auto' or two numbers, (LO, HI), not {span!r}")
        self._model = _engine.open(
            self.path, options["device"], options["precision"], options["threads"],
            bytes_of(options["max_memory"]), options["tile"],
            span if isinstance(span, str) else "" if span is None else f"{span[0]!r},{span[1]!r}",
            options["probabilities"], options["on_note"])
        self.config: dict[str, Any] = json.loads(self._model.config_json)
        self.classes: tuple[str, ...] = tuple(one.name for one in self._model.classes)
        self.colours: tuple[tuple[int, int, int], ...] = tuple(one.colour for one in self._model.classes)
        self._lanes = options["threads"] or os.cpu_count() or 1

    def __reduce__(self):
        return _reopen, (self.path, self.options)

    def __repr__(self) -> str:
        return (f"<tessera.Model {self.path!r}: {self.task}s into {len(self.classes)} classes on {self.device}, "
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
        if progress is not None and not callable(progress):
            raise TypeError(f"progress is a function of two numbers, not {type(progress).__name__}")
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

    def windows(self, height: int, width: int, tile: int = 1024) -> list[Window]:
        """Windows that cover an image of this size, in reading order, each pixel in one of them.

        What they read is at most `tile` pixels a side. They lie on the network's own grid, so that each gives the bytes
        of the whole; windows that merely overlap do not. The image may be larger than any that segment() takes.

            scale = model.pixel_scale(image)
            for window in model.windows(*image.shape[:2]):
                mask[window.kept] = model.segment_window(image[window.read], window, scale).mask
        """
        return [Window(*one) for one in self._model.windows(height, width, tile)]

    def window(self, image_height: int, image_width: int, y: int, x: int, height: int, width: int) -> Window:
        """The window that keeps any rectangle of an image, in pixels; chunks of a store, for example."""
        return Window(*self._model.window(image_height, image_width, y, x, height, width))

    def plan_window(self, window: Window, pixel_bytes: int = 1):
        """Memory of a window of pixels of so many bytes, before it runs."""
        return self._model.plan_window(window, pixel_bytes)

    def pixel_scale(self, image: ArrayLike) -> PixelScale | None:
        """What windows of an image must know of all its pixels; None for a model that asks nothing of them.

        image  (H, W) or (H, W, C), as segment_array() takes it: it may be larger than memory, and is read in bands of
               rows, twice for a model of scale "standardize"
        """
        source = Source(image)
        band = source.bands()
        found = self._model.pixel_scale(source.height, lambda y: source.read(
            slice(y, min(y + band, source.height)), slice(0, source.width)))
        return None if found is None else PixelScale(*found)

    def segment_window(self, pixels, window: Window, scale: PixelScale | None = None,
                       progress: Progress | None = None) -> Segmentation:
        """What segment() gives of the rectangle that `window` keeps, to the byte.

        pixels    array (window.read_height, window.read_width[, C]): image[window.read]
        scale     pixel_scale(image), of the whole image
        progress  called with (bands done, all bands) of rows; what it raises ends the call, as Ctrl-C does
        """
        return self._segmentation(*self._model.segment_window(_pixels(pixels), window, scale, progress))


def _reopen(path: str, options: dict[str, Any]) -> Model:
    return Model(path, **options)


def _pixels(image):
    if not hasattr(image, "__array__") and not hasattr(image, "__dlpack__"):
        raise TypeError(f"an image is an array, not {type(image).__name__}")
    if not hasattr(image, "__array__"):
        return image
    image = np.asarray(image)
    if not image.dtype.isnative:
        image = image.astype(image.dtype.newbyteorder("="))
    if image.dtype not in (np.uint8, np.uint16, np.uint32, np.float32):
        raise TypeError(f"an image is uint8, uint16, uint32 or float32, not {image.dtype}; convert it, for example with "
                        "image.astype('float32')")
    if image.size == 0:
        raise ValueError(f"an image of the shape {image.shape} has nothing to segment")
    return np.asarray(image, order="C")
