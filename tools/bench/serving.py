#!/usr/bin/env python3
"""Requests a second of servers of one UNet and one HAN, in one run: the Triton backend, and a plain ASGI app (uvicorn) around
the Python wheel or around ONNX Runtime with the same network, as `tessera export` writes it.

    apt-get install hey
    tests/serve/run.sh && build/serve_environment/bin/pip install onnxruntime uvicorn out/wheels/*.whl
    build/serve_environment/bin/python tools/bench/serving.py --seconds 10 -o serving.json

A request is an image of 256 x 256 (answer: its mask) or a review (answer: the probabilities), posted by hey over HTTP on this
machine by 1, 8 and 32 clients that keep their connections. All servers have as many threads as there are processors, which
hey shares. Before anything is timed each server's answer is compared: Triton's and the wheel's are the same bytes, of ONNX
Runtime the labels that differ are said. ONNX Runtime gets no reviews: its network takes numbers of words, and what makes those
of a text is not its. The load of the machine before the run is in the report; beside other work the figures mean little.
"""
import argparse
import asyncio
import contextlib
import csv
import datetime
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SIDE = 256
REVIEW = "A wonderful film. The ending drags a little, but the cast is superb. I would see it again."
THREADS = len(os.sched_getaffinity(0))


# ---- the ASGI app, in a process of its own: uvicorn serving:app with SERVING=ENGINE=MODEL


def answerer(engine, model):
    """bytes of a request -> bytes of its answer."""
    if engine == "onnxruntime":
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

        def segment(body):
            image = np.frombuffer(body, np.uint8).reshape(SIDE, SIDE).astype(np.float32)
            image = (image - image.mean()) / (image.std() + np.float32(1e-6))  # the bundled model's "standardize"
            return session.run(["mask"], {"image": image[None, None]})[0].tobytes()
        return segment
    import tessera
    opened = tessera.load(model, device="cpu", threads=THREADS)
    if opened.task == "segment":
        return lambda body: opened(np.frombuffer(body, np.uint8).reshape(SIDE, SIDE)).mask.tobytes()
    return lambda body: opened(body.decode()).probabilities.tobytes()


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        app.answer = answerer(*os.environ["SERVING"].split("=", 1))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return await send({"type": "lifespan.shutdown.complete"})
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    answer = await asyncio.to_thread(app.answer, body) if body else b""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/octet-stream")]})
    await send({"type": "http.response.body", "body": answer})


@contextlib.contextmanager
def asgi(engine, model):
    from server import free_ports
    port = free_ports(1)[0]
    process = subprocess.Popen([sys.executable, "-m", "uvicorn", "--app-dir", Path(__file__).parent, "--log-level", "error", "--lifespan", "on",
                                "--port", str(port), "serving:app"],
                               env=os.environ | {"SERVING": f"{engine}={model}"})
    try:
        url = f"http://127.0.0.1:{port}/"
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(url).read()
                break
            if process.poll() is not None:
                sys.exit(f"serving: uvicorn ended with {process.returncode}")
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


# ---- the client


def hey(url, body, headers, clients, seconds):
    """Requests a second, and times in seconds, of answers with the status 200; others end the run."""
    words = ["hey", "-z", f"{seconds}s", "-c", str(clients), "-m", "POST", "-T", "application/octet-stream", "-t", "0", "-o", "csv",
             "-D", str(body)]
    for name, value in headers.items():
        words += ["-H", f"{name}: {value}"]
    done = subprocess.run([*words, url], capture_output=True, text=True, check=True)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    wrong = {row["status-code"] for row in rows} - {"200"}
    if wrong or not rows:
        sys.exit(f"serving: {url} answered {wrong or 'nothing'}")
    times = sorted(float(row["response-time"]) for row in rows)
    ends = max(float(row["offset"]) + float(row["response-time"]) for row in rows)
    return {"requests_per_second": len(rows) / ends, "median": statistics.median(times), "p99": times[int(0.99 * (len(times) - 1))]}


