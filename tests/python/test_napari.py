"""The napari plugin in a real viewer (under Xvfb: extra.sh), and its files in ImageJ."""

import os
import shutil
import subprocess

import numpy as np
import pytest
import tessera
from test_tessera import HAN, UNET, picture

napari = pytest.importorskip("napari", reason="the extra [napari] is not installed")
roifile = pytest.importorskip("roifile")
tifffile = pytest.importorskip("tifffile")
pytest.importorskip("pytestqt", reason="pytest-qt is not installed")
if not os.environ.get("DISPLAY"):
    pytest.skip("there is no display; run tests/python/extra.sh napari WHEEL", allow_module_level=True)

from tessera._images import trace  # noqa: E402
from tessera.napari import segment_planes, write_labels, write_rois  # noqa: E402

LABELS = np.array([[1, 1, 1, 0, 2],
                   [1, 0, 1, 0, 2],
                   [1, 1, 1, 2, 0],
                   [0, 0, 0, 0, 3],
                   [3, 0, 0, 0, 3]], np.uint16)


def test_the_manifest_is_valid_and_found():
    from npe2 import PluginManager, PluginManifest
    manifest = PluginManifest.from_distribution("tessera-engine")
    manifest.validate_imports()
    plugins = PluginManager.instance()
    plugins.discover()
    assert "tessera-engine" in plugins


def area(corners):
    x, y = np.asarray(corners, float).T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def test_an_outline_has_the_area_of_its_pixels():
    random = np.random.default_rng(7)
    from skimage.measure import label, regionprops
    image = label(random.random((60, 60)) < 0.45, connectivity=2)
    for region in regionprops(image):
        assert area(trace(region.image)) == region.image_filled.sum() or region.euler_number < 1
        corners = trace(region.image_filled)
        top, left = corners.min(axis=0)[::-1]
        assert (top, left) == (0, 0)
        assert tuple(corners.max(axis=0)[::-1]) == region.image.shape


def test_rois_and_labels_are_read_back(tmp_path):
    write_rois(str(tmp_path / "rois.zip"), LABELS, {})
    rois = {roi.name: roi for roi in roifile.roiread(tmp_path / "rois.zip")}
    assert set(rois) == {"1", "2", "3-1", "3-2"}
    assert area(rois["1"].coordinates()) == 9  # its hole is filled
    assert area(rois["2"].coordinates()) == 3
    assert area(rois["3-1"].coordinates()) + area(rois["3-2"].coordinates()) == 3
    stack = np.stack([LABELS, np.where(LABELS == 2, 4, 0)])
    write_rois(str(tmp_path / "stack.zip"), stack, {})
    assert sorted((roi.name, roi.position) for roi in roifile.roiread(tmp_path / "stack.zip"))[-1] == ("4", 2)
    write_labels(str(tmp_path / "labels.tif"), stack, {})
    stored = tifffile.imread(tmp_path / "labels.tif")
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored, stack)
    with pytest.raises(ValueError, match="16 bits"):
        write_labels(str(tmp_path / "labels.tif"), np.array([[70000]]), {})
    with pytest.raises(ValueError, match="no objects"):
        write_rois(str(tmp_path / "rois.zip"), LABELS * 0, {})


@pytest.mark.skipif(not shutil.which("imagej"), reason="Debian's package imagej is not installed")
def test_imagej_opens_them(tmp_path):
    write_rois(str(tmp_path / "rois.zip"), LABELS, {})
    write_labels(str(tmp_path / "labels.tif"), LABELS, {})
    (tmp_path / "measure.ijm").write_text(f"""
open("{tmp_path}/labels.tif");
roiManager("Open", "{tmp_path}/rois.zip");
text = "" + bitDepth() + " " + roiManager("count");
for (i = 0; i < roiManager("count"); i++) {{
  roiManager("select", i); getStatistics(size, mean, least, most);
  text = text + " " + call("ij.plugin.frame.RoiManager.getName", i) + ":" + size + ":" + most;
}}
File.saveString(text, "{tmp_path}/said.txt");
eval("script", "System.exit(0);");
""")
    subprocess.run(["imagej", "-b", tmp_path / "measure.ijm"], timeout=300, check=False, capture_output=True)
    assert (tmp_path / "said.txt").read_text().split() == ["16", "4", "1:9:1", "2:3:2", "3-1:2:3", "3-2:1:3"]


