"""The installed Python package: its answers are the program's, and it keeps Python's promises."""

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tessera
from tessera.program import PROGRAM

DEMO = Path(__file__).parents[2] / "models/demo"
UNET, HAN = DEMO / "unet_isbi.safetensors", DEMO / "han_imdb.safetensors"
REVIEWS = ["A wonderful film! I loved it.  Café scenes were superb, the ending brilliant.",
           "Dull and far too long. The plot is a mess, the actors are bored, and so was I."]


@pytest.fixture(scope="module")
def unet():
    return tessera.load(UNET, device="cpu", threads=2, probabilities=True)


@pytest.fixture(scope="module")
def han():
    return tessera.load(HAN, device="cpu", threads=2)


def picture(height, width, dtype=np.uint8):
    y, x = np.mgrid[:height, :width]
    values = 0.5 + 0.25 * np.sin(y / 7) + 0.25 * np.cos(x / 5 + y / 11)
    return values.astype(dtype) if dtype == np.float32 else (values * np.iinfo(dtype).max).astype(dtype)


def run_program(*words):
    done = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_mask_is_the_programs_to_the_byte(unet, tmp_path):
    image = picture(130, 171)
    (tmp_path / "image.pgm").write_bytes(b"P5 171 130 255\n" + image.tobytes())
    run_program("segment", tmp_path / "image.pgm", "-m", UNET, "-o", tmp_path, "--probabilities", "--device", "cpu", "-q")
    result = unet(image)
    assert result.mask.dtype == np.uint8 and result.mask.shape == image.shape
    assert 0 < result.mask.mean() < 1
    stored = np.load(next(tmp_path.glob("*.npy")))
    np.testing.assert_array_equal(result.probabilities, stored.reshape(result.probabilities.shape))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32])
def test_pixels_of_every_type_are_read_where_they_lie(unet, dtype):
    image = picture(40, 61, dtype)
    result = unet(image)
    strided = np.zeros((80, 122), dtype)
    strided[::2, ::2] = image
    np.testing.assert_array_equal(unet(strided[::2, ::2]).probabilities, result.probabilities)
    np.testing.assert_array_equal(unet(image.astype(image.dtype.newbyteorder(">"))).probabilities, result.probabilities)
    image.setflags(write=False)
    np.testing.assert_array_equal(unet(image[:, :, None]).probabilities, result.probabilities)


@pytest.mark.parametrize("dtype", [np.float64, np.int16, bool, np.complex64, object, "U1", [("a", "u1")]])
def test_other_types_are_refused_with_what_to_call(unet, dtype):
    with pytest.raises(TypeError, match="astype"):
        unet(np.zeros((8, 8), dtype))


@pytest.mark.parametrize("shape", [(8,), (1, 8, 8, 1), ()])
def test_other_axes_are_refused(unet, shape):
    with pytest.raises(ValueError, match="height, width"):
        unet(np.zeros(shape, np.uint8))


def test_what_is_no_image_is_refused(unet):
    with pytest.raises(TypeError, match="read the file first"):
        unet("cells.png")
    with pytest.raises(RuntimeError, match="channels"):
        unet(np.zeros((8, 8, 2), np.uint8))
    with pytest.raises(ValueError, match="nothing"):
        unet(np.zeros((0, 8), np.uint8))
    with pytest.raises(TypeError, match="function"):
        unet(np.zeros((8, 8), np.uint8), progress=3)
    with pytest.raises(RuntimeError, match="segments"):
        unet.classify("text")


def test_a_list_gives_a_list_of_the_same_bytes(unet):
    images = [picture(30 + i, 50) for i in range(7)]
    seen = []
    for image, result in zip(images, unet(images, progress=lambda *at: seen.append(at)), strict=True):
        np.testing.assert_array_equal(result.probabilities, unet(image).probabilities)
    assert seen == [(i + 1, 7) for i in range(7)]
    assert unet([]) == []


