"""Arrays larger than memory: what windows give is what the whole gives, to the byte; runs go on; bad arrays are refused."""

import json
import pickle
import random

import numpy as np
import pytest
import tessera
from test_tessera import HAN, make_scans, picture

TILE = 160  # pixels: several windows of what is quick to segment


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network that reads 30 pixels around one, as a file."""
    folder = tmp_path_factory.mktemp("trained")
    make_scans(folder / "scans")
    tessera.train_unet(folder / "scans", folder / "unit.safetensors", base=4, depth=2, epochs=6, seed=3, device="cpu",
                       threads=1, tile=64, validation=0.34)
    return folder / "unit.safetensors"


@pytest.fixture(scope="module")
def unet(trained):
    return tessera.load(with_preprocessing(trained, trained.with_name("standardize.safetensors"), scale="standardize"),
                        device="cpu", threads=2, probabilities=True)


def with_preprocessing(model, path, **changes):
    """The model with another preprocessing, at `path`."""
    content = model.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    config = json.loads(header["__metadata__"]["tessera"])
    config["preprocessing"] |= changes
    header["__metadata__"]["tessera"] = json.dumps(config)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[begin:])
    return path


class Watched:
    """An array that is seen to be read."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, []

    def __getitem__(self, index):
        self.read.append(index)
        return self.array[index]


def test_windows_in_any_order_give_the_whole(unet):
    image = picture(420, 390)
    whole, scale = unet(image), unet.pixel_scale(image)
    windows = pickle.loads(pickle.dumps(unet.windows(420, 390, TILE)))
    assert len(windows) > 3 and isinstance(windows[0], tessera.Window) and isinstance(scale, tessera.PixelScale)
    random.Random(5).shuffle(windows)
    seen = np.zeros(image.shape, int)
    for window in windows:
        made = unet.segment_window(image[window.read], window, scale)
        np.testing.assert_array_equal(made.mask, whole.mask[window.kept])
        np.testing.assert_array_equal(made.probabilities, whole.probabilities[window.kept])
        seen[window.kept] += 1
    assert (seen == 1).all()
    one = unet.window(420, 390, 100, 107, 33, 41)
    np.testing.assert_array_equal(unet.segment_window(image[one.read], one, scale).mask, whole.mask[100:133, 107:148])
    assert unet.plan_window(one).arena < unet.plan(420, 390).arena


def test_a_tall_window_runs_in_bands_that_can_be_stopped(unet):
    image, seen = picture(700, 90), []
    window, scale = unet.window(700, 90, 100, 0, 500, 90), unet.pixel_scale(image)
    made = unet.segment_window(image[window.read], window, scale, lambda *at: seen.append(at))
    np.testing.assert_array_equal(made.probabilities, unet(image).probabilities[window.kept])
    assert len(seen) > 2 and seen == [(i + 1, len(seen)) for i in range(len(seen))]

    def stop(done, bands):
        raise LookupError("enough")
    with pytest.raises(LookupError, match="enough"):
        unet.segment_window(image[window.read], window, scale, stop)


def test_windows_that_are_none_are_refused(unet):
    image = picture(100, 100)
    window, scale = unet.window(100, 100, 10, 10, 20, 20), unet.pixel_scale(image)
    part = image[window.read]
    for call, said in ((lambda: unet.windows(900, 900, 20), "too small"),
                       (lambda: unet.window(100, 100, 90, 0, 11, 5), "does not lie in an image of 100 x 100"),
                       (lambda: unet.segment_window(image, window, scale), "100 x 100 pixels were given to a window"),
                       (lambda: unet.segment_window(part, window._replace(read_y=1), scale), "other pixels"),
                       (lambda: unet.segment_window(part, window), "needs"),
                       (lambda: unet.segment_window(part, window, tessera.PixelScale(0, -1)), "divisor"),
                       (lambda: tessera.load(HAN).windows(100, 100), "classifies documents")):
        with pytest.raises(RuntimeError, match=said):
            call()
    with pytest.raises(TypeError):
        unet.segment_window(image, (1, 2, 3), scale)


