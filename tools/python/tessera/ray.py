"""Batches on a Ray cluster: callable classes for Dataset.map_batches, and a job of them from the command line.

    import ray, tessera.ray
    images = ray.data.read_binary_files("s3://scans/", include_paths=True)          # columns path, bytes
    done = images.map_batches(tessera.ray.Segmenter, fn_constructor_args=("/models/unet.safetensors",),
                              batch_size=8, compute=ray.data.ActorPoolStrategy(min_size=1, max_size=64), num_cpus=2)
    done.flat_map(tessera.ray.objects).write_parquet("s3://objects/")               # a row for each object

    tessera.ray.segment_zarr("/models/unet.safetensors", "/shared/slide.zarr", "/shared/mask.zarr")   # of any size

    python -m tessera.ray segment s3://scans/ s3://masks/ -m /models/unet.safetensors --state /shared/state

An actor opens the model once, from a path that every node sees, and uses as many threads as Ray grants it processors.
A row that fails has its reason in the column `error` and ends nothing; the answers are those of one process, to the byte.
"""

from __future__ import annotations

import argparse
import io
import json
import os
from dataclasses import asdict
from typing import Any

import numpy as np

from . import load
from ._arrays import (Grid, PixelScale, Progress, Source, State, check_sink, choose_sides, chunks_of, run_of,
                      segment_window_of)
from ._images import extra, for_model, read

Batch = dict[str, np.ndarray]


def _column(values: list) -> np.ndarray:
    """An object for each row, also where all are of one shape."""
    column = np.empty(len(values), object)
    column[:] = values
    return column


class Segmenter:
    """Adds to each row `mask` (PNG of class ids), `objects` (JSON records of Segmentation.objects) and `error`.

    model    path of a UNet
    column   of the images: file contents (PNG, JPEG, TIFF's first page, ...) or arrays (H, W[, C])
    keep     whether the images stay in the rows
    options  of tessera.load
    """

    def __init__(self, model: str, column: str = "bytes", *, keep: bool = False, **options: Any):
        self._column, self._keep = column, keep
        self._model = load(model, **options)
        if self._model.task != "segment":
            raise ValueError(f"{model} classifies documents; a Segmenter takes a UNet")

    def __call__(self, batch: Batch) -> Batch:
        answers = [self._answer(image) for image in _rows(batch, self._column)]
        kept = {name: values for name, values in batch.items() if self._keep or name != self._column}
        masks, objects, errors = zip(*answers, strict=True) if answers else ((), (), ())
        return kept | {"mask": _column(masks), "objects": _column(objects), "error": _column(errors)}

    def _answer(self, image) -> tuple[bytes, str, str]:
        from PIL import Image
        try:
            pixels = read(bytes(image))[0] if isinstance(image, (bytes, bytearray, memoryview)) else for_model(np.asarray(image))
            result = self._model.segment(pixels)
        except (MemoryError, OSError, RuntimeError, TypeError, ValueError) as error:
            return b"", "[]", str(error) or type(error).__name__
        png = io.BytesIO()
        Image.fromarray(result.mask).save(png, "png")
        return png.getvalue(), result.objects().to_json(orient="records"), ""


class Classifier:
    """Adds to each row `label`, `probabilities` (by class), `unknown_words` and `error`, with attention also `sentences`.

    model      path of a HAN
    column     of the texts
    attention  whether sentences and words with their weights are added, as JSON
    options    of tessera.load
    """

    def __init__(self, model: str, column: str = "text", *, attention: bool = False, **options: Any):
        self._column, self._attention = column, attention
        self._model = load(model, **options)
        if self._model.task != "classify":
            raise ValueError(f"{model} segments images; a Classifier takes a HAN")

    def __call__(self, batch: Batch) -> Batch:
        texts = _rows(batch, self._column)
        wrong = ["" if isinstance(text, str) else f"a text is a str, not {type(text).__name__}" for text in texts]
        answers = self._model.classify([text if isinstance(text, str) else "" for text in texts])
        none = np.full(len(self._model.classes), np.nan, np.float32)
        added = {
            "label": _column([answer.label or "" for answer in answers]),
            "probabilities": np.stack([none if answer.error else answer.probabilities for answer in answers])
            if answers else np.empty((0, len(none)), np.float32),
            "unknown_words": np.array([answer.unknown_words for answer in answers], np.int64),
            "error": _column([said or answer.error or "" for said, answer in zip(wrong, answers, strict=True)]),
        }
        if self._attention:
            added["sentences"] = _column([json.dumps([asdict(one) for one in answer.sentences], ensure_ascii=False)
                                          for answer in answers])
        return dict(batch) | added


