"""Image files and arrays as a model takes them, and pictures of what it found. Needs Pillow; TIFF needs tifffile."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np

LARGEST = 2**28  # pixels that are read into memory at once


def extra(name: str, what: str, error: ImportError) -> ImportError:
    """The error of a package that an extra brings."""
    return ImportError(f"{what} needs {error.name or 'a package'}: pip install 'tessera-engine[{name}]'")


def read(source: str | os.PathLike[str] | bytes, page: int = 0) -> tuple[np.ndarray, int]:
    """A page of an image file (or its bytes), as `for_model` makes it, and how many pages there are.

    PNG, JPEG, BMP, PNM, WebP by Pillow; TIFF of every kind by tifffile, where each plane of a volume is a page.
    ValueError says what is wrong with the file.
    """
    whole = isinstance(source, bytes)
    name = f"{len(source)} bytes" if whole else Path(source).name
    head = source[:4] if whole else _head(source)
    try:
        if head[:2] in (b"II", b"MM"):
            image, pages = _read_tiff(io.BytesIO(source) if whole else source, page)
        else:
            image, pages = _read_picture(io.BytesIO(source) if whole else source, page)
    except ImportError:
        raise
    except (MemoryError, OSError, ValueError) as error:
        raise ValueError(f"{name} cannot be read: {str(error) or 'out of memory'}") from error
    except Exception as error:  # what a decoder throws at a broken file is its own affair
        raise ValueError(f"{name} cannot be read: {type(error).__name__}: {error}") from error
    return for_model(image), pages


def _head(path) -> bytes:
    with open(path, "rb") as file:
        return file.read(4)


def _check(page: int, pages: int, shape: tuple[int, ...]) -> None:
    if not 0 <= page < pages:
        raise ValueError(f"it has {pages} pages, there is no page {page + 1}")
    pixels = int(np.prod([int(side) for side in shape], dtype=object)) if shape else 0
    if pixels > LARGEST:
        raise ValueError(f"a page of {'x'.join(map(str, shape))} is more than the {LARGEST} values read at once; "
                         "run `tessera segment` on the file, which works in tiles")


def _read_tiff(source, page: int) -> tuple[np.ndarray, int]:
    try:
        import tifffile
    except ImportError as error:
        raise extra("app", "a TIFF", error) from error
    with tifffile.TiffFile(source) as file:
        _check(page, len(file.pages), ())
        one = file.pages[page]
        _check(page, len(file.pages), one.shape)
        image = one.asarray()
        if one.axes.startswith("S"):  # colours in planes of their own
            image = np.moveaxis(image, 0, -1)
        if one.photometric == tifffile.PHOTOMETRIC.PALETTE and one.colormap is not None:
            image = np.take(one.colormap, image, axis=1).transpose(1, 2, 0)
        elif one.photometric == tifffile.PHOTOMETRIC.MINISWHITE and image.dtype.kind in "bu":
            image = ~image if image.dtype.kind == "b" else np.iinfo(image.dtype).max - image
        return image, len(file.pages)


def _read_picture(source, page: int) -> tuple[np.ndarray, int]:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise extra("app", "an image file", error) from error
    try:
        file = Image.open(source)
    except UnidentifiedImageError:
        raise ValueError("it is no PNG, JPEG, TIFF, BMP, PNM or WebP") from None
    with file:
        pages = getattr(file, "n_frames", 1)
        _check(page, pages, (file.height, file.width))
        file.seek(page)
        if file.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "RGBX", "La", "RGBa"):
            file = file.convert("RGB")
        image = np.asarray(file)
    if image.dtype == np.int32:  # Pillow's mode I, which holds 16 bits of a PNG or PGM
        image = image.clip(0, 65535).astype(np.uint16)
    return image, pages


def for_model(image: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, 3) of a type that models take: alpha is dropped, float64 and bool are converted."""
    if image.ndim == 3 and image.shape[2] in (2, 4):
        image = image[:, :, :image.shape[2] - 1]
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim != 2 and not (image.ndim == 3 and image.shape[2] == 3):
        raise ValueError(f"an image has the axes (height, width) or (height, width, 3), not {image.shape}")
    if image.size == 0:
        raise ValueError(f"an image of {image.shape[1]}x{image.shape[0]} has no pixels")
    kind, size = image.dtype.kind, image.dtype.itemsize
    if kind == "b":
        return image.astype(np.uint8) * np.uint8(255)
    if kind == "f":
        if not np.isfinite(image).all():
            raise ValueError(f"{np.count_nonzero(~np.isfinite(image))} values are NaN or infinite; replace them in the file")
        return image.astype(np.float32, copy=False)
    if kind == "i" and image.min() >= 0 or kind == "u" and size == 8:
        if size == 8:
            if image.max() > np.iinfo(np.uint32).max:
                raise ValueError(f"values go up to {image.max()}, and a model takes 32 bits at most")
            return image.astype(np.uint32)
        return image.astype(f"u{size}")
    if kind == "u":
        return image.astype(image.dtype.newbyteorder("="), copy=False)
    raise ValueError(f"values of {image.dtype}" + (" below zero" if kind == "i" else "") +
                     " are none that a model takes; convert them to uint8, uint16 or float32")