def stores(folder, image):
    """The image in everything that holds arrays, by name; with a fitting place for a mask."""
    height, width = image.shape[:2]
    mapped = np.lib.format.open_memmap(folder / "image.npy", "w+", image.dtype, image.shape)
    mapped[...] = image
    yield "memmap", np.load(folder / "image.npy", mmap_mode="r"), np.lib.format.open_memmap(
        folder / "mask.npy", "w+", np.uint16, (height, width))
    try:
        import zarr
    except ImportError:
        pass
    else:
        stored = zarr.create_array(folder / "image.zarr", shape=image.shape, dtype=image.dtype,
                                   chunks=(50, 70, *image.shape[2:]))
        stored[...] = image
        yield "zarr", stored, zarr.create_array(folder / "mask.zarr", shape=(height, width), dtype="uint8", chunks=(50, 48))
        yield "shards", stored, zarr.create_array(folder / "shards.zarr", shape=(height, width), dtype="uint8",
                                                  chunks=(16, 16), shards=(64, 32))
    try:
        import h5py
    except ImportError:
        pass
    else:
        file = h5py.File(folder / "image.h5", "w")
        yield "h5py", file.create_dataset("image", data=image), file.create_dataset("mask", (height, width), "uint8",
                                                                                   chunks=(250, 64))
    try:
        import dask.array
    except ImportError:
        pass
    else:
        yield "dask", dask.array.from_array(image, chunks=64), np.zeros((height, width), np.uint8)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "float32", "rgb", ">u2", "float64"])
def test_arrays_of_all_kinds_give_the_whole_to_the_byte(unet, tmp_path, kind):
    image = picture(301, 260, np.dtype(kind).newbyteorder("=").type if kind not in ("rgb", "float64") else np.float32)
    if kind == "rgb":
        image = (np.stack([image, image[::-1], image[:, ::-1]], 2) * 255).astype(np.uint8)
    whole = unet(image)
    assert 0 < whole.mask.mean() < 1
    names = []
    for name, source, sink in stores(tmp_path, image.astype(kind) if kind != "rgb" else image):
        watched, seen = Watched(source), []
        probabilities = np.zeros(whole.probabilities.shape, np.float32)
        tessera.segment_array(unet, watched, sink, tile=TILE, probabilities=probabilities,
                              progress=lambda *at: seen.append(at))
        np.testing.assert_array_equal(np.asarray(sink[:, :]), whole.mask, err_msg=name)
        np.testing.assert_array_equal(probabilities, whole.probabilities, err_msg=name)
        assert len(seen) > 3 and seen == [(i + 1, len(seen)) for i in range(len(seen))]
        for rows, columns in watched.read[-len(seen):]:
            assert rows.stop - rows.start <= TILE and columns.stop - columns.start <= TILE
        names.append(name)
    assert "memmap" in names and (kind == "rgb" or len(names) > 1 or not pytest.importorskip("zarr"))


@pytest.mark.parametrize("changes", [{"scale": "min_max"}, {"scale": "unit"}, {"scale": "unit", "range": "auto"},
                                     {"scale": "none", "mean": [90.0], "std": [40.0]}, {"scale": "standardize"}],
                         ids=lambda changes: "_".join(map(str, changes.values())))
def test_scales_of_all_pixels_are_found_in_bands(trained, tmp_path, monkeypatch, changes):
    monkeypatch.setattr(tessera._arrays, "BAND", 5000)  # bytes: 19 rows
    model = tessera.load(with_preprocessing(trained, tmp_path / "model.safetensors", **changes), device="cpu", probabilities=True)
    image = picture(301, 260)
    image[280, 3] = 255  # the greatest lies far from most windows
    watched, sink = Watched(image), np.zeros(image.shape, np.uint8)
    probabilities = np.zeros(model(image).probabilities.shape, np.float32)
    tessera.segment_array(model, watched, sink, tile=TILE, probabilities=probabilities)
    np.testing.assert_array_equal(probabilities, model(image).probabilities)
    bands = [index for index in watched.read if index[1] == slice(0, 260)]
    passes = {"standardize": 2, "min_max": 1}.get(changes["scale"], "range" in changes)
    assert len(bands) == passes * 16
    assert (model.pixel_scale(image) is None) == (passes == 0)


class Endless:
    """2**40 pixels that are made when they are read."""

    shape, dtype = (2**20, 2**20), np.dtype("uint8")

    def __getitem__(self, index):
        rows, columns = index
        assert (rows.stop - rows.start) * (columns.stop - columns.start) < 2**24
        return np.random.default_rng(rows.start).integers(0, 255, (rows.stop - rows.start, columns.stop - columns.start), np.uint8)

    def __setitem__(self, index, value):
        self.written = index, value