def post(url, body, headers):
    return urllib.request.urlopen(urllib.request.Request(url, body.read_bytes(), headers)).read()


def make_requests(folder):
    """What is posted to Triton, and to the app, as files; with the name of Triton's output and its headers."""
    import tritonclient.http as http
    from server import bytes_input, image_input, picture
    image = picture(SIDE, SIDE)
    requests = {}
    for name, given, plain, output in (("image", image_input(http, image[None]), image.tobytes(), "MASK"),
                                       ("review", bytes_input(http, "TEXT", [REVIEW.encode()]), REVIEW.encode(), "PROBABILITIES")):
        body, header = http.InferenceServerClient.generate_request_body(
            [given], outputs=[http.InferRequestedOutput(output, binary_data=True)])
        for where, data in ((f"{name}.triton", body), (f"{name}.plain", plain)):
            (folder / where).write_bytes(data)
        requests[name] = {"Inference-Header-Content-Length": header}
    return requests


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="of each row")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("-o", "--output", type=Path, help="all figures as JSON")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests/serve"))
    from peers import commit, machine
    from server import BUILD, HAN, UNET, Server, add_model
    load = os.getloadavg()
    rows, answers = [], {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        headers = make_requests(folder)
        onnx = folder / "unet.onnx"
        subprocess.run([BUILD / "tessera", "export", UNET, "-o", onnx], check=True, capture_output=True)
        for name, model in (("cells.tessera", UNET), ("reviews.tessera", HAN)):
            add_model(folder / "repository", name, model)

        @contextlib.contextmanager
        def triton(name):
            with Server(folder / "repository", folder / "log", threads=THREADS) as server:
                yield f"http://127.0.0.1:{server.http_port}/v2/models/{name}/infer"
        servers = [("image", "Triton, Tessera's backend", lambda: triton("cells.tessera")),
                   ("image", "ASGI, Tessera's wheel", lambda: asgi("tessera", UNET)),
                   ("image", "ASGI, ONNX Runtime", lambda: asgi("onnxruntime", onnx)),
                   ("review", "Triton, Tessera's backend", lambda: triton("reviews.tessera")),
                   ("review", "ASGI, Tessera's wheel", lambda: asgi("tessera", HAN))]
        for work, name, start in servers:
            is_triton = name.startswith("Triton")
            body, extra = folder / f"{work}.{'triton' if is_triton else 'plain'}", headers[work] if is_triton else {}
            with start() as url:
                size = SIDE * SIDE if work == "image" else 8
                answers[work, name] = post(url, body, extra)[-size:]  # Triton's begins with JSON
                for clients in options.clients:
                    hey(url, body, extra, clients, min(1, options.seconds))
                    rows.append({"work": work, "server": name, "clients": clients} | hey(url, body, extra, clients, options.seconds))
                    one = rows[-1]
                    print(f"{work:7} {name:26} {clients:3} clients {one['requests_per_second']:9.1f}/s, median "
                          f"{1000 * one['median']:7.1f} ms, p99 {1000 * one['p99']:7.1f} ms", flush=True)
    for work in ("image", "review"):
        if answers[work, "Triton, Tessera's backend"] != answers[work, "ASGI, Tessera's wheel"]:
            sys.exit(f"serving: Triton's answer to the {work} differs from the wheel's")
    different = int(np.count_nonzero(np.frombuffer(answers["image", "ASGI, ONNX Runtime"], np.uint8)
                                     != np.frombuffer(answers["image", "ASGI, Tessera's wheel"], np.uint8)))
    print(f"{different} of {SIDE * SIDE} labels of ONNX Runtime differ; load of the machine before the run: {load[0]:.2f}")
    if options.output:
        options.output.write_text(json.dumps({
            "kind": "serving", "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "commit": commit(), "machine": machine(), "load_before": load, "threads": THREADS, "seconds": options.seconds,
            "labels_that_differ": different, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
