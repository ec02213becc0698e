#!/usr/bin/env python3
"""Measures Tessera against PyTorch on one device: same weights, same machine, same run.

    tools/bench/gpu_peers.py --json out.json         # on a GPU
    tools/bench/gpu_peers.py --device cpu --quick    # small networks: tries this program itself

Needs PyTorch (1.13 or newer) and numpy. Each network is made once with random weights, as a PyTorch
module and as a Tessera model file; both answer the same input first, and in fp32 the run fails if
they differ.

Two times of each, medians both:
  device      kernels alone, by the device's own clock, many runs enqueued in a row
              (Tessera: its CUDA graph; PyTorch: eager, a CUDA graph, torch.compile)
  end to end  input in the host's memory to answer in the host's memory, pageable for both
Speed is PyTorch's time over Tessera's, so above 1 Tessera is faster. PyTorch runs the U-Net in
channels_last with cudnn.benchmark and takes the mask from the logits; recurrent layers are
torch.nn's (cuDNN), packed where the network is masked. torch.compile (max-autotune) runs in a
process of its own that --compile-seconds ends.
"""

import argparse
import contextlib
import json
import pathlib
import shlex
import statistics
import subprocess
import sys
import time

import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Of a probability, in fp32. Order of summation alone moves it by 1e-5; a layer left out by 1e-2.
LARGEST_DIFFERENCE = 1e-4
STORED = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16,
          "fp16": torch.float16}
BATCHES, BATCH_SECONDS, MOST_RUNS = 9, 0.05, 1000


# ---- the networks ------------------------------------------------------------------------------


def write_safetensors(path, tensors, config):
    """Length of the header, header, tensors."""
    header, offset = {"__metadata__": {"tessera": json.dumps(config)}}, 0
    for name, tensor in tensors.items():
        kind = {"float32": "F32", "uint8": "U8"}[str(tensor.dtype)]
        header[name] = {"dtype": kind, "shape": tensor.shape,
                        "data_offsets": [offset, offset + tensor.nbytes]}
        offset += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor).tobytes())