def _rows(batch: Batch, column: str) -> list:
    if column not in batch:
        raise KeyError(f"there is no column {column!r}, only {', '.join(batch)}")
    return list(batch[column])


def objects(row: dict[str, Any]) -> list[dict[str, Any]]:
    """For Dataset.flat_map after a Segmenter: a row for each object, with the columns of the image's row but its mask."""
    rest = {name: value for name, value in row.items() if name not in ("mask", "objects", "error", "bytes", "image")}
    return [rest | one for one in json.loads(row["objects"])]


class _Windows:
    """Makes rectangles of the mask of a Zarr array."""

    def __init__(self, model: str, source: str, sink: str, scale: PixelScale | None, options: dict[str, Any]):
        import zarr
        self._model, self._scale = load(model, **options), scale
        self._source, self._sink = Source(zarr.open_array(source, mode="r")), zarr.open_array(sink, mode="r+")

    def __call__(self, batch: Batch) -> Batch:
        for box in batch["box"]:
            segment_window_of(self._model, self._source, self._sink, tuple(map(int, box)), self._scale)
        return batch


def segment_zarr(model: str, source: str, sink: str, *, tile: int = 0, max_memory: int | str | None = None,
                 state: str | None = None, actors: tuple[int, int] = (1, 1024), cpus: float = 1, gpus: float = 0,
                 progress: Progress | None = None, **options: Any) -> int:
    """Segments a Zarr array of any size on the cluster, to the bytes of one process; returns how many windows it made.

    A task makes whole chunks (or shards) of the sink, so that no two write the same, and one that is lost and made again
    writes the same bytes.

    model, source, sink  paths or addresses that every node sees. The source is (H, W) or (H, W, C); the sink is (H, W) of
                         an integer type, and made where there is none: uint8, in chunks of the source's sides
    tile, max_memory     of segment_array(): of a worker, whose windows are whole chunks of the sink
    state                a text file of the driver's that tells what is done: killed, a run goes on where it was
    actors, cpus, gpus   how many workers there are, at least and at most, and what each takes
    progress             called with (windows done, all windows)
    options              of tessera.load
    """
    try:
        import ray
        import zarr
    except ImportError as error:
        raise extra("ray", "a batch on a cluster", error) from error
    model = os.path.abspath(model)
    opened = load(model, **options)
    image = Source(zarr.open_array(source, mode="r"))
    try:
        out = zarr.open_array(sink, mode="r+")
    except FileNotFoundError:
        out = zarr.create_array(sink, shape=image.shape[:2], chunks=chunks_of(image.array), dtype="uint8")
    check_sink(opened, image, out)
    known = State(state, run_of(opened, image, False) if state is not None else {})
    if known.sides is None:
        try:
            sides = choose_sides(opened, image, chunks_of(out), tile, max_memory, whole_chunks=True)
        except RuntimeError as error:
            raise RuntimeError(f"{error}; windows are whole chunks of the sink, which may be made smaller") from error
        known.begin(sides, opened.pixel_scale(image.array))
    grid = Grid(image.shape, known.sides)
    left = [{"box": np.array(box)} for box in grid if box[:2] not in known.done]
    if not left:
        return 0
    made = ray.data.from_items(left, override_num_blocks=min(len(left), 1000)).map_batches(
        _Windows, fn_constructor_args=(model, source, sink, known.scale, options), batch_size=1, num_cpus=cpus, num_gpus=gpus,
        compute=ray.data.ActorPoolStrategy(min_size=actors[0], max_size=actors[1]))
    for row in made.iter_rows():
        known.add(int(row["box"][0]), int(row["box"][1]))
        if progress is not None:
            progress(len(known.done), len(grid))
    if len(known.done) != len(grid):
        raise RuntimeError(f"{len(known.done)} of {len(grid)} windows were made; call again with the same state")
    return len(left)


