"""What the server answers is what the program answers, to the byte; errors are statuses of their own request."""
import json
import queue
import re
import subprocess

import numpy as np
import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http
from PIL import Image
from server import BUILD, HAN, ROOT, UNET, WAIT, bytes_input, image_input, infer, picture, run_program, tensor, until
from tritonclient.utils import InferenceServerException

REVIEWS = ["A wonderful film. The ending drags a little.", "Dull, dull, dull! A waste of two hours.",
           "Caf\u00e9 scenes \u2014 superb. \U0001f600 I'd see it again"]
PROTOCOLS = pytest.mark.parametrize("module", [http, grpc], ids=["http", "grpc"])


def client_of(server, module):
    return server.http() if module is http else server.grpc()


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A picture's mask, probabilities and objects by the program, from the file that it is saved as."""
    folder = tmp_path_factory.mktemp("program")

    def run(pixels):
        path = folder / f"{pixels.dtype}_{pixels.shape}.tif"
        if not path.exists():
            Image.fromarray(pixels).save(path)
            run_program("segment", path, "-m", UNET, "-o", folder / path.stem, "--probabilities", "--instances",
                        "--device", "cpu", "-q")
        made = folder / path.stem
        summary = json.loads((made / "summary.json").read_text())["images"][0]
        return {"MASK": np.asarray(Image.open(next(made.glob("*.mask.png")))),
                "PROBABILITIES": np.load(next(made.glob("*.npy"))), "file": path.read_bytes(), "objects": summary["instances"]}
    return run


def test_a_repository_is_a_file(server):
    with server.http() as client:
        config = client.get_model_config("cells.tessera")
        assert config["backend"] == "tessera" and config["max_batch_size"] > 1
        assert [one["name"] for one in config["input"]] == ["IMAGE", "IMAGE_UINT16", "IMAGE_FP32", "ENCODED"]
        assert all(one["allow_ragged_batch"] for one in config["input"])
        assert {one["name"] for one in config["output"]} == {"MASK", "PROBABILITIES", "OBJECTS"}
        config = client.get_model_config("reviews.tessera")
        assert [one["name"] for one in config["input"]] == ["TEXT"]
        assert {one["name"] for one in config["output"]} == {"LABEL", "PROBABILITIES", "ATTENTION"}
        assert config["dynamic_batching"]["default_queue_policy"]["max_queue_size"] > 0


def test_the_backend_shows_the_server_its_own_functions_alone():
    symbols = subprocess.run(["nm", "-D", "--defined-only", BUILD / "backends/tessera/libtriton_tessera.so"],
                             capture_output=True, text=True, check=True).stdout.split()[2::3]
    assert len(symbols) == 5 and all(name.startswith("TRITONBACKEND_") for name in symbols)


@PROTOCOLS
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_masks_are_the_programs_to_the_byte(server, program, module, dtype):
    pixels = picture(130, 171, dtype)
    expected = program(pixels)
    with client_of(server, module) as client:
        for given in (image_input(module, pixels[None]), bytes_input(module, "ENCODED", [expected["file"]])):
            answer = infer(client, module, "cells.tessera", given)
            assert sorted(answer) == ["MASK", "OBJECTS", "PROBABILITIES"]
            assert len(np.unique(answer["MASK"])) == 2
            np.testing.assert_array_equal(answer["MASK"][0] != 0, expected["MASK"] != 0)
            assert answer["PROBABILITIES"].tobytes() == expected["PROBABILITIES"].tobytes()
            objects = json.loads(answer["OBJECTS"][0, 0])
            assert objects and [one | {"page": 0} for one in objects] == expected["objects"]


@PROTOCOLS
def test_a_batch_holds_the_answers_of_its_images(server, module):
    images = np.stack([picture(40, 61, seed=seed) for seed in range(3)])
    with client_of(server, module) as client:
        together = infer(client, module, "cells.tessera", image_input(module, images))
        assert together["MASK"].shape == (3, 40, 61) and together["OBJECTS"].shape == (3, 1)
        for i, image in enumerate(images):
            alone = infer(client, module, "cells.tessera", image_input(module, image[None]))
            for name in ("MASK", "PROBABILITIES", "OBJECTS"):
                np.testing.assert_array_equal(together[name][i], alone[name][0])
        rgb = infer(client, module, "cells.tessera", image_input(module, np.repeat(images[:1, ..., None], 3, 3)))
        assert rgb["MASK"].shape == (1, 40, 61)
        chosen = infer(client, module, "cells.tessera", image_input(module, images), ["MASK"])
        assert list(chosen) == ["MASK"]


