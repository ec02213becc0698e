"""Batches on a Ray cluster of three nodes on this machine: workers, a node and the driver are killed, and no row is
lost, doubled or other than in one process."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tessera
from test_arrays import trained, with_preprocessing  # noqa: F401: a fixture
from test_tessera import HAN, REVIEWS, UNET, picture

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
parquet = pytest.importorskip("pyarrow.parquet")
pyarrow = pytest.importorskip("pyarrow")
Image = pytest.importorskip("PIL.Image")
import ray.data  # noqa: E402
import tessera.ray  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

ROWS = 240


NODE = {"num_cpus": 2, "object_store_memory": 100 * 2**20}


@pytest.fixture(scope="module")
def cluster():
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    for _ in range(2):
        cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def texts():
    words = [w for review in REVIEWS for w in review.split()]
    return [f"Number {i} was {words[i % len(words)]}. " + REVIEWS[i % 2] if i % 50 else " ... " for i in range(ROWS)]


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """A folder of Parquet with the columns id and text; and what one process answers, by id."""
    folder = tmp_path_factory.mktemp("documents")
    for part in range(8):
        ids = list(range(part, ROWS, 8))
        parquet.write_table(pyarrow.table({"id": ids, "text": [texts()[i] for i in ids]}), folder / f"{part}.parquet")
    answers = tessera.load(HAN, device="cpu")(texts())
    return folder, {i: (a.label or "", a.probabilities.tobytes() or b"", a.error or "") for i, a in enumerate(answers)}


def check(rows, expected):
    assert sorted(row["id"] for row in rows) == list(range(ROWS))
    for row in rows:
        label, probabilities, error = expected[row["id"]]
        assert (row["label"], row["error"]) == (label, error)
        if not error:
            assert np.asarray(row["probabilities"], np.float32).tobytes() == probabilities


def kill_when_there(folder, count, act):
    """Once `count` workers have said their process ids in the folder: act(ids)."""
    def wait():
        deadline = time.time() + 120
        while time.time() < deadline:
            ids = [int(name) for name in os.listdir(folder)]
            if len(ids) >= count:
                return act(ids)
            time.sleep(0.05)
    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("lost", ["worker", "node"])
def test_a_lost_worker_or_node_loses_no_row(cluster, documents, tmp_path, lost):
    folder, expected = documents
    started = tmp_path / "started"
    started.mkdir()
    extra = cluster.add_node(**NODE) if lost == "node" else None
    cluster.wait_for_nodes()

    class Watched(tessera.ray.Classifier):  # says that it works, and takes its time
        def __call__(self, batch):
            (started / str(os.getpid())).touch()
            time.sleep(0.2)
            return super().__call__(batch)

    def end(ids):
        if extra is None:
            os.kill(ids[0], signal.SIGKILL)
        else:
            cluster.remove_node(extra, allow_graceful=False)
    thread = kill_when_there(started, 2, end)
    rows = (ray.data.read_parquet(str(folder)).repartition(24)
            .map_batches(Watched, fn_constructor_args=(str(HAN),), batch_size=10, num_cpus=1,
                         compute=ray.data.ActorPoolStrategy(min_size=3, max_size=4)).take_all())
    thread.join()
    assert len(os.listdir(started)) >= 3 + (lost == "worker")
    check(rows, expected)


def job(*words):
    return [sys.executable, "-m", "tessera.ray", *map(str, words)]


def test_a_killed_driver_goes_on(cluster, documents, tmp_path):
    folder, expected = documents
    command = job("classify", folder, tmp_path / "out", "-m", HAN, "--state", tmp_path / "state", "--address",
                  cluster.address, "--batch", 5, "--blocks", 24, "--actors", 1, 1)
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 240
    while time.time() < deadline and first.poll() is None and len(list(tmp_path.glob("out/*.parquet"))) < 2:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL, "the job ended before it was killed"
    time.sleep(2)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("out/*.parquet")}
    for _ in range(2):  # the second time nothing is left to do
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 3, done.stderr  # some documents have no words
        assert f"{ROWS} rows" in done.stdout and "5 of them with an error" in done.stdout
        check([row for file in tmp_path.glob("out/*.parquet") for row in parquet.read_table(file).to_pylist()], expected)
    assert before.items() <= {file: file.stat().st_mtime_ns for file in tmp_path.glob("out/*.parquet")}.items()


def test_images_are_segmented_and_bad_ones_carry_their_error(cluster, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(6):
        Image.fromarray(picture(40 + i, 60)).save(tmp_path / f"in/{i}.png")
    (tmp_path / "in/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    done = subprocess.run(job("segment", tmp_path / "in", tmp_path / "out", "-m", UNET, "--address", cluster.address),
                          capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 3, done.stderr
    rows = {os.path.basename(row["path"]): row for row in ray.data.read_parquet(str(tmp_path / "out")).take_all()}
    assert len(rows) == 7 and "it is no PNG" in rows["broken.png"]["error"] and "bytes" not in rows["0.png"]
    model = tessera.load(UNET, device="cpu")
    for i in range(6):
        result = model(picture(40 + i, 60))
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(rows[f"{i}.png"]["mask"]))), result.mask)
        assert [one["area"] for one in json.loads(rows[f"{i}.png"]["objects"])] == result.objects()["area"].tolist()
    table = ray.data.read_parquet(str(tmp_path / "out")).flat_map(tessera.ray.objects).take_all()
    assert len(table) == sum(len(json.loads(row["objects"])) for row in rows.values())
    assert {"path", "label", "area", "bbox-0"} <= table[0].keys() and "mask" not in table[0]


def test_a_zarr_array_is_segmented_on_all_nodes(cluster, trained, tmp_path, monkeypatch):  # noqa: F811
    zarr = pytest.importorskip("zarr")
    model, image = str(with_preprocessing(trained, tmp_path / "model.safetensors", scale="standardize")), picture(400, 300)
    source = zarr.create_array(tmp_path / "image.zarr", shape=image.shape, chunks=(64, 64), dtype="uint8")
    source[...] = image
    started = tmp_path / "started"
    started.mkdir()

    class Watched(tessera.ray._Windows):  # says that it works, and takes its time
        def __call__(self, batch):
            (started / str(os.getpid())).touch()
            time.sleep(0.3)
            return super().__call__(batch)
    monkeypatch.setattr(tessera.ray, "_Windows", Watched)

    def run(progress=None):
        return tessera.ray.segment_zarr(model, str(tmp_path / "image.zarr"), str(tmp_path / "mask.zarr"), tile=160,
                                        state=str(tmp_path / "state"), actors=(2, 3), progress=progress)

    def stop(done, windows):
        if done == 5:
            raise LookupError("enough")
    with pytest.raises(LookupError):
        run(stop)
    assert len((tmp_path / "state").read_text().splitlines()) == 6
    seen = []
    before = set(os.listdir(started))
    killed = []

    def kill(done, windows):  # a worker of this run, once
        now = [int(name) for name in set(os.listdir(started)) - before]
        if now and not killed:
            os.kill(now[0], signal.SIGKILL)
            killed.append(now[0])
        seen.append((done, windows))
    windows = seen[0][1] if run(kill) and seen else 0
    assert killed and windows > 15 and [done for done, _ in seen] == list(range(6, windows + 1))
    mask = zarr.open_array(tmp_path / "mask.zarr", mode="r")
    assert mask.chunks == (64, 64)
    np.testing.assert_array_equal(mask[:, :], tessera.load(model, device="cpu")(image).mask)
    assert run() == 0
    done = subprocess.run(job("zarr", tmp_path / "image.zarr", tmp_path / "whole.zarr", "-m", model, "--address",
                              cluster.address), capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0 and "1 windows" in done.stdout, done.stderr
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "whole.zarr", mode="r")[:, :], mask[:, :])


def test_arrays_are_segmented_in_place(cluster):
    images = [picture(30 + i, 40) for i in range(4)]
    images[2] = np.full((30, 40), np.nan, np.float32)
    rows = tessera.ray.Segmenter(str(UNET), "image")({"id": np.arange(4), "image": tessera.ray._column(images)})
    assert "image" not in rows and rows["error"][2].startswith("1200 values are NaN")
    result = tessera.load(UNET)(images[3])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(rows["mask"][3]))), result.mask)


def test_a_worker_of_the_wrong_kind_is_refused():
    with pytest.raises(ValueError, match="takes a UNet"):
        tessera.ray.Segmenter(str(HAN))
    with pytest.raises(ValueError, match="takes a HAN"):
        tessera.ray.Classifier(str(UNET))
    worker = tessera.ray.Classifier(str(HAN), attention=True)
    with pytest.raises(KeyError, match="no column 'text'"):
        worker({"review": np.array(["a"])})
    rows = worker({"text": tessera.ray._column([REVIEWS[0], None, 3.5])})
    assert rows["label"].tolist() == ["positive", "", ""] and "not float" in rows["error"][2]
    assert json.loads(rows["sentences"][0])[0]["words"]


def test_what_is_missing_is_said():
    script = "import sys; sys.modules['ray'] = None; import tessera.ray; tessera.ray.main(['classify', 'a', 'b', '-m', 'c'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "tessera-engine[ray]" in done.stderr