def main(arguments: list[str] | None = None) -> int:
    """The job: images or documents to Parquet. Returns 3 where rows failed, as the program does."""
    parser = argparse.ArgumentParser(prog="python -m tessera.ray", description=__doc__.split("\n")[0])
    parser.add_argument("verb", choices=("segment", "classify", "zarr"))
    parser.add_argument("input", help="folder or object storage: images; or Parquet with texts; a Zarr array of any size")
    parser.add_argument("output", help="folder or object storage for Parquet files; the Zarr array of the mask")
    parser.add_argument("-m", "--model", required=True, help="model file, at the same path on every node")
    parser.add_argument("--column", default=None, help="of the texts (text)")
    parser.add_argument("--id", default=None, help="column that tells documents apart (id); of images it is their path")
    parser.add_argument("--state", help="folder that all nodes share (of a Zarr array a file): a run that was killed goes on")
    parser.add_argument("--actors", type=int, nargs=2, default=(1, 1024), metavar=("MIN", "MAX"))
    parser.add_argument("--cpus", type=float, default=1, help="of an actor")
    parser.add_argument("--gpus", type=float, default=0, help="of an actor")
    parser.add_argument("--batch", type=int, default=16, help="rows of a call")
    parser.add_argument("--blocks", type=int, default=0, help="parts that the rows are split into; 0: as read")
    parser.add_argument("--address", help="of the cluster; default: RAY_ADDRESS, else this machine")
    options = parser.parse_args(arguments)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise extra("ray", "a batch on a cluster", error) from error
    ray.init(address=options.address, log_to_driver=False)
    if options.verb == "zarr":
        made = segment_zarr(options.model, options.input, options.output, state=options.state, actors=tuple(options.actors),
                            cpus=options.cpus, gpus=options.gpus)
        print(f"{made} windows in {options.output}")
        return 0
    segments = options.verb == "segment"
    name = "path" if segments else options.id or "id"
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    if options.state:
        from ray.data.checkpoint import CheckpointConfig
        context.checkpoint_config = CheckpointConfig(
            id_column=name, checkpoint_path=options.state, delete_checkpoint_on_success=False)
    rows = (ray.data.read_binary_files(options.input, include_paths=True) if segments
            else ray.data.read_parquet(options.input))
    if options.blocks:
        rows = rows.repartition(options.blocks)
    worker = Segmenter if segments else Classifier
    rows = rows.map_batches(worker, fn_constructor_args=(os.path.abspath(options.model), options.column or
                                                         ("bytes" if segments else "text")),
                            batch_size=options.batch, num_cpus=options.cpus, num_gpus=options.gpus,
                            compute=ray.data.ActorPoolStrategy(min_size=options.actors[0], max_size=options.actors[1]))
    rows.write_parquet(options.output)
    context.checkpoint_config = None  # which would leave out of the count what it knows as done
    done = ray.data.read_parquet(options.output, columns=[name, "error"])
    failed = done.filter(lambda row: row["error"] != "").count()
    count, different = done.count(), done.groupby(name).count().count()
    print(f"{count} rows in {options.output}, {failed} of them with an error")
    if different != count:
        raise SystemExit(f"tessera: {count} rows have {different} values of {name}; --id names a column that tells rows apart")
    return 3 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