def write_tiff(path: str | os.PathLike[str], image) -> None:
    """(H, W) or (H, W, 3) of a type that models take, as a TIFF of one strip that is not compressed."""
    image = np.ascontiguousarray(for_model(np.asarray(image)))
    if image.dtype == np.float16:
        image = image.astype(np.float32)
    height, width = image.shape[:2]
    samples = 1 if image.ndim == 2 else 3
    short, long = 3, 4
    begin = 8  # of the pixels, behind the header
    behind = begin + image.nbytes + image.nbytes % 2
    bits = struct.pack(f"<{samples}H", *[8 * image.dtype.itemsize] * samples)
    entries = [(256, long, 1, width), (257, long, 1, height),
               (258, short, samples, behind if samples > 1 else int.from_bytes(bits, "little")),
               (259, short, 1, 1),  # not compressed
               (262, short, 1, 2 if samples > 1 else 1),  # RGB, black is zero
               (273, long, 1, begin), (277, short, 1, samples), (278, long, 1, height), (279, long, 1, image.nbytes),
               (339, short, 1, 3 if image.dtype.kind == "f" else 1)]
    with open(path, "wb") as file:
        file.write(struct.pack("<2sHI", b"II", 42, behind + 6))
        file.write(image.astype(image.dtype.newbyteorder("<"), copy=False).tobytes())
        file.write(bytes(image.nbytes % 2) + bits.ljust(6, b"\0"))
        file.write(struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *one) for one in entries) + bytes(4))


def picture(image: np.ndarray, low: float = 0.5, high: float = 99.5) -> np.ndarray:
    """(H, W, 3) uint8 for a screen; what is not 8 bits is stretched between two percentiles."""
    if image.dtype != np.uint8:
        black, white = np.percentile(image, (low, high))
        scale = 255 / (white - black) if white > black else 0
        image = ((image.astype(np.float32) - np.float32(black)) * np.float32(scale)).clip(0, 255).astype(np.uint8)
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)


def outlines(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of anything but background that touch another value."""
    edge = np.zeros(mask.shape, bool)
    across, down = mask[:, :-1] != mask[:, 1:], mask[:-1] != mask[1:]
    edge[:, :-1] |= across
    edge[:, 1:] |= across
    edge[:-1] |= down
    edge[1:] |= down
    return edge & (mask > 0)


def overlay(base: np.ndarray, mask: np.ndarray, colours, opacity: float, outline: bool = False) -> np.ndarray:
    """(H, W, 3) uint8: the colours of the classes but the first over the picture, or along their borders alone."""
    painted = outlines(mask) if outline else mask > 0
    over = np.asarray(colours, np.float32)[mask[painted]]
    result = base.copy()
    result[painted] = (base[painted] * (1 - opacity) + over * opacity + 0.5).astype(np.uint8)
    return result


def trace(inside: np.ndarray) -> np.ndarray:
    """(n, 2) int: corners x, y of the outer outline of the 8-connected region that holds the first pixel, clockwise.

    The outline runs along the edges of pixels, so that a polygon of it, its holes filled, has the pixels' area.
    """
    padded = np.pad(inside, 1)
    first = int(padded.argmax())
    start = first % padded.shape[1], first // padded.shape[1]
    (x, y), dx, dy = start, 1, 0
    corners = [start]
    while True:
        x, y = x + dx, y + dy
        if (x, y) == start:
            return np.array(corners) - 1
        ahead_left = padded[y + (dy - dx - 1) // 2, x + (dx + dy - 1) // 2]
        ahead_right = padded[y + (dy + dx - 1) // 2, x + (dx - dy - 1) // 2]
        if ahead_left:
            dx, dy = dy, -dx
        elif not ahead_right:
            dx, dy = -dy, dx
        else:
            continue
        corners.append((x, y))
