"""A server under load, stalled and hostile clients, cancellation, reloads, death and the end."""
import os
import shutil
import socket
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import numpy as np
import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http
from server import HAN, UNET, WAIT, Server, add_model, bytes_input, image_input, infer, picture, until
from tritonclient.utils import InferenceServerException

LONG = np.tile(picture(100, 100), (28, 28))  # many tiles


def until_both_instances_run(server):
    """Of three requests one goes on waiting for them."""
    waits = [False] * 3
    until(lambda: waits.append(server.metric("nv_inference_pending_request_count", "cells.tessera") == 1)
          or all(waits[-3:]))


def labels(server, module, texts, times=1):
    with (server.http() if module is http else server.grpc()) as client:
        given = bytes_input(module, "TEXT", texts)
        return [infer(client, module, "reviews.tessera", given, ["PROBABILITIES"])["PROBABILITIES"].tobytes()
                for _ in range(times)]


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=WAIT)


def test_64_clients_beside_64_stalled_ones(server):
    stalled = [connect(server.http_port) for _ in range(64)]
    for one in stalled:
        one.sendall(b"POST /v2/models/reviews.tessera/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{\"inputs\"")
    texts = [[f"Film number {i}: good, or {'not ' * (i % 7)}bad?".encode()] for i in range(64)]
    expected = [labels(server, http, one)[0] for one in texts]
    with ThreadPoolExecutor(64) as threads:
        found = list(threads.map(lambda i: labels(server, (http, grpc)[i % 2], texts[i], 10), range(64)))
    assert found == [[one] * 10 for one in expected]
    with server.http() as client:
        assert client.is_server_live()
    for one in stalled:
        one.close()


def test_garbage_harms_nobody(server):
    random = np.random.default_rng(5)
    posts = [b"POST /v2/models/cells.tessera/infer HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n" + body for head, body in (
        (b"Content-Length: 2", b"[["), (b"Content-Length: 99999999999999", b"{}"), (b"Content-Length: -1", b""),
        (b"Inference-Header-Content-Length: 5000\r\nContent-Length: 2", b"{}"),
        (b"Content-Encoding: gzip\r\nContent-Length: 9", b"not gzip!"),
        (b"Content-Length: 2000", b"[" * 2000))]
    for port in (server.http_port, server.grpc_port):
        for message in [*posts, *(random.bytes(size) for size in (1, 100, 100000))]:
            with connect(port) as one:
                try:
                    one.sendall(message)
                    one.shutdown(socket.SHUT_WR)
                    while one.recv(65536):
                        pass
                except OSError as error:  # the server hung up
                    assert not isinstance(error, TimeoutError)
    with server.http() as client:
        assert client.is_model_ready("cells.tessera")
    assert labels(server, http, [b"fine"]) == labels(server, grpc, [b"fine"])


def test_a_cancelled_image_ends_between_tiles(server):
    def counts():  # of answers, and of requests that ended without one; one that waits is not begun
        found = server.statistics("cells.tessera")["inference_stats"]
        success, *others = (int(found.get(what, {}).get("count", 0)) for what in ("success", "fail", "cancel"))
        return success, sum(others)
    success, failed = counts()
    with server.grpc() as client:
        calls = [client.async_infer("cells.tessera", [image_input(grpc, LONG[None])], lambda result, error: None)
                 for _ in range(3)]
        until_both_instances_run(server)
        for call in calls:
            call.cancel()
        until(lambda: sum(counts()) >= success + failed + 3)
        assert counts() == (success, failed + 3)
        assert infer(client, grpc, "cells.tessera", image_input(grpc, LONG[None, :64, :64]), ["MASK"])


def load(server, repository, name, model, config=None):
    shutil.rmtree(repository / name, ignore_errors=True)
    add_model(repository, name, model, config)
    with server.http() as client:
        client.load_model(name)