def gather(server, model, inputs):
    """The answers, or exceptions, of requests that are sent at once, in order."""
    answers = queue.Queue()
    with server.grpc() as client:
        for i, given in enumerate(inputs):
            client.async_infer(model, [given], lambda result, error, i=i: answers.put((i, error or result)))
        found = dict(answers.get(timeout=WAIT) for _ in inputs)
    return [found[i] for i in range(len(inputs))]


def test_images_of_all_sizes_and_bad_ones_share_batches(server):
    def count(what):
        return int(server.statistics("cells.tessera")[what])
    sizes = [(31 + 7 * i, 90 - 5 * i) for i in range(8)]
    images = [picture(*size, seed=i) for i, size in enumerate(sizes)]
    alone = []
    begin = count("inference_count")
    with server.http() as client:
        for image in images:
            alone.append(infer(client, http, "cells.tessera", image_input(http, image[None]), ["MASK"])["MASK"])
    until(lambda: count("inference_count") - begin >= 8)  # counted when the answers have gone out
    images[3] = np.full(sizes[3], np.nan, np.float32)  # of another type, and refused
    images[6] = np.zeros((20, 20, 2), np.uint8)  # no image has two channels
    before = count("inference_count"), count("execution_count")
    busy = [picture(690, 690)] * 2  # both instances have something to do while the others queue
    answers = gather(server, "cells.tessera", [image_input(grpc, image[None]) for image in busy + images])[2:]
    for i, (answer, expected) in enumerate(zip(answers, alone, strict=True)):
        if i in (3, 6):
            assert isinstance(answer, InferenceServerException) and "INVALID_ARGUMENT" in answer.status()
        else:
            np.testing.assert_array_equal(answer.as_numpy("MASK"), expected)
    until(lambda: count("inference_count") - before[0] >= 8)
    assert count("execution_count") - before[1] < 8