def test_a_source_may_be_larger_than_memory(trained):
    model = tessera.load(trained, device="cpu")
    source, sink = Endless(), Endless()

    def enough(done, windows):
        assert windows * 8192**2 >= 2**40
        if done == 2:
            raise LookupError("enough")
    with pytest.raises(LookupError, match="enough"):
        tessera.segment_array(model, source, sink, tile=400, progress=enough)
    (rows, columns), mask = sink.written
    assert rows.start == 0 < columns.start and mask.shape == (rows.stop, columns.stop - columns.start)
    window = model.window(2**20, 2**20, 0, columns.start, *mask.shape)
    np.testing.assert_array_equal(model.segment_window(source[window.read], window).mask, mask)


def test_memory_picks_the_windows(unet):
    image = tessera._arrays.Source(np.broadcast_to(np.uint8(7), (40000, 50000)))
    choose = tessera._arrays.choose_sides
    sides = [choose(unet, image, (256, 300), 0, size) for size in ("600M", "2G")]
    assert sides[0] < sides[1] and all(a % 256 == 0 and b % 300 == 0 for a, b in sides)
    assert max(choose(unet, image, (20000, 300), 400)) < 400  # no whole chunks
    for call in (lambda: choose(unet, image, (20000, 300), 400, whole_chunks=True),
                 lambda: tessera.segment_array(unet, picture(900, 900), np.zeros((900, 900), np.uint8), max_memory="1M")):
        with pytest.raises(RuntimeError, match="smallest windows"):
            call()


def test_a_run_that_ended_goes_on(unet, trained, tmp_path):
    image, state = picture(301, 260), tmp_path / "state"
    expected = unet(image).mask
    sink = np.zeros(image.shape, np.uint8)

    def run(source, sink, stop=None, model=unet, **options):
        def progress(done, windows):
            if done == stop:
                raise LookupError("enough")
        tessera.segment_array(model, source, sink, tile=TILE, state=state, progress=progress, **options)
    with pytest.raises(LookupError):
        run(image, sink, 3)
    lines = state.read_text().splitlines(keepends=True)
    assert len(lines) == 4 and np.count_nonzero(sink) < np.count_nonzero(expected)
    state.write_text("".join(lines) + lines[-1][:3])  # a kill tears a line
    for other, name in ((picture(300, 260), "shape"), (image.astype(np.uint16), "dtype")):
        with pytest.raises(ValueError, match=name):
            run(other, np.zeros(other.shape, np.uint8))
    with pytest.raises(ValueError, match="model"):
        run(image, sink, model=tessera.load(trained))
    watched = Watched(image)
    run(watched, sink)
    np.testing.assert_array_equal(sink, expected)
    windows = len(state.read_text().splitlines()) - 1
    assert len(watched.read) == windows - 3, "pixels were read for what was done, or for their scale"
    run(watched, sink)
    assert len(watched.read) == windows - 3
    state.write_text("no state\n")
    with pytest.raises(ValueError, match="is not the state"):
        run(image, sink)


def test_arrays_that_do_not_fit_are_refused(unet, trained):
    image, mask = picture(40, 50), np.zeros((40, 50), np.uint8)
    for source, error, said in ((image[None, None], ValueError, "choose a plane"),
                                (np.zeros((40, 50, 2), np.uint8), ValueError, "RGB"),
                                (image.astype(np.int16), TypeError, "astype"), (image > 3, TypeError, "astype"),
                                ([[1, 2]], TypeError, "slices"), (np.zeros((0, 50), np.uint8), ValueError, "nothing")):
        with pytest.raises(error, match=said):
            tessera.segment_array(unet, source, mask)
    for sink, error, said in ((mask[1:], ValueError, "expected that of the mask"), (mask.astype(np.float32), TypeError, "uint8"),
                              (mask > 0, TypeError, "uint8"), (image, ValueError, "the sink is the source"),
                              (image[:], ValueError, "the sink is the source")):
        with pytest.raises(error, match=said):
            tessera.segment_array(unet, image, sink)
    with pytest.raises(ValueError, match="probabilities is"):
        tessera.segment_array(unet, image, mask, probabilities=np.zeros((40, 50, 7), np.float32))
    with pytest.raises(ValueError, match="probabilities=True"):
        tessera.segment_array(tessera.load(trained), image, mask, probabilities=np.zeros((40, 50, 2), np.float32))
    with pytest.raises(RuntimeError, match="nan"):
        tessera.segment_array(unet, np.full((40, 50), np.nan, np.float32), mask)
    with pytest.raises(RuntimeError, match="classifies documents"):
        tessera.segment_array(tessera.load(HAN), image, mask)

    class Odd(Watched):
        def __getitem__(self, index):
            return self.array[3:]
    with pytest.raises(ValueError, match="does not slice"):
        tessera.segment_array(unet, Odd(image), mask)
