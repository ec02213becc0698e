"""For gpu_suite.py: the GPU machine's programs, commands with limits, and what is printed."""

import json
import os
import pathlib
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "build-gpu" / "bundle"
WHERE_TOOLS_LIE = ["/usr/local/cuda/bin", "/opt/nvidia/nsight-compute"]
MOST_PRINTED = 9500      # characters: what comes back from a lent machine is cut at 12,000
FOR_SUMMARY = 3500       # of them
MOST_LOGGED = 40_000     # characters of one command


class Skip(Exception):
    """A stage that cannot run here, and why."""


class Failure(Exception):
    """A stage that found something wrong: what, and its results if any."""


class Printer:
    """Standard output, which must stay short: what does not fit is in the log."""

    def __init__(self):
        self.left = MOST_PRINTED - FOR_SUMMARY

    def say(self, text=""):
        for line in text.split("\n"):
            line = line[:110]
            if len(line) + 1 <= self.left:
                self.left -= len(line) + 1
                print(line, flush=True)

    def begin_summary(self):
        self.left += FOR_SUMMARY


class Runner:
    """Runs commands, within the time of the stage that is under way; several at a time too."""

    def __init__(self, log):
        self.log, self.lock, self.stage_end = log, threading.Lock(), 0

    def left(self):
        return self.stage_end - time.monotonic()

    def run(self, command, limit=None, variables=None, silence=None):
        """(exit code, output) with both streams in one; the code is None where time ran out, or
        where nothing was printed for `silence` seconds."""
        command = [str(part) for part in command]
        end = time.monotonic() + min(self.left(), limit if limit is not None else self.left())
        if end <= time.monotonic():
            return None, ""
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   start_new_session=True, cwd=ROOT,
                                   env={**os.environ, **(variables or {})})
        output, last = bytearray(), time.monotonic()
        cut = False
        while True:
            now = time.monotonic()
            until = min(end, last + silence) if silence is not None else end
            ready, _, _ = select.select([process.stdout], [], [], max(0, until - now))
            if ready:
                piece = os.read(process.stdout.fileno(), 1 << 16)
                if not piece:
                    break
                output += piece
                last = time.monotonic()
            cut = time.monotonic() >= (min(end, last + silence) if silence is not None else end)
            if cut:
                break
        # A program may close its output and go on.
        try:
            code = None if cut else process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            code = None
        if code is None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        process.stdout.close()
        text = output.decode(errors="replace")
        with self.lock:
            cut_text = "" if len(text) <= MOST_LOGGED else "[...]\n"
            self.log.write(f"$ {shlex.join(command)[:2000]}\n{cut_text}{text[-MOST_LOGGED:]}"
                           f"[exit code {code}]\n\n")
            self.log.flush()
        return code, text

    def must(self, command, limit=None):
        """The output of a command that has to succeed."""
        code, output = self.run(command, limit)
        if code is None:
            raise Failure(f"{pathlib.Path(command[0]).name}: no end within the time")
        if code != 0:
            last = output.strip().splitlines()[-1:] or [""]
            raise Failure(f"exit code {code}: {last[0]}")
        return output

    def report(self, command, limit=None):
        """The JSON that a command prints, after notes if any."""
        output = self.must(command, limit)
        if "{" not in output:
            raise Failure(f"{pathlib.Path(command[0]).name} printed no JSON")
        return json.JSONDecoder().raw_decode(output, output.index("{"))[0]


class Machine:
    """A machine with a GPU: the bundle's programs, on this machine's C library or, where that is
    too old, on the bundle's; tools that are installed here."""

    hang_scale = 1.0  # of the seconds without a word that are taken for a hang

    def __init__(self):
        self.prefix = []
        plain = [BUNDLE / "bin" / "tessera", "--version"]
        if subprocess.run(plain, capture_output=True).returncode != 0:
            loader = next((BUNDLE / "glibc").glob("ld-linux*"))
            places = [BUNDLE / "glibc", BUNDLE / "lib", *os.environ.get(
                "LD_LIBRARY_PATH", "").split(":")]
            self.prefix = [str(loader), "--library-path", ":".join(str(p) for p in places if p)]
        done = subprocess.run([*self.prefix, *plain], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"gpu_suite: the bundle does not run here: {done.stderr.strip()}")
        self.version = done.stdout.splitlines()[0]
        self.facts = json.loads((BUNDLE / "bundle.json").read_text())

    @staticmethod
    def describe():
        """What nvidia-smi says of the first GPU; None where there is no GPU."""
        fields = ["name", "driver_version", "memory.total", "clocks.sm", "clocks.max.sm",
                  "clocks.max.mem", "power.limit", "compute_cap", "temperature.gpu"]
        try:
            done = subprocess.run(["nvidia-smi", f"--query-gpu={','.join(fields)}",
                                   "--format=csv,noheader"], capture_output=True, text=True,
                                  timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode != 0 or not done.stdout.strip():
            return None
        return dict(zip(fields, map(str.strip, done.stdout.splitlines()[0].split(","))))

    def program(self, name, *arguments):
        return [*self.prefix, str(BUNDLE / "bin" / name), *map(str, arguments)]

    def script(self, name):
        """A program of tools/."""
        return [str(ROOT / "tools" / name)]

    def library_folders(self):
        """Where this Python has cuDNN and cuBLAS, as PyTorch brings them; empty where it has not:
        then the program looks in the usual places."""
        words = ("import importlib.util as u, pathlib\n"
                 "spec = u.find_spec('nvidia')\n"
                 "for base in (spec.submodule_search_locations if spec else []):\n"
                 "    for folder in sorted(pathlib.Path(base).glob('*/lib')): print(folder)")
        done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True)
        folders = done.stdout.split("\n")[:-1]
        return ":".join(folders) if any(pathlib.Path(f, "libcudnn.so.9").exists()
                                        for f in folders) else ""

    def tool(self, name):
        """Path of a tool of the CUDA toolkit, as a command."""
        found = shutil.which(name)
        for place in WHERE_TOOLS_LIE:
            found = found or next((str(p) for p in pathlib.Path(place).glob(f"**/{name}")
                                   if os.access(p, os.X_OK) and p.is_file()), None)
        if not found:
            raise Skip(f"{name} is not on this machine")
        return [found]

    def pytorch(self, program):
        """A program of tools/bench that needs PyTorch."""
        if subprocess.run([sys.executable, "-c", "import torch, numpy"],
                          capture_output=True).returncode != 0:
            raise Skip(f"{sys.executable} has no PyTorch or no numpy")
        return [sys.executable, f"tools/bench/{program}"]


class FakeMachine(Machine):
    """tools/bench/fake_gpu.py in the place of every program."""

    hang_scale = 0.2

    def __init__(self):
        self.version, self.facts = "tessera 0.0 (a fake)", {"commit": "none", "nvcc": "none"}

    @staticmethod
    def describe():
        return {"name": "Fake GPU", "driver_version": "0"}

    def program(self, name, *arguments):
        return [sys.executable, str(ROOT / "tools" / "bench" / "fake_gpu.py"), name,
                *map(str, arguments)]

    def tool(self, name):
        return self.program(name)

    def script(self, name):
        return self.program(name)

    def library_folders(self):
        return ""

    def pytorch(self, program):
        return self.program(program)


def slug_of(name):
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
