#!/usr/bin/env python3
"""Measures what ranks gain: `mpirun -n R tessera train` against PyTorch's DistributedDataParallel with gloo, in one run.

    tools/bench/ranks.py                     # 1 and 2 ranks of one thread each
    tools/bench/ranks.py --ranks 1,2,4 --rounds 5

A step is four batches of one tile of 256 x 256 for the U-Net of the ISBI recipe (base 16, batch norm), forward,
cross-entropy, backward, sum over the ranks and Adam; R ranks take 4 / R of the batches each. PyTorch sums once a step
(no_sync before). Its batches lie in memory; Tessera cuts its tiles out of images, without augmentation. A figure of
Tessera's is the difference of two runs of different length, which leaves start and end out, one of PyTorch's the median
over the steps; of both the median over the rounds, each of which measures all. --python names an interpreter with torch.
Tessera's models of all ranks must have equal bytes. Prints a Markdown table; -o FILE gets all figures as JSON.
"""

import argparse
import datetime
import json
import os
import pathlib
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from peers import commit, machine

BATCHES, SIZE = 4, 256


def peer(steps):
    """A rank of PyTorch's; the first one prints the seconds of each step."""
    import torch
    import torch.distributed as dist
    import torch.nn.functional as F
    from training_peer import RATE, UNet

    torch.set_num_threads(1)
    torch.manual_seed(1)
    dist.init_process_group("gloo")
    own = BATCHES // dist.get_world_size()
    network = UNet(batch=1, size=SIZE, depth=4, base=16, padding="same", norm="before_relu")
    [image], labels, _ = network.prepare("channels_last", "cpu")
    parallel = torch.nn.parallel.DistributedDataParallel(network, gradient_as_bucket_view=True)
    adam = torch.optim.Adam(parallel.parameters(), RATE, fused=True)

    def step():
        adam.zero_grad(set_to_none=True)
        with parallel.no_sync():
            for _ in range(own - 1):
                (F.cross_entropy(parallel(image), labels) / own).backward()
        (F.cross_entropy(parallel(image), labels) / own).backward()
        adam.step()

    seconds = []
    for _ in range(2 + steps):
        dist.barrier()
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    if dist.get_rank() == 0:
        print(json.dumps({"torch": torch.__version__, "seconds": statistics.median(seconds[2:])}))
    dist.destroy_process_group()


def time_peer(python, ranks, steps):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(ranks):
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(ranks)}
        started.append(subprocess.Popen([python, __file__, "--peer", "--steps", str(steps)],
                                        env={**os.environ, **place}, stdout=subprocess.PIPE, text=True))
    said = [one.communicate()[0] for one in started]
    if any(one.returncode for one in started):
        sys.exit("ranks: PyTorch failed")
    return json.loads(said[0])


def write_tiles(folder):
    draw = random.Random(1)
    for what in ("images", "masks"):
        (folder / what).mkdir(parents=True)
        for i in range(4):
            pixels = draw.randbytes(SIZE * SIZE)
            if what == "masks":
                pixels = bytes(255 * (p & 1) for p in pixels)
            (folder / what / f"{i}.pgm").write_bytes(b"P5 %d %d 255\n" % (SIZE, SIZE) + pixels)


def time_tessera(program, data, folder, ranks, steps):
    seconds, model = [], None
    for length in (2, 2 + steps):
        # The model tells its file's name, so each run has a folder of its own.
        (folder / str(ranks)).mkdir(exist_ok=True)
        model = folder / str(ranks) / f"{length}.safetensors"
        start = time.perf_counter()
        subprocess.run(
            ["mpirun", "-n", str(ranks), "--oversubscribe", "--bind-to", "none", "--allow-run-as-root", program,
             "train", "unet", str(data), "-o", str(model), "--base", "16", "--norm", "before_relu", "--tile", str(SIZE),
             "--accumulate", str(BATCHES), "--tiles", str(BATCHES * length), "--epochs", "1", "--validation", "none",
             "--no-augmentation", "--device", "cpu", "--threads", "1", "-q"], check=True)
        seconds.append(time.perf_counter() - start)
    return (seconds[1] - seconds[0]) / steps, model.read_bytes()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tessera", default="build/tessera")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--ranks", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("-o", "--output", type=pathlib.Path)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        peer(options.steps)
        return
    if not shutil.which("mpirun"):
        sys.exit("ranks: no mpirun; apt-get install openmpi-bin")
    program = shutil.which(options.tessera)
    if not program:
        sys.exit(f"ranks: no program at '{options.tessera}'; build it, or name it with --tessera")
    counts = [int(one) for one in options.ranks.split(",")]
    if any(one < 1 or BATCHES % one for one in counts):
        sys.exit(f"ranks: --ranks: expected numbers that divide {BATCHES}")

    host = machine()
    report = {"kind": "ranks", "date": datetime.date.today().isoformat(), "commit": commit(), "machine": host, "versions": {},
              "batches_of_a_step": BATCHES, "seconds": {"tessera": {}, "torch": {}}}
    figures = {(who, count): [] for who in ("tessera", "torch") for count in counts}
    models = set()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_tiles(folder / "data")
        for _ in range(options.rounds):
            for count in counts:
                seconds, model = time_tessera(os.path.abspath(program), folder / "data", folder, count, options.steps)
                figures["tessera", count].append(seconds)
                models.add(model)
                said = time_peer(options.python, count, options.steps)
                figures["torch", count].append(said["seconds"])
                report["versions"]["torch"] = said["torch"]
    if len(models) != 1:
        sys.exit("ranks: the models of different numbers of ranks differ")
    host["load_average_after"] = os.getloadavg()[0]
    print("| ranks | Tessera, s a step | gain | PyTorch DDP, gloo | gain | speed |\n|---:|---:|---:|---:|---:|---:|")
    for count in counts:
        def median(who, among=count):
            return statistics.median(figures[who, among])

        def gain(who):
            return statistics.median(a / b for a, b in zip(figures[who, counts[0]], figures[who, count]))

        speed = statistics.median(b / a for a, b in zip(figures["tessera", count], figures["torch", count]))
        print(f"| {count} | {median('tessera'):.3f} | {gain('tessera'):.2f} | {median('torch'):.3f} | "
              f"{gain('torch'):.2f} | {speed:.2f} |")
        for who in ("tessera", "torch"):
            report["seconds"][who][count] = figures[who, count]
    print(f"\nload before {host['load_average_before']:.1f}, after {host['load_average_after']:.1f}")
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