def test_objects_are_named_as_by_scikit_image(unet):
    result = tessera.Segmentation(np.array([[1, 0, 2, 2], [0, 1, 0, 2], [0, 0, 0, 0]], np.uint8), None, ("no", "a", "b"))
    table = result.objects()
    assert list(table["class"]) == ["a", "b"]
    assert table.loc[1].tolist() == [2, "b", 3, 0, 2, 2, 4, 1 / 3, 8 / 3]
    np.testing.assert_array_equal(result.labels(), [[1, 0, 2, 2], [0, 1, 0, 2], [0, 0, 0, 0]])
    assert len(result.objects(connectivity=4)) == 3
    assert len(result.objects(min_area=3)) == 1
    assert len(tessera.Segmentation(np.zeros((3, 3), np.uint8), None, ("no",)).objects()) == 0


def test_a_plan_tells_tiles_and_memory(unet):
    small = tessera.load(UNET, device="cpu", tile=700).plan(1000, 1000)
    assert small.tiles > 1 and small.arena < unet.plan(1000, 1000).arena


def test_attention_points_into_the_text(han):
    answer = han(REVIEWS[0])
    assert answer.label == "positive" and answer.probabilities[answer.index] > 0.5
    assert sum(s.weight for s in answer.sentences) == pytest.approx(1, abs=1e-5)
    for sentence in answer.sentences:
        assert REVIEWS[0][sentence.begin:sentence.end] == sentence.text
        assert sum(w.weight for w in sentence.words) == pytest.approx(1, abs=1e-5)
        for word in sentence.words:
            assert REVIEWS[0][word.begin:word.end] == word.text
    assert "Café" in [w.text for s in answer.sentences for w in s.words]


def test_documents_keep_their_order_and_carry_their_errors(han):
    answers = han([*REVIEWS, " ... ", REVIEWS[0]])
    assert [a.label for a in answers] == ["positive", "negative", None, "positive"]
    assert "no words" in answers[2].error
    with pytest.raises(ValueError, match="no words"):
        han(" ... ")
    with pytest.raises(TypeError, match="document 1 is a float"):
        han([REVIEWS[0], float("nan")])
    with pytest.raises(TypeError, match="decode"):
        han(REVIEWS[0].encode())
    with pytest.raises(UnicodeEncodeError):
        han("a lone surrogate \ud800 here")
    pandas = pytest.importorskip("pandas")
    assert [a.label for a in han(pandas.Series(REVIEWS, index=[5, 3]))] == ["positive", "negative"]


def test_threads_share_a_model(unet):
    image = picture(64, 64)
    expected = unet(image).probabilities
    answers = [None] * 8
    threads = [threading.Thread(target=lambda i=i: answers.__setitem__(i, unet(image).probabilities)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer in answers:
        np.testing.assert_array_equal(answer, expected)


def test_python_runs_on_while_a_model_does(unet):
    done = threading.Event()
    thread = threading.Thread(target=lambda: (unet(picture(1200, 1200)), done.set()))
    thread.start()
    count = 0
    while not done.is_set():
        count += 1
        time.sleep(0.001)
    thread.join()
    assert count > 20


def _in_child(model, image, queue):
    queue.put(model(image).mask.sum())


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_another_process_gives_the_same(unet, method):
    image = picture(48, 48)
    expected = unet(image).mask.sum()
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(unet, image, queue))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(60)
    assert child.exitcode == 0


def test_pickles(unet, han):
    image = picture(32, 32)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(unet))(image).mask, unet(image).mask)
    answer = han(REVIEWS[1])
    again = pickle.loads(pickle.dumps(answer))
    assert (again.label, again.sentences) == (answer.label, answer.sentences)


def test_what_progress_raises_ends_the_call():
    model = tessera.load(UNET, device="cpu", tile=700)
    seen = []

    def stop(done, tiles):
        seen.append((done, tiles))
        if done == 2:
            raise LookupError("enough")
    with pytest.raises(LookupError, match="enough"):
        model(picture(1000, 1000), progress=stop)
    assert seen[-1][0] == 2 and seen[-1][1] > 2
    assert model(picture(32, 32)).mask.shape == (32, 32)