def test_planes_are_counted_on():
    model = tessera.load(UNET, device="cpu")
    stack = np.stack([picture(48, 64), picture(48, 64)[::-1], np.zeros((48, 64), np.uint8)])
    mask, labels, table = segment_planes(model, stack, rgb=False)
    assert mask.shape == labels.shape == stack.shape and labels.dtype == np.uint16
    for i, plane in enumerate(stack):
        one = model(np.ascontiguousarray(plane))
        np.testing.assert_array_equal(mask[i], one.mask)
        rows = table[table["axis-0"] == i]
        assert rows["area"].tolist() == one.objects()["area"].tolist()
    np.testing.assert_array_equal(np.unique(labels[labels > 0]), table["label"])
    rgb = np.repeat(stack[0][:, :, None], 4, axis=2)  # with alpha, as napari keeps it
    np.testing.assert_array_equal(segment_planes(model, rgb, rgb=True)[0], mask[0])


@pytest.fixture
def panel(make_napari_viewer):
    viewer = make_napari_viewer()
    _, widget = viewer.window.add_plugin_dock_widget("tessera-engine", "Segment with a UNet")
    return viewer, widget


def wait_for(qtbot, widget):
    qtbot.waitUntil(lambda: widget._start.enabled and not widget._halt.enabled, timeout=120000)


def test_a_layer_is_segmented(panel, qtbot, tmp_path):
    viewer, widget = panel
    image = picture(80, 100, np.uint16)
    layer = viewer.add_image(np.stack([image, image[::-1]]), name="cells", scale=(2, 0.5, 0.5), translate=(0, 3, 4))
    widget._layer.reset_choices()
    widget._layer.value = layer
    widget._path.value = UNET
    widget._device.value = "cpu"
    widget.start()
    assert widget._halt.enabled and not widget._start.enabled
    wait_for(qtbot, widget)
    expected = tessera.load(UNET, device="cpu")(image)
    classes, objects = viewer.layers["cells classes"], viewer.layers["cells objects"]
    np.testing.assert_array_equal(classes.data[0], expected.mask)
    np.testing.assert_array_equal(objects.data[0], expected.labels())
    np.testing.assert_array_equal(objects.scale, layer.scale)
    np.testing.assert_array_equal(objects.translate, layer.translate)
    assert len(objects.features) == objects.data.max() + 1
    assert widget._table.shape[0] == objects.data.max()
    last = widget._table.shape[0] - 1
    widget._table.native.selectRow(last)
    assert objects.selected_label == objects.data.max()
    assert viewer.dims.current_step[0] == 1
    viewer.layers.selection = {objects}
    written = viewer.layers.save(str(tmp_path / "rois.zip"), selected=True, plugin="tessera-engine")
    assert len(roifile.roiread(written[0])) >= widget._table.shape[0]


def test_a_run_is_stopped_and_a_wrong_model_refused(panel, qtbot):
    viewer, widget = panel
    viewer.add_image(np.zeros((200, 256, 256), np.uint8), name="many planes")
    widget._layer.reset_choices()
    widget._path.value = UNET
    widget._device.value = "cpu"
    widget.start()
    qtbot.waitUntil(lambda: widget._bar.value > 0, timeout=120000)
    widget.stop()
    wait_for(qtbot, widget)
    assert widget._said.value == "stopped" and len(viewer.layers) == 1

    widget._path.value = HAN
    widget.start()
    wait_for(qtbot, widget)
    assert "classifies" in widget._said.value
    assert len(viewer.layers) == 1


def test_a_model_is_trained_on_what_is_painted(make_napari_viewer, qtbot, tmp_path):
    viewer = make_napari_viewer()
    _, widget = viewer.window.add_plugin_dock_widget("tessera-engine", "Train on painted labels")
    image = picture(96, 96)
    painted = np.zeros((96, 96), np.int32)
    painted[::3] = np.where(image > 128, 2, 1)[::3]
    widget._layer.value = viewer.add_image(image, name="cells")
    labels = viewer.add_labels(painted, name="painted")
    widget._painted.reset_choices()
    widget._painted.value = labels
    widget._output.value = tmp_path / "new.safetensors"
    widget._base.value, widget._epochs.value = 4, 150
    widget.start()
    wait_for(qtbot, widget)
    assert widget._said.value == "new.safetensors is written"
    model = tessera.load(tmp_path / "new.safetensors", device="cpu")
    assert model.classes == ("background", "object")
    assert ((model(image).mask > 0) == (image > 128)).mean() > 0.9

    labels.data = np.where(painted > 0, 1, 0)
    widget.start()
    wait_for(qtbot, widget)
    assert "two classes" in widget._said.value
