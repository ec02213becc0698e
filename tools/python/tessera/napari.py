"""The napari plugin: segments an image layer, a plane at a time, and shows classes, objects and their table.

The extra `napari` brings what it needs. Objects are saved for ImageJ as 16-bit labels or as a set of ROIs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pandas
from magicgui.widgets import (
    CheckBox,
    ComboBox,
    Container,
    FileEdit,
    Label,
    LineEdit,
    ProgressBar,
    PushButton,
    SpinBox,
    Table,
    create_widget,
)
from napari.layers import Image, Labels
from napari.qt.threading import create_worker
from napari.utils.notifications import show_error, show_warning
from superqt.utils import ensure_main_thread

from . import Model, load
from ._images import for_model, trace
from .program import train_unet


def segment_planes(model: Model, data, rgb: bool, min_area: int | None = None, progress=None):
    """Masks, labels and objects of every plane of an array (..., H, W) or, with rgb, (..., H, W, C).

    Returns (..., H, W) uint8 class ids, (..., H, W) uint16 labels (uint32 beyond 65535 objects), counted on from
    plane to plane, and the table of Segmentation.objects with the indices of the plane in front ("axis-0", ...).
    progress hears (tiles done, all tiles) of each plane.
    """
    data_axes = 3 if rgb else 2
    planes = tuple(data.shape[:-data_axes])
    size = tuple(data.shape[len(planes):][:2])
    if len(data.shape) < data_axes:
        raise ValueError(f"an image layer has {data_axes} axes or more, not {len(data.shape)}")
    mask, labels = np.zeros(planes + size, np.uint8), np.zeros(planes + size, np.uint32)
    tables, count = [], 0
    for at in np.ndindex(planes):
        result = model.segment(for_model(np.asarray(data[at])), progress)
        mask[at] = result.mask
        found = result.labels(min_area=min_area)
        table = result.objects(min_area=min_area)
        labels[at] = np.where(found > 0, found + np.uint32(count), 0)
        table["label"] += count
        for axis, index in reversed(list(enumerate(at))):
            table.insert(1, f"axis-{axis}", index)
        tables.append(table)
        count += len(table)
    return mask, labels.astype(np.uint16) if count < 2**16 else labels, pandas.concat(tables, ignore_index=True)


def _tell(label: Label, said: str, error: Exception | None) -> None:
    label.value = said or str(error) or "out of memory"
    if error is not None and not isinstance(error, InterruptedError):
        show_error(label.value)


class Panel(Container):
    """The dock widget. A run is in a thread of its own: the window lives on, and Stop ends it between tiles."""

    def __init__(self, napari_viewer):
        self._viewer = napari_viewer
        self._layer = create_widget(annotation=Image, label="image")
        self._path = FileEdit(label="model", filter="Models (*.safetensors *.pth *.pt *.onnx *.keras *.h5 *.hdf5)")
        self._device = ComboBox(label="device", choices=("auto", "cpu", "cuda"))
        self._auto = CheckBox(label="stretch", value=False, tooltip="each plane's own values become 0 and 1 (range auto)")
        self._min_area = SpinBox(label="smallest object", value=0, min=0, max=2**30, tooltip="pixels; 0: as the model was trained")
        self._start = PushButton(text="Segment")
        self._halt = PushButton(text="Stop", enabled=False)
        self._bar = ProgressBar(label="tiles", value=0, max=1)
        self._said = Label(value="")
        self._table = Table()
        self._stopping = Event()
        self._objects = None  # the layer that the table is of
        self._opened: tuple[Any, Model | None] = (None, None)
        super().__init__(widgets=[self._layer, self._path, self._device, self._auto, self._min_area, self._start,
                                  self._halt, self._bar, self._said, self._table])
        self._start.changed.connect(self.start)
        self._halt.changed.connect(self.stop)
        self._table.native.itemSelectionChanged.connect(self._look)

    def start(self) -> None:
        """Runs the model on the chosen layer."""
        layer = self._layer.value
        if layer is None:
            return show_warning("open an image first")
        if not self._path.value.is_file():
            return show_warning("choose a model file first")
        self._start.enabled, self._halt.enabled = False, True
        self._stopping.clear()
        worker = create_worker(self._work, layer.data[0] if layer.multiscale else layer.data, layer.rgb)
        worker.returned.connect(lambda found: self._show(layer, *found))
        worker.finished.connect(self._finish)
        worker.start()

    def stop(self) -> None:
        """Ends the run at its next tile."""
        self._stopping.set()

    def _work(self, data, rgb: bool):
        key = (self._path.value, self._device.value, self._auto.value)

        def hear(done: int, tiles: int) -> None:
            if self._stopping.is_set():
                raise InterruptedError("stopped")
            self._progress(done, tiles)
        try:
            if self._opened[0] != key:
                self._opened = key, load(key[0], device=key[1], range="auto" if key[2] else None)
            return segment_planes(self._opened[1], data, rgb, self._min_area.value or None, hear)
        except (InterruptedError, MemoryError, RuntimeError, TypeError, ValueError) as error:
            return None, None, error

    @ensure_main_thread
    def _progress(self, done: int, tiles: int) -> None:
        self._bar.max, self._bar.value = tiles, done

    def _show(self, layer, mask, labels, table) -> None:
        if mask is None:
            return _tell(self._said, "", table)
        model, axes = self._opened[1], mask.ndim
        place = {"scale": layer.scale[-axes:], "translate": layer.translate[-axes:]}
        colours = {i: (*(part / 255 for part in colour), 1.0) for i, colour in enumerate(model.colours)}
        colours |= {0: (0, 0, 0, 0), None: (0, 0, 0, 0)}
        self._viewer.add_labels(mask, name=f"{layer.name} classes", opacity=0.4, visible=False, colormap=colours, **place)
        features = pandas.concat([pandas.DataFrame({"label": [0]}), table], ignore_index=True)
        self._objects = self._viewer.add_labels(labels, name=f"{layer.name} objects", opacity=0.5, features=features, **place)
        self._table.value = table
        self._said.value = f"{len(table)} objects"
        if labels.dtype != np.uint16:
            show_warning(f"{len(table)} objects: more than 16-bit labels can number")

    def _finish(self) -> None:
        self._start.enabled, self._halt.enabled = True, False

    def _look(self) -> None:
        """Shows the object of the row that was clicked."""
        rows = {item.row() for item in self._table.native.selectedItems()}
        if len(rows) != 1 or self._objects not in self._viewer.layers:
            return
        row = dict(zip(self._table.column_headers, self._table.data[rows.pop()], strict=True))
        self._objects.selected_label = int(row["label"])
        planes = [int(row[f"axis-{axis}"]) for axis in range(self._objects.ndim - 2)]
        at = self._objects.data_to_world([*planes, float(row["centroid-0"]), float(row["centroid-1"])])
        for axis, value in enumerate(at[:-2]):
            self._viewer.dims.set_point(axis, value)
        self._viewer.camera.center = at[-2:]


def write_pairs(folder: Path, data, rgb: bool, painted) -> int:
    """images/ and masks/ of the planes that something is painted on, for train_unet(mask_format="ids,ignore=255").

    Label 1 is class 0, label 2 class 1, and so on; what is not painted is not learnt from. Returns the classes' number.
    """
    import tifffile
    planes = tuple(data.shape[:-3 if rgb else -2])
    painted = np.asarray(painted)
    if painted.shape != planes + tuple(data.shape[len(planes):][:2]):
        raise ValueError(f"the labels are {painted.shape} and the image {tuple(data.shape)}; paint on labels of the same size")
    if painted.max(initial=0) > 255 or len(np.unique(painted[painted > 0])) < 2:
        raise ValueError("paint at least two classes: label 1 for background, 2 and on (to 255) for what is to be found")
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number, at in enumerate(np.ndindex(planes)):
        if not painted[at].any():
            continue
        tifffile.imwrite(folder / f"images/{number:05}.tif", for_model(np.asarray(data[at])),
                         photometric="rgb" if rgb else "minisblack")
        mask = np.where(painted[at] > 0, painted[at].astype(np.int64) - 1, 255).astype(np.uint8)
        tifffile.imwrite(folder / f"masks/{number:05}.tif", mask, photometric="minisblack")
    return int(painted.max())


class TrainPanel(Container):
    """Trains a UNet on what is painted: label 1 is background, 2 and on are the classes to find."""

    def __init__(self, napari_viewer):
        self._viewer = napari_viewer
        self._layer = create_widget(annotation=Image, label="image")
        self._painted = create_widget(annotation=Labels, label="painted")
        self._names = LineEdit(label="classes", value="background,object", tooltip="names of labels 1, 2, ...")
        self._output = FileEdit(label="model to write", mode="w", filter="Models (*.safetensors)")
        self._base = ComboBox(label="channels at the top", choices=(4, 8, 16, 32, 64), value=16)
        self._epochs = SpinBox(label="epochs", value=20, min=1, max=100000)
        self._start = PushButton(text="Train")
        self._halt = PushButton(text="Stop", enabled=False)
        self._said = Label(value="")
        self._stopping = Event()
        super().__init__(widgets=[self._layer, self._painted, self._names, self._output, self._base, self._epochs,
                                  self._start, self._halt, self._said])
        self._start.changed.connect(self.start)
        self._halt.changed.connect(self.stop)

    def start(self) -> None:
        """Trains in a thread of its own."""
        layer, painted = self._layer.value, self._painted.value
        if layer is None or painted is None or not self._output.value.name:
            return show_warning("choose an image, the labels painted on it, and a file for the model")
        self._start.enabled, self._halt.enabled = False, True
        self._stopping.clear()
        data = layer.data[0] if layer.multiscale else layer.data
        worker = create_worker(self._work, data, layer.rgb, painted.data)
        worker.returned.connect(lambda said: _tell(self._said, *said))
        worker.finished.connect(self._finish)
        worker.start()

    def stop(self) -> None:
        """Ends the training at its next epoch."""
        self._stopping.set()

    def _work(self, data, rgb: bool, painted) -> tuple[str, Exception | None]:
        output = self._output.value.with_suffix(".safetensors")

        def hear(line: dict[str, Any]) -> bool:
            self._say(f"epoch {line.get('epoch')}: loss {line.get('train_loss', float('nan')):.4f}")
            return not self._stopping.is_set()
        try:
            with tempfile.TemporaryDirectory() as folder:
                count = write_pairs(Path(folder) / "pairs", data, rgb, painted)
                names = [name.strip() for name in self._names.value.split(",")]
                names = (names + [f"class {i}" for i in range(len(names), count)])[:count]
                train_unet(Path(folder) / "pairs", output, on_epoch=hear, epochs=self._epochs.value,
                           base=self._base.value, channels=3 if rgb else 1, scale="standardize", norm="before_relu",
                           validation="none", mask_format="ids,ignore=255", classes=names, metrics=Path(folder) / "run")
        except (OSError, RuntimeError, ValueError) as error:
            return "", error
        return "stopped, no model written" if self._stopping.is_set() else f"{output.name} is written", None

    @ensure_main_thread
    def _say(self, text: str) -> None:
        self._said.value = text

    def _finish(self) -> None:
        self._start.enabled, self._halt.enabled = True, False


def write_labels(path: str, data: Any, meta: dict) -> list[str]:
    """A TIFF of 16-bit labels that ImageJ opens, planes as its slices."""
    import tifffile
    labels = np.asarray(data)
    if labels.max(initial=0) >= 2**16 or labels.min(initial=0) < 0:
        raise ValueError(f"labels from {labels.min()} to {labels.max()}: 16 bits number 0 to 65535")
    flat = labels.reshape(-1, *labels.shape[-2:]).astype(np.uint16)
    tifffile.imwrite(path, flat, imagej=True, metadata={"axes": "ZYX"})
    return [path]


def write_rois(path: str, data: Any, meta: dict) -> list[str]:
    """A ROI set (.zip) for ImageJ's ROI Manager: the outer outline of each object along its pixels' edges.

    A ROI is named by its label; the parts of one that does not hang together by name "12-1", "12-2". Holes are
    filled, as ImageJ's wand does. Planes become positions in the stack.
    """
    import roifile
    from skimage.measure import label as components
    from skimage.measure import regionprops
    labels = np.asarray(data)
    rois = []
    for plane, image in enumerate(labels.reshape(-1, *labels.shape[-2:])):
        for region in regionprops(image):
            parts, count = components(region.image, connectivity=2, return_num=True)
            top, left = region.bbox[:2]
            for part in range(1, count + 1):
                roi = roifile.ImagejRoi.frompoints(trace(parts == part) + (left, top))
                roi.roitype = roifile.ROI_TYPE.TRACED
                roi.name = f"{region.label}" if count == 1 else f"{region.label}-{part}"
                if labels.ndim > 2:
                    roi.position = plane + 1
                rois.append(roi)
    if not rois:
        raise ValueError("the layer has no objects to save")
    roifile.roiwrite(path, rois, mode="w")
    return [path]