@pytest.mark.parametrize("inputs", ["picture(1500, 1500)", "[picture(400, 400)] * 200"])
def test_ctrl_c_ends_a_call(inputs):
    script = f"""
import signal, sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
import tessera
from test_tessera import UNET, picture
model = tessera.load(UNET, device="cpu", tile=700)
print("ready", flush=True)
try:
    model({inputs})
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=120)[0] == "interrupted\n"
    assert child.returncode == 0


def test_models_are_opened_or_refused_with_the_reason(tmp_path):
    with pytest.raises(RuntimeError, match="absent"):
        tessera.load(tmp_path / "absent.safetensors")
    with pytest.raises(RuntimeError, match="tpu"):
        tessera.load(UNET, device="tpu")
    with pytest.raises(ValueError, match="2G"):
        tessera.load(UNET, max_memory="much")
    for name, value, error in (("max_memory", 2**70, ValueError), ("max_memory", "nan", ValueError), ("max_memory", -1, ValueError),
                               ("threads", -1, ValueError), ("threads", "2", TypeError), ("tile", -5, ValueError),
                               ("tile", 2**40, ValueError), ("range", (5,), ValueError), ("range", "x", RuntimeError)):
        with pytest.raises(error, match="^(?!.*incompatible)"):
            tessera.load(UNET, **{name: value})
    with pytest.raises(ValueError, match="null"):
        tessera.load("a\0b")
    assert tessera.load(os.fsencode(UNET), max_memory=1.5e9).task == "segment"
    model = tessera.load(UNET, max_memory="1.5G")
    assert model.task == "segment" and model.classes == ("membrane", "cell") and model.parameters > 1000
    assert model.config["architecture"] == "unet" and "unet_isbi" in repr(model)


def without(safetensors, prefix):
    """The file less the tensors of such names."""
    begin = 8 + int.from_bytes(safetensors[:8], "little")
    header, data = {}, b""
    for name, at in json.loads(safetensors[8:begin]).items():
        if name.startswith(prefix) or name == "__metadata__":
            continue
        first, end = at["data_offsets"]
        header[name] = at | {"data_offsets": [len(data), len(data) + end - first]}
        data += safetensors[begin + first:begin + end]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_what_another_program_saved_is_imported(tmp_path):
    golden = Path(__file__).parents[1] / "golden/import/milesial_2022_bilinear.safetensors"
    source = tmp_path / "checkpoint.safetensors"
    source.write_bytes(without(golden.read_bytes(), "golden/"))
    report = tessera.import_model(source, tmp_path / "model.safetensors")
    assert "milesial" in report
    assert tessera.load(tmp_path / "model.safetensors").task == "segment"
    with pytest.raises((RuntimeError, ValueError)):
        tessera.import_model(source, tmp_path / "model.safetensors", family="no such family")


def make_scans(folder):
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for i in range(3):
        image = np.roll(picture(64, 64), i * 9, 1)
        for kind, pixels in (("images", image), ("masks", np.where(image > 128, 255, 0).astype(np.uint8))):
            (folder / kind / f"{i}.pgm").write_bytes(b"P5 64 64 255\n" + pixels.tobytes())


def test_training_reports_each_epoch_stops_and_goes_on(tmp_path):
    make_scans(tmp_path / "scans")
    network = {"base": 4, "depth": 2, "epochs": 4, "seed": 3, "device": "cpu", "threads": 1, "tile": 64,
               "validation": 0.34}
    network = {name: value for name, value in network.items() if "--" + name in run_program("train", "unet", "--help")}
    seen = []
    lines = tessera.train_unet(tmp_path / "scans", tmp_path / "a.safetensors", on_epoch=seen.append, **network)
    assert seen == lines and len(lines) >= 4 and lines[-1]["step"] > lines[0]["step"]

    tessera.train_unet(tmp_path / "scans", tmp_path / "b.safetensors",
                       on_epoch=lambda line: line["step"] < lines[0]["step"], **network)
    tessera.train_unet(tmp_path / "scans", tmp_path / "b.safetensors", resume=True, **network)
    image = picture(64, 64)
    np.testing.assert_array_equal(tessera.load(tmp_path / "a.safetensors")(image).mask,
                                  tessera.load(tmp_path / "b.safetensors")(image).mask)
    with pytest.raises((ValueError, RuntimeError), match="epochs"):
        tessera.train_unet(tmp_path / "scans", tmp_path / "c.safetensors", epochs=-1)
    assert tessera.eval_model(tmp_path / "a.safetensors", tmp_path / "scans")


def test_arrays_teach_what_files_teach(tmp_path):
    make_scans(tmp_path / "scans")
    images = [np.roll(picture(64, 64), i * 9, 1) for i in range(3)]
    masks = [np.where(image > 128, 255, 0).astype(np.uint8) for image in images]
    network = {"base": 4, "depth": 1, "epochs": 2, "seed": 3, "device": "cpu", "threads": 1, "tile": 64, "validation": "none"}
    of_files = tessera.train_unet(tmp_path / "scans", tmp_path / "a.safetensors", **network)
    of_arrays = tessera.train_unet((images, masks), tmp_path / "b.safetensors", **network)
    assert [line["train_loss"] for line in of_files] == [line["train_loss"] for line in of_arrays]
    with pytest.raises(ValueError, match="3 images and 2 masks"):
        tessera.train_unet((images, masks[:2]), tmp_path / "c.safetensors")
    colours = [np.stack([image.astype(np.float32)] * 3, -1) for image in images]
    assert tessera.train_unet((colours, masks), tmp_path / "d.safetensors", channels=3, scale="standardize", **network)

    texts, labels = ["A lovely film, \t lovely!", "Dull.\nSo dull."] * 6, [1, 0] * 6
    tessera.train_han((texts, labels), tmp_path / "han.safetensors", epochs=2, units=4, features=4, device="cpu")
    assert tessera.load(tmp_path / "han.safetensors", device="cpu").classes == ("0", "1")
    with pytest.raises(TypeError, match="text 1"):
        tessera.train_han((["a", 2], [0, 1]), tmp_path / "han.safetensors")


def test_scikit_learn_takes_a_han():
    base = pytest.importorskip("sklearn.base")
    from sklearn.metrics import accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    model = tessera.HanClassifier(str(HAN), device="cpu", threads=1)
    assert list(model.classes_) == ["negative", "positive"]
    assert list(model.predict(REVIEWS)) == ["positive", "negative"]
    np.testing.assert_allclose(model.predict_proba(np.array(REVIEWS)).sum(axis=1), 1, rtol=1e-5)
    assert model.predict_proba([]).shape == (0, 2)
    copy = base.clone(model).set_params(threads=2)
    assert copy.get_params()["threads"] == 2
    assert accuracy_score(["positive", "positive"], copy.predict(REVIEWS)) == 0.5
    assert model.score(REVIEWS, ["positive", "negative"]) == 1
    pipeline = make_pipeline(FunctionTransformer(lambda texts: [t.lower() for t in texts]), model)
    assert list(pipeline.predict(REVIEWS)) == ["positive", "negative"]
    assert list(pickle.loads(pickle.dumps(model)).predict(REVIEWS)) == ["positive", "negative"]
    with pytest.raises(ValueError, match="neutral"):
        model.fit(REVIEWS, ["neutral", "positive"])
    with pytest.raises(ValueError, match="number 1"):
        model.predict([REVIEWS[0], "..."])


@pytest.mark.parametrize("check", [
    "estimator_cloneable", "estimator_repr", "estimator_tags_renamed", "get_params_invariance", "mixin_order",
    "no_attributes_set_in_init", "parameters_default_constructible", "set_params", "valid_tag_types"])
def test_scikit_learns_own_checks_pass(check):
    """Those that apply: the others train on numbers."""
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    getattr(checks, f"check_{check}")("HanClassifier", tessera.HanClassifier(str(HAN), device="cpu", threads=1))


def test_the_command_comes_with_the_package():
    command = Path(sys.executable).with_name("tessera")
    assert os.access(command, os.X_OK)
    said = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
    assert tessera.__version__ in said