@PROTOCOLS
def test_documents_are_the_programs_to_the_digit(server, module, tmp_path):
    (tmp_path / "reviews.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in REVIEWS))
    lines = run_program("classify", tmp_path / "reviews.jsonl", "-m", HAN, "--json", "--attention", "--device", "cpu", "-q")
    with client_of(server, module) as client:
        answer = infer(client, module, "reviews.tessera",
                       bytes_input(module, "TEXT", [text.encode() for text in REVIEWS]))
    assert [label.decode() for label in answer["LABEL"][:, 0]] == ["positive", "negative", "positive"]
    for line, attention, probabilities in zip(lines.splitlines(), answer["ATTENTION"][:, 0], answer["PROBABILITIES"]):
        expected = json.loads(line)
        del expected["name"]
        assert json.loads(attention) == expected
        assert probabilities.max() == np.float32(expected["probability"])


def test_a_document_without_words_is_its_own_requests_error(server):
    texts = [[REVIEWS[0].encode()], [b" ... "], [REVIEWS[1].encode()], [b"fine", b""], [b"\xff\xfe good \x00"]]
    answers = gather(server, "reviews.tessera", [bytes_input(grpc, "TEXT", one) for one in texts] * 8)
    for i, answer in enumerate(answers):
        if i % 5 in (1, 3):
            assert "no words" in str(answer) and f"document {i % 5 // 3}" in str(answer)
        else:
            assert answer.as_numpy("LABEL").shape == (1, 1)


def raw(module, name, kind, shape, content):
    """An input whose bytes are not those of its shape."""
    given = module.InferInput(name, shape, kind)
    given._raw_data = content
    if module is grpc:
        given._raw_content = content
    else:
        given._parameters["binary_data_size"] = len(content)
    return given


REFUSED = {
    "channels": (lambda m: image_input(m, np.zeros((1, 8, 8, 2), np.uint8)), "channels"),
    "empty": (lambda m: image_input(m, np.zeros((1, 0, 8), np.uint8)), "one or more|element"),
    "nan": (lambda m: image_input(m, np.full((1, 8, 8), np.nan, np.float32)), "finite|nan"),
    "request size": (lambda m: image_input(m, np.zeros((1, 3000, 3000), np.uint8)), "max_request_bytes"),
    "no image file": (lambda m: bytes_input(m, "ENCODED", [b"GIF89a nothing"]), "image 0 of input ENCODED"),
    "sizes": (lambda m: bytes_input(m, "ENCODED", [pgm(8, 8), pgm(9, 8)]), "9 x 8"),
    "decoded size": (lambda m: bytes_input(m, "ENCODED", [b"P5 100000 90000 255\n" + bytes(100)]), "image 0"),
    "type": (lambda m: tensor(m, "IMAGE", "FP32", np.zeros((1, 8, 8, 1), np.float32)), "type|UINT8"),
    "axes": (lambda m: tensor(m, "IMAGE", "UINT8", np.zeros((1, 8), np.uint8)), "shape"),
    "batch": (lambda m: image_input(m, np.zeros((99, 4, 4), np.uint8)), "batch"),
    "name": (lambda m: tensor(m, "PICTURE", "UINT8", np.zeros((1, 8, 8, 1), np.uint8)), "PICTURE"),
    "fewer bytes": (lambda m: raw(m, "IMAGE", "UINT8", [1, 8, 8, 1], b"abc"), "byte"),
    "length": (lambda m: raw(m, "ENCODED", "BYTES", [1, 1], b"\xff\xff\xff\xffab"), "byte|element|buffer"),
    "cut": (lambda m: raw(m, "ENCODED", "BYTES", [2, 1], b"\x01\x00\x00\x00a"), "byte|element"),
}


def pgm(height, width):
    return b"P5 %d %d 255\n" % (width, height) + bytes(height * width)


@PROTOCOLS
@pytest.mark.parametrize("what", REFUSED)
def test_errors_are_statuses_that_say_why(server, module, what):
    make, text = REFUSED[what]
    with client_of(server, module) as client:
        with pytest.raises(InferenceServerException, match=f"(?i){text}") as error:
            infer(client, module, "cells.tessera", make(module))
        assert error.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")
        assert infer(client, module, "cells.tessera", image_input(module, picture(9, 9)[None]), ["MASK"])


def test_two_inputs_are_refused(server):
    with server.http() as client, pytest.raises(InferenceServerException, match="one input"):
        client.infer("cells.tessera", [image_input(http, picture(9, 9)[None]),
                                       bytes_input(http, "ENCODED", [pgm(9, 9)])])


def test_statistics_count(server):
    before = server.statistics("reviews.tessera")["inference_stats"]
    metrics = [server.metric(f"nv_inference_request_{kind}", "reviews.tessera") for kind in ("success", "failure")]
    texts = [[b"good"], [b"..."], [b"bad", b"worse"]]
    gather(server, "reviews.tessera", [bytes_input(grpc, "TEXT", one) for one in texts])

    def count(statistics, what):
        return int(statistics.get(what, {}).get("count", 0))

    def added(what):
        return count(server.statistics("reviews.tessera")["inference_stats"], what) - count(before, what)
    until(lambda: (added("success"), added("fail")) == (2, 1))  # counted when the answers have gone out
    after = server.statistics("reviews.tessera")["inference_stats"]
    assert int(after["compute_infer"]["ns"]) > int(before["compute_infer"]["ns"])
    assert server.metric("nv_inference_request_success", "reviews.tessera") - metrics[0] == 2
    assert server.metric("nv_inference_request_failure", "reviews.tessera") - metrics[1] == 1


def test_the_lines_of_the_readme_run(server):
    lines = re.search(r"^```python\n(.*?)^```", (ROOT / "tools/serve/README.md").read_text(), re.M | re.S)[1]
    given = {"picture": picture(40, 50)}
    exec(lines.replace("np.asarray(...)", "picture").replace("localhost:8000", f"127.0.0.1:{server.http_port}"), given)
    assert given["mask"].shape == (1, 40, 50)
