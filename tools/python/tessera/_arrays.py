"""Images larger than memory: windows that are read, segmented and written by themselves, to the bytes of the whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from . import Model

BAND = 2**26  # bytes of the rows that pixel_scale() reads at once

# What pixels become as they are read. A model that scales floats as they are gets them so.
TYPES = {"u1": np.uint8, "u2": np.uint16, "u4": np.uint32, "f2": np.float32, "f4": np.float32, "f8": np.float32}

Progress = Callable[[int, int], None]


class ArrayLike(Protocol):
    """What Zarr, h5py, Dask, NumPy's memmap and many others are."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    def __getitem__(self, index: Any) -> Any: ...


class WritableArray(ArrayLike, Protocol):
    def __setitem__(self, index: Any, value: Any) -> None: ...


class Window(NamedTuple):
    """A part of an image that is segmented by itself, on any machine and in any order; in pixels.

    The rectangle (y, x, height, width) is kept of the answer; it takes the pixels of the other, read_y and so on:
    model.segment_window(image[window.read], window).mask is model(image).mask[window.kept], to the byte.
    """

    image_height: int
    image_width: int
    y: int
    x: int
    height: int
    width: int
    read_y: int
    read_x: int
    read_height: int
    read_width: int

    @property
    def kept(self) -> tuple[slice, slice]:
        """Rows and columns of the image that the answer is of."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    @property
    def read(self) -> tuple[slice, slice]:
        """Rows and columns of the image that the window reads."""
        return (slice(self.read_y, self.read_y + self.read_height),
                slice(self.read_x, self.read_x + self.read_width))


class PixelScale(NamedTuple):
    """What preprocessing takes from all pixels of an image: (x - offset) / divisor."""

    offset: float
    divisor: float


def bytes_of(size: float | str | None) -> int:
    """Bytes of 2**30, "2G", "512M" or None (0: as the machine allows)."""
    if size is None:
        return 0
    text = str(size).strip().upper().removesuffix("IB").removesuffix("B")
    factor = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}.get(text[-1:], 1)
    try:
        number = int(float(text[:-1] if factor > 1 else text) * factor)
    except (ValueError, OverflowError):
        raise ValueError(f"max_memory is a number of bytes, or one such as '2G', not {size!r}") from None
    if not 0 <= number < 2**63:
        raise ValueError(f"max_memory is 0 to 2**63 - 1 bytes, not {size}")
    return number


def chunks_of(array: ArrayLike) -> tuple[int, int]:
    """Rows and columns that a store writes at once: its shards or chunks, else 1."""
    for name in ("shards", "chunks"):
        sides = getattr(array, name, None)
        if isinstance(sides, tuple) and len(sides) >= 2 and all(isinstance(side, int) and side > 0 for side in sides[:2]):
            return sides[0], sides[1]
    return 1, 1


class Source:
    """An image that is read in parts."""

    def __init__(self, array: ArrayLike):
        if not hasattr(array, "shape") or not hasattr(array, "dtype") or not hasattr(array, "__getitem__"):
            raise TypeError(f"an image is an array with shape, dtype and slices, not {type(array).__name__}")
        self.array, self.shape = array, tuple(array.shape)
        if len(self.shape) not in (2, 3):
            raise ValueError("an image is an array (height, width) or (height, width, channels), not one of the shape "
                             f"{self.shape}; choose a plane, for example with dask.array.from_array(array)[0]")
        if self.shape[2:] not in ((), (1,), (3,)):
            raise ValueError(f"an image has 1 (grey) or 3 (RGB) channels in its last axis, not {self.shape[2]}")
        self.height, self.width = self.shape[:2]
        if self.height < 1 or self.width < 1:
            raise ValueError(f"an image of {self.height} x {self.width} pixels has nothing to segment")
        dtype = np.dtype(array.dtype)
        if dtype.str[1:] not in TYPES:
            raise TypeError(f"an image is uint8, uint16, uint32 or of floats, not {dtype}; convert it as it is read, for "
                            "example with dask.array.from_array(array).astype('float32')")
        self.dtype = np.dtype(TYPES[dtype.str[1:]])

    @property
    def pixel_bytes(self) -> int:
        return self.dtype.itemsize * (self.shape[2] if len(self.shape) == 3 else 1)

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        block = np.ascontiguousarray(self.array[rows, columns], self.dtype)
        wanted = (rows.stop - rows.start, columns.stop - columns.start, *self.shape[2:])
        if block.shape != wanted:
            raise ValueError(f"the source gave an array {block.shape} for one of {wanted}; it does not slice as NumPy does")
        return block

    def bands(self) -> int:
        """Rows that are read at once where all are: a few, whole chunks where those are no more."""
        rows = min(self.height, max(1, BAND // (self.width * self.pixel_bytes)))
        chunk = chunks_of(self.array)[0]
        return rows - rows % chunk if rows > chunk else rows


class Grid:
    """Rectangles of (at most) `sides` that cover an image, in reading order: (y, x, height, width)."""

    def __init__(self, shape: tuple[int, ...], sides: tuple[int, int]):
        self.height, self.width = shape[:2]
        self.sides = sides

    def __len__(self) -> int:
        return -(-self.height // self.sides[0]) * -(-self.width // self.sides[1])

    def __iter__(self) -> Iterator[tuple[int, int, int, int]]:
        for y in range(0, self.height, self.sides[0]):
            for x in range(0, self.width, self.sides[1]):
                yield y, x, min(self.sides[0], self.height - y), min(self.sides[1], self.width - x)


def choose_sides(model: Model, source: Source, chunks: tuple[int, int], tile: int = 0, max_memory: int | str | None = None,
                 whole_chunks: bool = False) -> tuple[int, int]:
    """Sides of windows that read at most `tile` pixels a side (0: the model's), keep to the memory and read little twice.

    They are whole chunks where those fit, and with `whole_chunks` also where they do not: then RuntimeError.
    """
    return model._model.window_grid(source.height, source.width, chunks, not whole_chunks, source.pixel_bytes, tile,
                                    bytes_of(max_memory))


class State:
    """A text file of what is done: a line that says of what run, and one for each window.

    A killed run leaves its last line torn or a window unnamed; that one is made again, to the same bytes.
    """

    def __init__(self, path: str | os.PathLike[str] | None, run: dict[str, Any]):
        self.path, self.run = path, json.loads(json.dumps(run))
        self.sides: tuple[int, int] | None = None  # None: nothing is done
        self.scale: PixelScale | None = None
        self.done: set[tuple[int, int]] = set()
        if path is None or not os.path.exists(path):
            return
        with open(path, encoding="utf-8") as file:
            lines = [line for line in file if line.endswith("\n")]
        if not lines:
            return
        try:
            first = json.loads(lines[0])
            stored = first["run"]
            sides, scale = tuple(map(int, first["sides"])), first["scale"]
            self.done = {tuple(map(int, json.loads(line))) for line in lines[1:]}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not the state of a segment_array(): {error}; name another file") from error
        if stored != self.run:
            different = [name for name in self.run | stored if self.run.get(name) != stored.get(name)]
            raise ValueError(f"{path} is the state of a run with another {', '.join(different)}; name another file, or "
                             "remove this one to begin anew")
        self.sides, self.scale = sides, None if scale is None else PixelScale(*scale)
        self._write(lines)

    def begin(self, sides: tuple[int, int], scale: PixelScale | None) -> None:
        self.sides, self.scale = sides, scale
        if self.path is not None:
            self._write([json.dumps({"run": self.run, "sides": sides, "scale": scale}) + "\n"])

    def add(self, y: int, x: int) -> None:
        self.done.add((y, x))
        if self.path is not None:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(f"[{y}, {x}]\n")

    def _write(self, lines: list[str]) -> None:
        scratch = f"{os.fspath(self.path)}.{os.getpid()}"
        with open(scratch, "w", encoding="utf-8") as file:
            file.writelines(lines)
        os.replace(scratch, self.path)


def run_of(model: Model, source: Source, probabilities: bool) -> dict[str, Any]:
    """What must be the same for a run to go on where another was killed."""
    with open(model.path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"model": digest, "precision": model.precision, "range": str(model.options["range"]), "shape": source.shape,
            "dtype": str(source.dtype), "probabilities": probabilities}


def check_sink(model: Model, source: Source, sink: WritableArray) -> None:
    if not hasattr(sink, "shape") or not hasattr(sink, "dtype") or not hasattr(sink, "__setitem__"):
        raise TypeError(f"the sink is an array with shape, dtype and slices that are written, not {type(sink).__name__}")
    if tuple(sink.shape) != source.shape[:2]:
        raise ValueError(f"the sink has the shape {tuple(sink.shape)}, expected that of the mask, {source.shape[:2]}")
    dtype = np.dtype(sink.dtype)
    if dtype.kind not in "ui" or np.iinfo(dtype).max < len(model.classes) - 1:
        raise TypeError(f"the sink is of {dtype}, expected an integer type that holds class ids up to "
                        f"{len(model.classes) - 1}, for example uint8")
    if sink is source.array or isinstance(sink, np.ndarray) and isinstance(source.array, np.ndarray) and np.may_share_memory(
            sink, source.array):
        raise ValueError("the sink is the source; windows read pixels that others have written, so give it an array of its own")


def segment_window_of(model: Model, source: Source, sink: WritableArray, box: tuple[int, int, int, int],
                      scale: PixelScale | None, probabilities: WritableArray | None = None) -> None:
    """Reads what a rectangle takes, and writes it."""
    window = model.window(source.height, source.width, *box)
    result = model.segment_window(source.read(*window.read), window, scale)
    if probabilities is not None:
        if result.probabilities is None:
            raise ValueError("the model gives no probabilities; open it with tessera.load(..., probabilities=True)")
        wanted = (source.height, source.width, result.probabilities.shape[2])
        if tuple(probabilities.shape) != wanted or np.dtype(probabilities.dtype).kind != "f":
            raise ValueError(f"the array for probabilities is {tuple(probabilities.shape)} of {probabilities.dtype}, expected "
                             f"{wanted} of float32")
        probabilities[window.kept] = result.probabilities.astype(probabilities.dtype, copy=False)
    sink[window.kept] = result.mask.astype(sink.dtype, copy=False)


def segment_array(model: Model, source: ArrayLike, sink: WritableArray, *, probabilities: WritableArray | None = None,
                  max_memory: int | str | None = None, tile: int = 0, state: str | os.PathLike[str] | None = None,
                  progress: Progress | None = None) -> None:
    """Segments an image of any size, window by window: what is written is model(source).mask, to the byte.

        slide = zarr.open_array("slide.zarr", mode="r")
        mask = zarr.create_array("mask.zarr", shape=slide.shape[:2], chunks=(1024, 1024), dtype="uint8")
        tessera.segment_array(model, slide, mask, state="mask.state")

    source         (H, W) or (H, W, C), C 1 or 3: anything with shape, dtype and slices that NumPy understands (Zarr, h5py,
                   Dask, NumPy's memmap, tifffile's aszarr in Zarr); uint8, uint16, uint32 or floats, which are read as
                   float32. Up to 2**31 - 1 pixels a side
    sink           (H, W) of an integer type: class ids are written to its slices, in whole chunks where those fit
    probabilities  (H, W, outputs) of float32, or None: takes each class's probability, of a model that was opened with
                   probabilities=True
    max_memory     bytes that the process (on a GPU, its memory there) may take, "2G" and the like; picks the windows.
                   Default: as of the model. What a store takes to decode its chunks comes on top
    tile           largest side of what a window reads, in pixels; 0: that of the model
    state          a text file that tells what is done: a run that was killed goes on where it was, with the same arrays
    progress       called with (windows done, all windows); what it raises ends the call, as Ctrl-C does

    A model whose preprocessing depends on all pixels ("standardize", "min_max", a range of "auto") has the source read
    once or twice before, in bands of rows.
    """
    image = Source(source)
    check_sink(model, image, sink)
    known = State(state, run_of(model, image, probabilities is not None) if state is not None else {})
    if known.sides is None:
        known.begin(choose_sides(model, image, chunks_of(sink), tile, max_memory), model.pixel_scale(source))
    grid = Grid(image.shape, known.sides)
    for number, box in enumerate(grid, 1):
        if box[:2] not in known.done:
            segment_window_of(model, image, sink, box, known.scale, probabilities)
            if state is not None:
                for array in (sink, probabilities):  # a memmap's or h5py's last window may not be in its file yet
                    if hasattr(array, "flush"):
                        array.flush()
            known.add(*box[:2])
        if progress is not None:
            progress(number, len(grid))
