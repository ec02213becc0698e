"""A tritonserver of its own for a test: a repository, free ports, and what clients need."""
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
import urllib.request
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.http as http

ROOT = Path(__file__).parents[2]
BUILD = Path(os.environ.get("TESSERA_BUILD", ROOT / "build"))
UNET = ROOT / "models/demo/unet_isbi.safetensors"
HAN = ROOT / "models/demo/han_imdb.safetensors"
WAIT = 120  # seconds after which something hangs

INPUTS = {np.dtype("uint8"): ("IMAGE", "UINT8"), np.dtype("uint16"): ("IMAGE_UINT16", "UINT16"),
          np.dtype("float32"): ("IMAGE_FP32", "FP32")}


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def add_model(repository, name, model, config=None):
    """NAME/1/model.safetensors and, unless a configuration is given, nothing else."""
    (repository / name / "1").mkdir(parents=True)
    shutil.copy(model, repository / name / "1/model.safetensors")
    if config is not None:
        (repository / name / "config.pbtxt").write_text(config)


class Server:
    """Started by `with`; `options` are for the backend."""

    def __init__(self, repository, log, **options):
        packages = Path(sysconfig.get_paths()["purelib"])
        program = packages / "pytriton/tritonserver/bin/tritonserver"
        program.chmod(0o755)  # lost in the wheel
        self.http_port, self.grpc_port, self.metrics_port = free_ports(3)
        self.log = log
        self.command = [program, f"--model-repository={repository}", f"--backend-directory={BUILD / 'backends'}",
                        "--http-address=127.0.0.1", "--grpc-address=127.0.0.1", "--metrics-address=127.0.0.1",
                        f"--http-port={self.http_port}", f"--grpc-port={self.grpc_port}",
                        f"--metrics-port={self.metrics_port}", "--model-control-mode=explicit", "--load-model=*",
                        "--exit-on-error=false", "--metrics-interval-ms=100", f"--exit-timeout-secs={WAIT}",
                        "--backend-config=tessera,device=cpu",
                        *(f"--backend-config=tessera,{name}={value}" for name, value in options.items())]
        self.environment = os.environ | {"LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs")}

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *failure):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def start(self):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, stdout=log, stderr=log)
        deadline = time.monotonic() + WAIT
        while not self.answers():
            text = Path(self.log).read_text()
            assert self.process.poll() is None and time.monotonic() < deadline, text[-3000:]
            assert "UNAVAILABLE: " not in text, text[:3000]
            time.sleep(0.1)

    def answers(self):
        try:
            with self.http() as client:
                return client.is_server_ready()
        except OSError:
            return False

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def http(self):
        return http.InferenceServerClient(f"127.0.0.1:{self.http_port}", network_timeout=WAIT, connection_timeout=WAIT)

    def grpc(self):
        return grpc.InferenceServerClient(f"127.0.0.1:{self.grpc_port}")

    def statistics(self, model):
        with self.http() as client:
            return client.get_inference_statistics(model)["model_stats"][0]

    def metric(self, name, model):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=WAIT) as answer:
            text = answer.read().decode()
        return sum(float(line.split()[-1]) for line in text.splitlines()
                   if line.startswith(name + "{") and f'model="{model}"' in line)


def until(condition):
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def tensor(module, name, kind, array):
    made = module.InferInput(name, list(array.shape), kind)
    made.set_data_from_numpy(array)
    return made


def image_input(module, images):
    """(n, h, w) or (n, h, w, channels)."""
    name, kind = INPUTS[images.dtype]
    return tensor(module, name, kind, images if images.ndim == 4 else images[..., None])


def bytes_input(module, name, values):
    return tensor(module, name, "BYTES", np.array(values, np.object_).reshape(-1, 1))


def wanted(module, names):
    return [module.InferRequestedOutput(name) for name in names] or None


def infer(client, module, model, given, outputs=()):
    """All outputs by name, or those asked for."""
    result = client.infer(model, [given], outputs=wanted(module, outputs))
    response = result.get_response()
    names = [one["name"] for one in response["outputs"]] if module is http else [one.name for one in response.outputs]
    return {name: result.as_numpy(name) for name in names}


def picture(height, width, dtype=np.uint8, seed=0):
    """Membranes of a kind: dark lines on noise."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(seed).normal(0, 12, (height, width))
    grey = np.clip(170 + noise - 120 * ((np.sin(x / 9 + seed) + np.cos(y / 11)) ** 2 < 0.05), 0, 255)
    if dtype == np.float32:
        return (grey / 255).astype(dtype)
    return (grey * (257 if dtype == np.uint16 else 1)).astype(dtype)


def run_program(*arguments):
    done = subprocess.run([BUILD / "tessera", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