def fill(module, scale):
    """Normal values, so scaled that activations neither vanish nor overflow."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape) * (scale if parameter.dim() > 1 else 0.05))
    return module


class UNet(torch.nn.Module):
    """Ronneberger, Fischer & Brox 2015."""

    def __init__(self, depth, base):
        super().__init__()
        self.named = {}
        self.depth = depth
        for i in range(depth + 1):
            name = f"down{i}" if i < depth else "bottom"
            self.pair(name, 1 if i == 0 else base << (i - 1), base << i)
        for i in reversed(range(depth)):
            c = base << i
            self.layer(f"up{i}/upsample", torch.nn.ConvTranspose2d(2 * c, c, 2, 2), (2 * c)**-0.5)
            self.pair(f"up{i}", 2 * c, c)
        self.layer("head/conv", torch.nn.Conv2d(base, 2, 1), (2 / base)**0.5)

    def layer(self, name, module, scale):
        self.named[name] = fill(module, scale)
        self.add_module(name.replace("/", "_"), module)

    def pair(self, name, c_in, c_out):
        for i, c in enumerate((c_in, c_out), 1):
            self.layer(f"{name}/conv{i}", torch.nn.Conv2d(c, c_out, 3), (2 / (9 * c))**0.5)

    def convolve(self, name, x):
        for i in (1, 2):
            x = torch.relu(self.named[f"{name}/conv{i}"](x))
        return x

    def logits(self, x):
        skips = []
        for i in range(self.depth):
            x = self.convolve(f"down{i}", x)
            skips.append(x)
            x = torch.nn.functional.max_pool2d(x, 2)
        x = self.convolve("bottom", x)
        for i in reversed(range(self.depth)):
            x = self.named[f"up{i}/upsample"](x)
            cut = (skips[i].shape[2] - x.shape[2]) // 2
            skip = skips[i][:, :, cut:cut + x.shape[2], cut:cut + x.shape[3]]
            x = self.convolve(f"up{i}", torch.cat((skip, x), 1))
        return self.named["head/conv"](x)

    def forward(self, x):
        """(n, 1, h, w) -> mask (n, ho, wo)"""
        return self.logits(x).argmax(1).to(torch.uint8)

    def probabilities(self, x):
        return self.logits(x).float().softmax(1)

    def tensors(self):
        return {f"{name}/{key}": value.detach().float().cpu().numpy()
                for name, module in self.named.items()
                for key, value in module.named_parameters()}


class Level(torch.nn.Module):
    """Recurrence, dense layer if any, attention pooling (Yang et al. 2016)."""

    def __init__(self, name, features, spec):
        super().__init__()
        self.name, self.masked, self.eps = name, spec["masked"], spec["eps"]
        units, dense, hidden = spec["units"], spec["dense"], spec["attention"]
        kind = torch.nn.LSTM if spec["cell"] == "lstm" else torch.nn.GRU
        self.rnn = fill(kind(features, units, batch_first=True, bidirectional=True), units**-0.5)
        self.width = dense or 2 * units
        self.dense = fill(torch.nn.Linear(2 * units, dense), (2 * units)**-0.5) if dense else None
        self.hidden = fill(torch.nn.Linear(self.width, hidden), 2 * self.width**-0.5)
        self.context = torch.nn.Parameter(0.3 * torch.randn(hidden))

    def forward(self, x, lengths):
        """(rows, t, features) -> (rows, width); `lengths` (rows), on the host and on the device"""
        t = x.shape[1]
        if self.masked:
            on_host, on_device = lengths
            in_order = bool((on_host[:-1] >= on_host[1:]).all())  # saves PyTorch two gathers
            x = torch.nn.utils.rnn.pack_padded_sequence(x, on_host, True, enforce_sorted=in_order)
        x = self.rnn(x)[0]
        if self.masked:
            x = torch.nn.utils.rnn.pad_packed_sequence(x, True, total_length=t)[0]
        if self.dense is not None:
            x = self.dense(x)
        score = torch.tanh(self.hidden(x)) @ self.context
        if self.masked:
            outside = torch.arange(t, device=x.device)[None, :] >= on_device[:, None]
            score = score.masked_fill(outside, float("-inf"))
        top = score.max(1, keepdim=True)[0]
        share = torch.exp(score - top)
        share = share / (share.sum(1, keepdim=True) + self.eps * torch.exp(-top))
        return (share[:, None, :] @ x)[:, 0]

    def tensors(self):
        rnn = {f"rnn/{key.replace('_l0', '')}": value for key, value in self.rnn.named_parameters()}
        parts = {"dense": self.dense, "attention": self.hidden}
        linear = {f"{part}/{key}": value for part, module in parts.items() if module is not None
                  for key, value in module.named_parameters()}
        every = {**rnn, **linear, "attention/context": self.context}
        return {f"{self.name}/{key}": value.detach().float().cpu().numpy()
                for key, value in every.items()}


class Han(torch.nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.embedding = torch.nn.Embedding(spec["words"], spec["features"])
        self.word = Level("word", spec["features"], spec)
        self.sentence = Level("sentence", self.word.width, spec)
        # More gain at the end, for answers that a wrong layer would change.
        self.output = fill(torch.nn.Linear(self.sentence.width, spec["classes"]),
                           8 * self.sentence.width**-0.5)

    def forward(self, ids, word_counts, sentence_counts):
        """ids (n, sentences, words) -> probabilities (n, classes)"""
        n, sentences, words = ids.shape
        x = self.embedding(ids.reshape(n * sentences, words))
        x = self.word(x, word_counts)
        x = self.sentence(x.reshape(n, sentences, -1), sentence_counts)
        return self.output(x).float().softmax(1)

    def tensors(self):
        return {"embedding/weight": self.embedding.weight.detach().float().cpu().numpy(),
                **self.word.tensors(), **self.sentence.tensors(),
                **{f"output/{key}": value.detach().float().cpu().numpy()
                   for key, value in self.output.named_parameters()}}


# ---- what is run: network, inputs, and how Tessera is asked for the same ------------------------


class UNetCase:
    name = "U-Net 2015"

    def __init__(self, options):
        self.depth, self.base, self.size = (2, 8, 60) if options.quick else (4, 64, 572)
        self.margin = 2 * sum(2 << i for i in range(self.depth)) + (2 << self.depth)
        self.path = options.work / "unet.safetensors"
        self.title = f"{self.name}, {self.size} x {self.size}"

    def make(self):
        torch.manual_seed(1)
        self.model = UNet(self.depth, self.base).eval()
        write_safetensors(self.path, self.model.tensors(), {
            "format": 1, "architecture": "unet",
            "unet": {"depth": self.depth, "base": self.base, "channels": 1, "classes": 2},
            "preprocessing": {"channels": 1, "scale": "unit"}})

    def prepare(self, device, stored):
        self.model.to(device=device, dtype=stored, memory_format=torch.channels_last)

    def host_input(self, batch):
        """As Tessera takes it: f32, channels last, which with one channel is both layouts."""
        return (torch.rand(batch, 1, self.size, self.size),)

    def to_device(self, inputs, device, stored):
        return (inputs[0].to(device).to(dtype=stored, memory_format=torch.channels_last),)

    def arguments(self):
        return ["--size", str(self.size)]

    def answers(self, tessera, precision, device, stored, options):
        """Probabilities by Tessera and by PyTorch, (h, w, 2)."""
        # Tessera mirrors the borders of the image that it is given, PyTorch reads them from data.
        side = self.size - 2 * self.margin
        pixels = np.random.default_rng(2).integers(0, 256, (side, side), np.uint8)
        image, out = options.work / "unet.pgm", options.work / f"answer-{precision}"
        image.write_bytes(b"P5\n%d %d\n255\n" % (side, side) + pixels.tobytes())
        tessera.run(["segment", image, "-m", self.path, "-o", out, "--precision", precision,
                     "--no-overlay", "--quiet", "--probabilities"])
        own = np.load(out / "unet.probabilities.npy")[0]
        x = np.pad(pixels, self.margin, mode="reflect") / np.float32(255)
        with torch.no_grad():
            x = self.to_device((torch.from_numpy(x)[None, None],), device, stored)
            peer = self.model.probabilities(*x)[0].cpu().numpy().transpose(1, 2, 0)
        return own, peer


class HanCase:
    def __init__(self, name, spec, options):
        self.name, self.spec = name, dict(spec)
        self.sentences, self.words = (5, 7) if options.quick else (64, 150)
        if options.quick:
            self.spec.update(words=500, units=10)
        self.spec.update(features=100, max_sentences=self.sentences, max_words=self.words)
        self.path = options.work / f"han-{spec['cell']}.safetensors"
        self.title = f"{name}, {self.sentences} sentences x {self.words} words"

    def make(self):
        torch.manual_seed(3)
        self.model = Han(self.spec).eval()
        tensors = self.model.tensors()
        known = "\n".join(f"w{i}" for i in range(2, self.spec["words"]))  # 0 padding, 1 unknown
        tensors["vocabulary"] = np.frombuffer(known.encode(), np.uint8)
        write_safetensors(self.path, tensors, {"format": 1, "architecture": "han", "han": self.spec,
                                               "text": {"splitter": {"newlines": "every"}}})

    def prepare(self, device, stored):
        self.model.to(device=device, dtype=stored)

    def lengths(self, batch):
        if not self.spec["masked"]:
            return None, None
        return torch.full((batch * self.sentences,), self.words), torch.full((batch,),
                                                                             self.sentences)

    def host_input(self, batch):
        shape = (batch, self.sentences, self.words)
        return (torch.randint(2, self.spec["words"], shape, dtype=torch.int32),
                *self.lengths(batch))

    def to_device(self, inputs, device, _stored):
        lengths = ((one, None if one is None else one.to(device)) for one in inputs[1:])
        return (inputs[0].to(device), *lengths)

    def arguments(self):
        return ["--sentences", str(self.sentences), "--words", str(self.words)]

    def answers(self, tessera, precision, device, stored, options):
        """Probabilities by Tessera and by PyTorch, (1, classes)."""
        random = np.random.default_rng(4)
        counts = np.full(self.sentences, self.words)
        if self.spec["masked"]:
            counts = random.integers(1, self.words + 1, self.sentences)
        ids = np.zeros((1, self.sentences, self.words), np.int32)
        for row, count in zip(ids[0], counts):
            row[:count] = random.integers(2, self.spec["words"], count)
        text = options.work / "document.txt"
        text.write_text("\n".join(" ".join(f"w{i}" for i in row if i > 0) for row in ids[0]))
        answer = json.loads(tessera.run(["classify", text, "-m", self.path, "--json",
                                         "--precision", precision]))
        if answer["unknown_words"] + answer["words_dropped"] + answer["sentences_dropped"] > 0:
            sys.exit("gpu_peers: Tessera did not read every word that PyTorch reads")
        values = {one["label"]: one["probability"] for one in answer["probabilities"]}
        own = np.float32([[values[f"class {i}"] for i in range(self.spec["classes"])]])
        lengths = (torch.from_numpy(counts).long(), torch.tensor([self.sentences])) \
            if self.spec["masked"] else (None, None)
        with torch.no_grad():
            inputs = self.to_device((torch.from_numpy(ids), *lengths), device, stored)
            peer = self.model(*inputs).cpu().numpy()
        return own, peer


TUTORIAL = {"words": 20_000, "cell": "lstm", "units": 150, "dense": 200, "attention": 200,
            "masked": False, "eps": 1e-7, "classes": 30}
PAPER = {"words": 20_000, "cell": "gru", "units": 50, "dense": 0, "attention": 100,
         "masked": True, "eps": 1e-7, "classes": 2}


def cases(options):
    return [UNetCase(options), HanCase("HAN of the tutorial, LSTM 150", TUTORIAL, options),
            HanCase("HAN of the paper, GRU 50, masked", PAPER, options)]


# ---- measuring ---------------------------------------------------------------------------------


class Tessera:
    def __init__(self, command, device):
        self.command, self.device = shlex.split(command), device

    def run(self, arguments):
        command = [*self.command, *map(str, arguments), "--device", self.device]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"'{shlex.join(command)}' ended with {done.returncode}")
        return done.stdout

    def bench(self, case, batch, precision, seconds):
        report = json.loads(self.run(
            ["bench", "-m", case.path, *case.arguments(), "--batch", batch, "--precision",
             precision, "--json", "--warmup", 3, "--duration", seconds]))
        return {"seconds": report["median_seconds"],
                "device_seconds": report.get("device_seconds", report["median_seconds"]),
                "share_of_peak": report["share_of_peak"], "flops": report["flops"],
                "device_bytes": report["measured_peak_bytes"]}


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def device_seconds(run, device):
    """Median over batches of the mean of runs enqueued in a row."""
    def batch(count):
        if device == "cpu":
            start = time.perf_counter()
            for _ in range(count):
                run()
            return (time.perf_counter() - start) / count
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(count):
            run()
        end.record()
        end.synchronize()
        return 1e-3 * begin.elapsed_time(end) / count

    batch(3)
    count = max(1, min(MOST_RUNS, int(BATCH_SECONDS / max(batch(3), 1e-6))))
    return statistics.median(batch(count) for _ in range(BATCHES))


def end_to_end_seconds(run, seconds):
    """Median; `run` goes from the host's memory to the host's memory."""
    for _ in range(3):
        run()
    times, begin = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure_eager(case, batch, device, stored, options):
    host = case.host_input(batch)
    inputs = case.to_device(host, device, stored)
    return {"device_seconds": device_seconds(lambda: case.model(*inputs), device),
            "seconds": end_to_end_seconds(
                lambda: case.model(*case.to_device(host, device, stored)).cpu(), options.duration)}


def measure_graph(case, batch, device, stored, options):
    host = case.host_input(batch)
    inputs = case.to_device(host, device, stored)
    side = torch.cuda.Stream()  # PyTorch asks for a warm-up on another stream before a capture
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            case.model(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = case.model(*inputs)

    def once():
        inputs[0].copy_(host[0].to(device))
        graph.replay()
        return answer.cpu()

    return {"device_seconds": device_seconds(graph.replay, device),
            "seconds": end_to_end_seconds(once, options.duration)}


def measure_compiled(case, batch, device, stored, options):
    host = case.host_input(batch)
    inputs = case.to_device(host, device, stored)
    compiled = torch.compile(case.model, mode="max-autotune")
    return {"device_seconds": device_seconds(lambda: compiled(*inputs), device),
            "seconds": end_to_end_seconds(
                lambda: compiled(*case.to_device(host, device, stored)).cpu(), options.duration)}


@contextlib.contextmanager
def precision_of(precision):
    tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    with torch.no_grad():
        yield STORED[precision]


def attempt(measure, *arguments):
    """The measurement, or why there is none."""
    try:
        return measure(*arguments)
    except Exception as error:  # of a peer: its row says so, the others go on
        return {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
                if str(error).strip() else type(error).__name__}


def compare(case, tessera, precision, stored, options):
    own, peer = case.answers(tessera, precision, options.device, stored, options)
    if own.shape != peer.shape:
        raise RuntimeError(f"Tessera's answer is {own.shape}, PyTorch's {peer.shape}")
    difference = float(np.abs(own - peer).max())
    return {"largest_difference": difference,
            "labels_changed": int((own.argmax(-1) != peer.argmax(-1)).sum()),
            "labels": int(own[..., 0].size)}


def precisions_of(case, options):
    if options.device == "cpu":
        return ["fp32"]
    if options.precision is not None:
        return [options.precision]
    # What a user gets comes first, for time may run out.
    return ["bf16", "fp32", "tf32"] if isinstance(case, UNetCase) else ["fp32", "bf16"]


def batches_of(case, options):
    if options.quick:
        return [1, 2]
    return [1, 8] if isinstance(case, UNetCase) else [1, 32]


def speeds(row):
    """PyTorch's time over Tessera's, by engine and kind of time."""
    return {engine: {kind: peer[kind] / row["tessera"][kind]
                     for kind in ("device_seconds", "seconds")}
            for engine, peer in row["pytorch"].items() if "error" not in peer}


def measure_row(case, batch, precision, tessera, answers, options):
    print(f"  {case.title}, batch {batch}, {precision}", file=sys.stderr)
    with precision_of(precision) as stored:
        case.prepare(options.device, stored)
        row = {"network": case.title, "batch": batch, "precision": precision, "answers": answers,
               "tessera": tessera.bench(case, batch, precision, options.duration),
               "pytorch": {"eager": attempt(measure_eager, case, batch, options.device, stored,
                                            options)}}
        synchronize(options.device)
        if options.device == "cuda":
            row["pytorch"]["graph"] = attempt(measure_graph, case, batch, options.device, stored,
                                              options)
    row["speed"] = speeds(row)
    return row


def compiled_child(options):
    """The process that measures torch.compile: one line of JSON per row, as soon as it is known."""
    case = UNetCase(options)
    case.make()
    precision = "fp32" if options.device == "cpu" else "bf16"
    with precision_of(precision) as stored:
        case.prepare(options.device, stored)
        for batch in batches_of(case, options):
            result = attempt(measure_compiled, case, batch, options.device, stored, options)
            print(json.dumps({"network": case.title, "batch": batch, "precision": precision,
                              "result": result}), flush=True)


def add_compiled(rows, options):
    if not hasattr(torch, "compile"):
        print("  torch.compile: this PyTorch has none", file=sys.stderr)
        return
    print("  torch.compile", file=sys.stderr)
    command = [sys.executable, __file__, *sys.argv[1:], "--compiled-child"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        text, _ = child.communicate(timeout=options.compile_seconds)
        late = ""
    except subprocess.TimeoutExpired:
        child.kill()  # the compilers that it started end with it
        text, _ = child.communicate()
        late = f"not done after {options.compile_seconds} s"
    done = [json.loads(line) for line in text.splitlines() if line.startswith('{"network"')]
    wanted = "fp32" if options.device == "cpu" else "bf16"
    for row in rows:
        if "U-Net" not in row["network"] or row["precision"] != wanted:
            continue
        found = [one["result"] for one in done if one["batch"] == row["batch"]]
        row["pytorch"]["compile"] = found[0] if found else {"error": late or "the process failed"}
        row["speed"] = speeds(row)


# ---- reporting ---------------------------------------------------------------------------------


def milliseconds(result, kind):
    return f"{1e3 * result[kind]:.3f}" if result and "error" not in result else "-"


def markdown(report):
    lines = [f"PyTorch {report['versions']['torch']}, device {report['device']}; times in ms, "
             "device (end to end)", "",
             "| network | batch | precision | Tessera | eager | graph | compile | speed "
             "| largest difference |",
             "|---|---:|---|---:|---:|---:|---:|---:|---:|"]
    for row in report["rows"]:
        def both(result):
            return f"{milliseconds(result, 'device_seconds')} ({milliseconds(result, 'seconds')})"
        peers = [both(row["pytorch"].get(engine)) for engine in ("eager", "graph", "compile")]
        speed = [s["device_seconds"] for s in row["speed"].values()]
        best = f"{min(speed):.2f} x" if speed else "-"
        lines.append(f"| {row['network']} | {row['batch']} | {row['precision']} "
                     f"| {both(row['tessera'])} | {' | '.join(peers)} | {best} "
                     f"| {row['answers']['largest_difference']:.2g} |")
    lines += ["", "Speed: of the device's time, against PyTorch's fastest."]
    for row in report["rows"]:
        lines += [f"{row['network']}, batch {row['batch']}, {row['precision']}, {engine}: "
                  f"{result['error']}"
                  for engine, result in row["pytorch"].items() if "error" in result]
    return "\n".join(lines + report["errors"])


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--precision", choices=list(STORED),
                        help="default: fp32, bf16, of the U-Net also tf32")
    parser.add_argument("--quick", action="store_true", help="small networks")
    parser.add_argument("--tessera", default=str(ROOT / "build" / "tessera"), metavar="COMMAND",
                        help="the program, or a command line that begins with it")
    parser.add_argument("--duration", type=float, default=0.3, metavar="S",
                        help="of an end-to-end measurement (default: 0.3)")
    parser.add_argument("--compile-seconds", type=float, default=100, metavar="S",
                        help="for torch.compile (default: 100; 0: leave it out)")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "out" / "gpu_peers",
                        metavar="DIR", help="for models and answers")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="all figures")
    parser.add_argument("--compiled-child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def save(report, options):
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def main(options):
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("gpu_peers: PyTorch sees no GPU; --device cpu --quick tries this program without")
    options.work.mkdir(parents=True, exist_ok=True)
    if options.compiled_child:
        return compiled_child(options)
    tessera = Tessera(options.tessera, options.device)
    on_gpu = options.device == "cuda"
    report = {"device": torch.cuda.get_device_name() if on_gpu else "cpu",
              "versions": {"torch": torch.__version__, "numpy": np.__version__,
                           "cuda": torch.version.cuda,
                           "cudnn": torch.backends.cudnn.version() if on_gpu else None},
              "quick": options.quick, "rows": [], "errors": []}
    for case in cases(options):
        case.make()
        for precision in precisions_of(case, options):
            try:
                with precision_of(precision) as stored:
                    case.prepare(options.device, stored)
                    answers = compare(case, tessera, precision, stored, options)
                # Written so that NaN fails too. What less than fp32 rounds away is reported alone.
                if precision == "fp32" and not answers["largest_difference"] <= LARGEST_DIFFERENCE:
                    raise RuntimeError(f"the answers differ by {answers['largest_difference']}, "
                                       f"expected at most {LARGEST_DIFFERENCE}")
                for batch in batches_of(case, options):
                    report["rows"].append(
                        measure_row(case, batch, precision, tessera, answers, options))
                    save(report, options)  # what is known stays if time runs out
            except Exception as error:  # of one network: the others go on, the end fails
                report["errors"].append(f"{case.title}, {precision}: {error}")
            case.make()  # rounding to bf16 was for good
    if options.compile_seconds > 0:
        add_compiled(report["rows"], options)
    save(report, options)
    print(markdown(report))
    return 1 if report["errors"] else 0


if __name__ == "__main__":
    sys.exit(main(parse_arguments()))