def test_a_model_is_replaced_while_it_answers(server, repository):
    name, image = "swap.tessera", image_input(http, LONG[None, :48, :48])
    load(server, repository, name, UNET)
    with server.http() as client:
        expected = infer(client, http, name, image)["PROBABILITIES"].tobytes()
    stop, wrong = threading.Event(), []

    def ask():
        with server.http() as client:
            while not stop.is_set():
                try:
                    if infer(client, http, name, image)["PROBABILITIES"].tobytes() != expected:
                        wrong.append("other bytes")
                except InferenceServerException as error:
                    wrong.append(str(error))
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    with server.http() as client:
        for _ in range(3):
            os.utime(repository / name / "1/model.safetensors")
            client.load_model(name)
    stop.set()
    for thread in threads:
        thread.join(WAIT)
    assert not wrong

    broken = repository / name / "1/model.safetensors"
    broken.write_bytes(UNET.read_bytes()[:-100])
    with server.http() as client:
        with pytest.raises(InferenceServerException, match="safetensors"):
            client.load_model(name)
        assert infer(client, http, name, image)["PROBABILITIES"].tobytes() == expected  # the old one goes on
        shutil.copy(HAN, broken)
        client.load_model(name)
        assert infer(client, http, name, bytes_input(http, "TEXT", [b"superb"]))["LABEL"] == b"positive"
        client.unload_model(name)
        until(lambda: not client.is_model_ready(name))


def test_a_configuration_may_say_more(server, repository):
    head = 'backend: "tessera"\n'

    def parameter(name, value):
        return head + f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}\n'
    for name, value, said in (("max_memroy", "1G", "no parameter of a Tessera model.*max_memory"),
                              ("max_memory", "much", "parameter max_memory.*much"), ("threads", "-1", "threads.*-1"),
                              ("device", "tpu", "tpu"), ("probabilities", "perhaps", "true nor false")):
        with pytest.raises(InferenceServerException, match=said):
            load(server, repository, "odd", UNET, parameter(name, value))
    load(server, repository, "masks", UNET, parameter("probabilities", "false") + "max_batch_size: 3\n")
    load(server, repository, "tight", UNET, parameter("tile", "0") + parameter("max_memory", "40M")[len(head):])
    load(server, repository, "camera", UNET, head + 'max_batch_size: 2\n'
         'input { name: "IMAGE" data_type: TYPE_UINT16 dims: [ -1, -1 ] allow_ragged_batch: true }\n'
         'output { name: "MASK" data_type: TYPE_UINT8 dims: [ -1, -1 ] }\n')
    image = picture(50, 60, np.uint16)
    with server.http() as client:
        expected = infer(client, http, "cells.tessera", image_input(http, image[None]))
        masks = infer(client, http, "masks", image_input(http, image[None]))
        assert sorted(masks) == ["MASK", "OBJECTS"] and np.array_equal(masks["MASK"], expected["MASK"])
        assert client.get_model_config("masks")["max_batch_size"] == 3
        with pytest.raises(InferenceServerException, match="50 x 60 pixels needs .* the limit is 40.0 MiB"):
            infer(client, http, "tight", image_input(http, image[None]))
        flat = http.InferInput("IMAGE", [1, 50, 60], "UINT16")
        flat.set_data_from_numpy(image[None])
        assert np.array_equal(infer(client, http, "camera", flat)["MASK"], expected["MASK"])
        for name in ("masks", "tight", "camera"):
            client.unload_model(name)


def test_death_and_a_new_life_and_a_quiet_end(tmp_path):
    add_model(tmp_path / "repository", "cells.tessera", UNET)
    add_model(tmp_path / "repository", "reviews.tessera", HAN)
    with Server(tmp_path / "repository", tmp_path / "server.log", threads=2) as server:
        with server.http() as client:
            before = infer(client, http, "cells.tessera", image_input(http, LONG[None, :64, :80]))
        with ThreadPoolExecutor(9) as threads:
            lost = threads.submit(labels, server, grpc, [b"good"] * 200, 1000)
            time.sleep(0.2)
            server.process.kill()
            server.process.wait()
            with pytest.raises(InferenceServerException):
                lost.result(WAIT)
            server.start()
            with server.http() as client:
                after = infer(client, http, "cells.tessera", image_input(http, LONG[None, :64, :80]))
            assert before.keys() == after.keys() and all(np.array_equal(before[name], after[name]) for name in before)

            def answer():
                with server.http() as client:
                    return infer(client, http, "cells.tessera", image_input(http, LONG[None, :700, :700]), ["MASK"])
            last = [threads.submit(answer) for _ in range(8)]
            wait(last, WAIT, FIRST_COMPLETED)  # two instances: others run and wait
            server.terminate()
            assert [one.result(WAIT)["MASK"].shape for one in last] == [(1, 700, 700)] * 8
        assert server.process.wait(WAIT) == 0
