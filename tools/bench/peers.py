#!/usr/bin/env python3
"""Measures Tessera against ONNX Runtime and OpenVINO: same weights, same machine, same run.

    tools/bench/peers.py                      # all of them, 2 threads
    tools/bench/peers.py unet --threads 1

The peers are installed from PyPI into .venv-peers by the first run (--upgrade: again, the newest).
Each network is written twice from one set of random weights, as an ONNX graph and as a Tessera
model file, into out/peers. All programs then answer the same input, and the run fails if the
answers differ.

Each round measures the peers and every Tessera variant once, each in a process of its own (`tessera
bench`, random input of the same size); a figure is the median over the rounds of the median within
each. "direct" is Tessera without Winograd convolutions. Speed is the median of the rounds' ratios,
against ONNX Runtime. The cold start is a whole process, from its start to the first answer, files in
the system's cache: for a peer interpreter, import, session and first run; for Tessera `tessera segment` or
`classify`, which also read their input and write or print the answer.

Prints a Markdown table and writes all figures to tools/bench/results/<date>-<cpu>.json.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import time
import typing

ROOT = pathlib.Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv-peers"
PYTHON = VENV / "bin" / "python"
PACKAGES = {"numpy": "2", "onnx": "1", "onnxruntime": "1", "openvino": "2026"}  # major versions
WORK = ROOT / "out" / "peers"
RESULTS = ROOT / "tools" / "bench" / "results"
# Of a probability. Measured: 5e-6 between the programs; 3e-4 where the smallest part of a network,
# the bias of the HAN's sentence attention, is left out; 7e-2 for a crop that is off by one.
LARGEST_DIFFERENCE = 1e-4
COLD_RUNS = 3

# What measures a peer: `opened` runs the network on `feed` and gives the output that is asked for.
# Each imports what an inference needs and no more, for the cold start.
PEER_PROGRAM = """
import sys, time
import numpy
model, data, output, precision, threads, warmup, iterations, answer = sys.argv[1:]
{}
feed = numpy.load(data)
for _ in range(int(warmup)):
    result = opened(feed)
for _ in range(int(iterations)):
    start = time.perf_counter()
    opened(feed)
    print(time.perf_counter() - start)
if answer:
    numpy.save(answer, result)
"""
ONNX_RUNTIME = """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
opened = lambda feed: session.run([output], {name: feed})[0]
"""
# Other outputs are cut off, which ONNX Runtime does by itself.
OPENVINO = """
import openvino
core = openvino.Core()
whole = core.read_model(model)
wanted = openvino.Model([whole.output(output).node], whole.get_parameters(), "wanted")
compiled = core.compile_model(wanted, "CPU", {
    "INFERENCE_NUM_THREADS": int(threads), "NUM_STREAMS": 1,
    "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision]})
request = compiled.create_infer_request()
opened = lambda feed: request.infer([feed], share_inputs=True, share_outputs=True)[0]
"""


class Peer(typing.NamedTuple):
    name: str
    package: str  # that says its version
    program: str
    precision: str

    def title(self, versions):
        return f"{self.name} {versions[self.package].partition('-')[0]}, {self.precision}"


# The first is the one that speed is told against.
PEERS = [Peer("ONNX Runtime", "onnxruntime", ONNX_RUNTIME, "fp32"),
         Peer("OpenVINO", "openvino", OPENVINO, "fp32"),
         Peer("OpenVINO", "openvino", OPENVINO, "bf16")]


def enter_environment(upgrade):
    """Goes on inside .venv-peers, which is made if need be."""
    complete = VENV / "complete"  # absent after an interrupted installation
    if not complete.exists():
        print(f"making {VENV.relative_to(ROOT)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    if upgrade or not complete.exists():
        wanted = [f"{name}=={major}.*" for name, major in PACKAGES.items()]
        print("installing", *wanted, file=sys.stderr)
        pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*pip, "--upgrade", *wanted]).returncode != 0:
            sys.exit(f"peers: cannot install {', '.join(wanted)}; is PyPI reachable, and has it "
                     f"wheels for Python {platform.python_version()}?")
        complete.touch()
    if pathlib.Path(sys.prefix) != VENV:
        arguments = [a for a in sys.argv[1:] if a != "--upgrade"]
        os.execv(PYTHON, [PYTHON, __file__, *arguments])


# ---- the networks ------------------------------------------------------------------------------


class OnnxGraph:
    """Collects the nodes and constants of one graph; each method returns its output's name."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def add(self, op, *inputs, **attributes):
        output = attributes.pop("output", f"{op}_{len(self.nodes)}")
        self.nodes.append(onnx.helper.make_node(op, inputs, [output], output, **attributes))
        return output

    def constant(self, value):
        name = f"constant_{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def save(self, path, source, outputs):
        def value(name, kind, shape):
            return onnx.helper.make_tensor_value_info(name, getattr(onnx.TensorProto, kind), shape)

        graph = onnx.helper.make_graph(self.nodes, path.stem, [value(*source)],
                                       [value(*output) for output in outputs], self.constants)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)],
                                       ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, path)


class Weights:
    """Random values under Tessera's names, scaled as He et al. (2015) do."""

    def __init__(self, seed):
        self.random, self.tensors = np.random.default_rng(seed), {}

    def normal(self, name, *shape, scale):
        value = (scale * self.random.standard_normal(shape)).astype(np.float32)
        self.tensors[name] = value
        return value

    def save(self, path, config):
        """As safetensors: length of the header, header, tensors."""
        header, offset = {"__metadata__": {"tessera": json.dumps(config)}}, 0
        for name, tensor in self.tensors.items():
            kind = {"float32": "F32", "uint8": "U8"}[str(tensor.dtype)]
            header[name] = {"dtype": kind, "shape": tensor.shape,
                            "data_offsets": [offset, offset + tensor.nbytes]}
            offset += tensor.nbytes
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(path, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for tensor in self.tensors.values():
                file.write(tensor.tobytes())


class UNet:
    """Ronneberger, Fischer & Brox 2015: 572 x 572 pixels in, 388 x 388 out."""

    title = "U-Net 2015, 1 x 572 x 572 x 1"
    output = "mask"
    variants = [("fp32", "auto"), ("fp32", "direct"), ("bf16", "auto")]
    checked = ["fp32", "bf16"]
    iterations, warmup = 3, 1
    depth, base, size, margin = 4, 64, 572, 92
    model, graph = WORK / "unet.safetensors", WORK / "unet.onnx"
    data, image = WORK / "unet.npy", WORK / "unet.pgm"

    def write(self):
        self.onnx, self.weights = OnnxGraph(), Weights(1)
        x, skips, size = "image", [], self.size
        for i in range(self.depth):
            x, size = self.convolutions(x, f"down{i}", 1 if i == 0 else self.base << (i - 1),
                                        self.base << i, size)
            skips.append((x, size))
            x, size = self.onnx.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), size // 2
        wide = self.base << self.depth
        x, size = self.convolutions(x, "bottom", wide // 2, wide, size)
        for i in reversed(range(self.depth)):
            c = self.base << i
            x, size = self.upsample(x, f"up{i}/upsample", 2 * c, c), 2 * size
            x = self.onnx.add("Concat", self.crop(*skips[i], size), x, axis=1)
            x, size = self.convolutions(x, f"up{i}", 2 * c, c, size)
        x = self.convolution(x, "head/conv", self.base, 2, 1)
        x = self.onnx.add("Softmax", x, axis=1, output="probabilities")
        self.onnx.add("ArgMax", x, axis=1, keepdims=0, output="mask")
        self.onnx.save(self.graph, ("image", "FLOAT", [1, 1, self.size, self.size]),
                       [("probabilities", "FLOAT", [1, 2, size, size]),
                        ("mask", "INT64", [1, size, size])])
        self.weights.save(self.model, {
            "format": 1, "architecture": "unet",
            "unet": {"depth": self.depth, "base": self.base, "channels": 1, "classes": 2},
            "preprocessing": {"channels": 1, "scale": "unit"}})
        # Tessera mirrors the borders of the image that it is given, the graph reads them from data.
        pixels = np.random.default_rng(2).integers(0, 256, (size, size), np.uint8)
        self.image.write_bytes(b"P5\n%d %d\n255\n" % (size, size) + pixels.tobytes())
        mirrored = np.pad(pixels, self.margin, mode="reflect")
        np.save(self.data, (mirrored / np.float32(255))[None, None])

    def bias(self, name, c):
        return self.onnx.constant(self.weights.normal(f"{name}/bias", c, scale=0.05))

    def convolution(self, x, name, c_in, c_out, k):
        weight = self.weights.normal(f"{name}/weight", c_out, c_in, k, k,
                                     scale=(2 / (c_in * k * k))**0.5)
        return self.onnx.add("Conv", x, self.onnx.constant(weight), self.bias(name, c_out))

    def convolutions(self, x, name, c_in, c_out, size):
        x = self.onnx.add("Relu", self.convolution(x, f"{name}/conv1", c_in, c_out, 3))
        x = self.onnx.add("Relu", self.convolution(x, f"{name}/conv2", c_out, c_out, 3))
        return x, size - 4

    def upsample(self, x, name, c_in, c_out):
        weight = self.weights.normal(f"{name}/weight", c_in, c_out, 2, 2, scale=c_in**-0.5)
        return self.onnx.add("ConvTranspose", x, self.onnx.constant(weight),
                             self.bias(name, c_out), strides=[2, 2])

    def crop(self, x, size, wanted):
        begin = (size - wanted) // 2
        limits = ([begin] * 2, [begin + wanted] * 2, [2, 3])
        return self.onnx.add("Slice", x, *(self.onnx.constant(np.int64(v)) for v in limits))

    def bench_arguments(self):
        return ["--size", str(self.size)]

    def command(self, precision="fp32"):
        return ["segment", self.image, "-m", self.model, "-o", WORK / precision,
                "--precision", precision, "--no-overlay", "--quiet"]

    def tessera_answer(self, program, threads, precision):
        program.run([*self.command(precision), "--probabilities"], threads)
        return np.load(WORK / precision / "unet.probabilities.npy")[0]  # (h, w, 2)

    def peer_answer(self, peer, threads):
        return run_peer(self, peer, threads, "probabilities")[0].transpose(1, 2, 0)


class ImageGraph:
    """A network of 512 x 512 pixels that both programs read as the same ONNX graph."""

    output = "logits"
    variants = [("fp32", "auto"), ("bf16", "auto")]
    checked = ["fp32", "bf16"]
    iterations, warmup = 5, 1
    channels, classes, size = 3, 2, 512

    def write(self):
        self.onnx, self.weights = OnnxGraph(), Weights(1)
        self.onnx.add("Identity", self.logits("image"), output="logits")
        self.onnx.save(self.graph, ("image", "FLOAT", [1, self.channels, self.size, self.size]),
                       [("logits", "FLOAT", [1, self.classes, self.size, self.size])])
        pixels = np.random.default_rng(2).random((1, self.channels, self.size, self.size))
        np.save(self.data, pixels.astype(np.float32))

    def convolution(self, x, name, c_in, c_out, k, stride=1, gain=2, bias=True):
        weight = self.weights.normal(f"{name}/weight", c_out, c_in, k, k,
                                     scale=(gain / (c_in * k * k))**0.5)
        constants = [self.onnx.constant(weight)]
        if bias:
            constants.append(self.onnx.constant(self.weights.normal(f"{name}/bias", c_out,
                                                                    scale=0.05)))
        return self.onnx.add("Conv", x, *constants, strides=[stride] * 2, pads=[k // 2] * 4)

    def near_one(self, name, c):
        return self.onnx.constant(1 + self.weights.normal(name, c, scale=0.1))

    def near_zero(self, name, c):
        return self.onnx.constant(self.weights.normal(name, c, scale=0.1))

    def bench_arguments(self):
        return ["--size", str(self.size)]

    def command(self, precision="fp32"):
        return ["run", self.model, "--input", self.data, "--output", WORK / f"{precision}.npy",
                "--precision", precision]

    def tessera_answer(self, program, threads, precision):
        program.run(self.command(precision), threads)
        return self.probabilities(np.load(WORK / f"{precision}.npy"))

    def peer_answer(self, peer, threads):
        return self.probabilities(run_peer(self, peer, threads, "logits"))

    @staticmethod
    def probabilities(logits):  # (1, classes, h, w) -> (h, w, classes)
        e = np.exp(logits[0] - logits[0].max(0))
        return (e / e.sum(0)).transpose(1, 2, 0)


class ResNetUNet(ImageGraph):
    """segmentation_models.pytorch's Unet("resnet34"): residual blocks, batch norm, nearest."""

    title = "ResNet34 U-Net, 1 x 512 x 512 x 3"
    model = graph = WORK / "resnet34-unet.onnx"
    data = WORK / "resnet34-unet.npy"

    def unit(self, x, name, c_in, c_out, k=3, stride=1, relu=True, gain=2):
        x = self.convolution(x, name, c_in, c_out, k, stride, gain, bias=False)
        x = self.onnx.add("BatchNormalization", x, self.near_one(f"{name}/gamma", c_out),
                          self.near_zero(f"{name}/beta", c_out),
                          self.near_zero(f"{name}/mean", c_out),
                          self.near_one(f"{name}/variance", c_out))
        return self.onnx.add("Relu", x) if relu else x

    def block(self, x, name, c_in, c_out, stride):
        y = self.unit(x, f"{name}/1", c_in, c_out, stride=stride)
        y = self.unit(y, f"{name}/2", c_out, c_out, relu=False, gain=0.5)
        if c_in != c_out:
            x = self.unit(x, f"{name}/short", c_in, c_out, 1, stride, relu=False, gain=1)
        return self.onnx.add("Relu", self.onnx.add("Add", y, x))

    def logits(self, x):
        skips = [self.unit(x, "stem", self.channels, 64, 7, 2)]
        x = self.onnx.add("MaxPool", skips[0], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        c = 64
        for stage, (blocks, wide) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
            for b in range(blocks):
                x = self.block(x, f"stage{stage}/{b}", c, wide, 2 if b == 0 and stage > 0 else 1)
                c = wide
            skips.append(x)
        skips.pop()
        for i, (skip, wide) in enumerate(((256, 256), (128, 128), (64, 64), (64, 32), (0, 16))):
            scales = self.onnx.constant(np.float32([1, 1, 2, 2]))
            x = self.onnx.add("Resize", x, "", scales, mode="nearest", nearest_mode="floor",
                              coordinate_transformation_mode="asymmetric")
            if skip:
                x = self.onnx.add("Concat", x, skips.pop(), axis=1)
            x = self.unit(x, f"up{i}/1", c + skip, wide)
            x = self.unit(x, f"up{i}/2", wide, wide)
            c = wide
        return self.convolution(x, "head", c, self.classes, 3, gain=1)


class NnUNet(ImageGraph):
    """nnU-Net v2 in 2-D: instance norm, LeakyReLU, strided convolutions down, transposed up."""

    title = "nnU-Net, 1 x 512 x 512 x 1"
    channels = 1
    model = graph = WORK / "nnunet.onnx"
    data = WORK / "nnunet.npy"
    widths = (32, 64, 128, 256, 512, 512, 512, 512)

    def unit(self, x, name, c_in, c_out, stride=1):
        x = self.convolution(x, name, c_in, c_out, 3, stride)
        x = self.onnx.add("InstanceNormalization", x, self.near_one(f"{name}/gamma", c_out),
                          self.near_zero(f"{name}/beta", c_out))
        return self.onnx.add("LeakyRelu", x, alpha=0.01)

    def units(self, x, name, c_in, c_out, stride=1):
        return self.unit(self.unit(x, f"{name}/1", c_in, c_out, stride), f"{name}/2", c_out, c_out)

    def logits(self, x):
        maps, c = [], self.channels
        for stage, wide in enumerate(self.widths):
            x, c = self.units(x, f"down{stage}", c, wide, 2 if stage > 0 else 1), wide
            maps.append((x, c))
        maps.pop()
        while maps:
            skip, wide = maps.pop()
            name = f"up{len(maps)}"
            weight = self.weights.normal(f"{name}/weight", c, wide, 2, 2, scale=c**-0.5)
            x = self.onnx.add("ConvTranspose", x, self.onnx.constant(weight),
                              self.near_zero(f"{name}/bias", wide), strides=[2, 2])
            x = self.units(self.onnx.add("Concat", x, skip, axis=1), name, 2 * wide, wide)
            c = wide
        return self.convolution(x, "head", c, self.classes, 1, gain=1)


class Han:
    """Yang et al. 2016 as the Keras tutorial has it: LSTM 150, dense 200, no masking."""

    title = "HAN, 1 x 64 sentences x 150 words"
    output = "probabilities"
    variants = [("fp32", "auto")]
    checked = ["fp32"]
    iterations, warmup = 20, 3
    sentences, words = 64, 150
    vocabulary, features, units, dense, classes, eps = 20_000, 100, 150, 200, 30, 1e-7
    model, graph = WORK / "han.safetensors", WORK / "han.onnx"
    data, text = WORK / "han.npy", WORK / "han.txt"

    def write(self):
        self.onnx, self.weights = OnnxGraph(), Weights(3)
        table = self.weights.normal("embedding/weight", self.vocabulary, self.features, scale=1)
        ids = self.onnx.add("Transpose", "ids", perm=[1, 0])  # an LSTM reads steps first
        x = self.onnx.add("Gather", self.onnx.constant(table), ids)
        x = self.level(x, "word", self.features)  # (sentences, 1, dense), as steps of one document
        x = self.level(x, "sentence", self.dense)
        # More gain at the end and in the attention, for answers that a wrong layer would change.
        x = self.linear(self.onnx.add("Squeeze", x, self.axis(1)), "output", self.dense,
                        self.classes, gain=8)
        self.onnx.add("Softmax", x, axis=1, output="probabilities")
        self.onnx.save(self.graph, ("ids", "INT32", [self.sentences, self.words]),
                       [("probabilities", "FLOAT", [1, self.classes])])
        first = 2  # 0 is padding, 1 an unknown word
        known = [f"w{i}" for i in range(first, self.vocabulary)]
        self.weights.tensors["vocabulary"] = np.frombuffer("\n".join(known).encode(), np.uint8)
        self.weights.save(self.model, {
            "format": 1, "architecture": "han",
            "han": {"words": self.vocabulary, "features": self.features, "cell": "lstm",
                    "units": self.units, "dense": self.dense, "attention": self.dense,
                    "masked": False, "eps": self.eps, "classes": self.classes,
                    "max_sentences": self.sentences, "max_words": self.words},
            "text": {"splitter": {"newlines": "every"}}})
        ids = np.random.default_rng(4).integers(first, self.vocabulary,
                                                (self.sentences, self.words), np.int32)
        np.save(self.data, ids)
        self.text.write_text("\n".join(" ".join(f"w{i}" for i in row) for row in ids))

    def axis(self, *values):
        return self.onnx.constant(np.int64(values))

    def linear(self, x, name, c_in, c_out, gain=2):
        weight = self.weights.normal(f"{name}/weight", c_out, c_in, scale=gain * c_in**-0.5)
        bias = self.weights.normal(f"{name}/bias", c_out, scale=0.1)
        x = self.onnx.add("MatMul", x, self.onnx.constant(weight.T))
        return self.onnx.add("Add", x, self.onnx.constant(bias))

    def level(self, x, name, c_in):
        """(steps, rows, c_in) -> (rows, 1, dense)"""
        x = self.linear(self.lstm(x, f"{name}/rnn", c_in), f"{name}/dense", 2 * self.units,
                        self.dense)
        hidden = self.onnx.add("Tanh", self.linear(x, f"{name}/attention", self.dense, self.dense))
        context = self.weights.normal(f"{name}/attention/context", self.dense, scale=0.3)
        score = self.onnx.add("MatMul", hidden, self.onnx.constant(context[:, None]))
        top = self.onnx.add("ReduceMax", score, axes=[1])
        share = self.onnx.add("Exp", self.onnx.add("Sub", score, top))  # (rows, steps, 1)
        total = self.onnx.add("ReduceSum", share, self.axis(1))
        eps = self.onnx.add("Mul", self.onnx.add("Exp", self.onnx.add("Neg", top)),
                            self.onnx.constant(np.float32(self.eps)))
        share = self.onnx.add("Div", share, self.onnx.add("Add", total, eps))
        return self.onnx.add("MatMul", self.onnx.add("Transpose", share, perm=[0, 2, 1]), x)

    def lstm(self, x, name, c_in):
        """(steps, rows, c_in) -> (rows, steps, 2 units)"""
        units = self.units

        def gates(value):  # from i, f, g, o to ONNX's i, o, f, g
            i, f, g, o = np.split(value, 4)
            return np.concatenate([i, o, f, g])

        def both(parameter, *shape):
            return [gates(self.weights.normal(f"{name}/{parameter}{direction}", *shape,
                                              scale=units**-0.5))
                    for direction in ("", "_reverse")]

        weight = np.stack(both("weight_ih", 4 * units, c_in))
        recurrence = np.stack(both("weight_hh", 4 * units, units))
        bias = np.concatenate([both("bias_ih", 4 * units), both("bias_hh", 4 * units)], axis=1)
        y = self.onnx.add("LSTM", x, *map(self.onnx.constant, (weight, recurrence, bias)),
                          hidden_size=units, direction="bidirectional")  # (steps, 2, rows, units)
        y = self.onnx.add("Transpose", y, perm=[2, 0, 1, 3])
        return self.onnx.add("Reshape", y, self.axis(0, 0, 2 * units))

    def bench_arguments(self):
        return ["--sentences", str(self.sentences), "--words", str(self.words)]

    def command(self):
        return ["classify", self.text, "-m", self.model, "--json"]

    def tessera_answer(self, program, threads, _precision):
        answer = json.loads(program.run(self.command(), threads))
        if answer["unknown_words"] + answer["words_dropped"] + answer["sentences_dropped"] > 0:
            sys.exit("peers: Tessera did not read every word that the peer reads")
        values = {one["label"]: one["probability"] for one in answer["probabilities"]}
        return np.float32([[values[f"class {i}"] for i in range(self.classes)]])

    def peer_answer(self, peer, threads):
        return run_peer(self, peer, threads, "probabilities")


# ---- measuring ---------------------------------------------------------------------------------


class Program:
    """The `tessera` program."""

    def __init__(self, path):
        self.path = pathlib.Path(path).resolve()
        if not os.access(self.path, os.X_OK):
            sys.exit(f"peers: no program at '{path}'; build it (cmake --build build), or name it "
                     "with --tessera")

    def run(self, arguments, threads):
        command = [str(a) for a in (self.path, *arguments, "--threads", threads)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"peers: '{shlex.join(command)}' ended with {done.returncode}")
        return done.stdout

    def bench(self, network, precision, technique, iterations, threads):
        report = json.loads(self.run(
            ["bench", "-m", network.model, *network.bench_arguments(), "--json",
             "--precision", precision, "--technique", technique, "--warmup", network.warmup,
             "--iterations", iterations], threads))
        return report["median_seconds"]

    def version(self):
        return subprocess.run([self.path, "--version"], capture_output=True, text=True,
                              check=True).stdout.splitlines()[0]


def peer_command(network, peer, threads, warmup, iterations, output, answer=""):
    return [str(a) for a in (PYTHON, "-c", PEER_PROGRAM.format(peer.program), network.graph,
                             network.data, output, peer.precision, threads, warmup, iterations,
                             answer)]


def run_peer(network, peer, threads, output):
    answer = WORK / "answer.npy"
    subprocess.run(peer_command(network, peer, threads, 1, 0, output, answer), check=True)
    return np.load(answer)


def bench_peer(network, peer, iterations, threads):
    command = peer_command(network, peer, threads, network.warmup, iterations, network.output)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return statistics.median(map(float, done.stdout.split()))


def compare(network, program, threads):
    """How far the answers to one input are from the first peer's, by program and precision."""
    expected, result = network.peer_answer(PEERS[0], threads), {}

    def judge(name, precision, found):
        if found.shape != expected.shape:
            sys.exit(f"peers: {name}'s answer is {found.shape}, the peer's {expected.shape}")
        difference = float(np.abs(found - expected).max())
        changed = int((found.argmax(-1) != expected.argmax(-1)).sum())
        print(f"  {name}, {precision}: largest difference of a probability {difference:.2g}, "
              f"{changed} of {expected[..., 0].size} labels differ", file=sys.stderr)
        # Written so that NaN fails too. What bf16 rounds away is reported, not judged; a peer may
        # round more than we do.
        most = LARGEST_DIFFERENCE * (1 if name == "Tessera" else 10)
        if precision == "fp32" and not difference <= most:
            sys.exit(f"peers: the answers differ by up to {difference}, expected at most {most}: "
                     "the programs do not compute the same")
        return {"largest_difference": difference, "labels_changed": changed,
                "labels": expected[..., 0].size}

    for peer in PEERS[1:]:
        result[f"{peer.name} {peer.precision}"] = judge(peer.name, peer.precision,
                                                        network.peer_answer(peer, threads))
    for precision in network.checked:
        result[precision] = judge("Tessera", precision,
                                  network.tessera_answer(program, threads, precision))
    return result


def cold_start(network, program, threads):
    """Median seconds of a whole process with one answer, by peer; last Tessera's."""
    starts = [lambda peer=peer: subprocess.run(
        peer_command(network, peer, threads, 1, 0, network.output), check=True) for peer in PEERS]
    starts.append(lambda: program.run(network.command(), threads))
    times = [[] for _ in starts]
    for _ in range(COLD_RUNS):
        for start, into in zip(starts, times):
            begin = time.perf_counter()
            start()
            into.append(time.perf_counter() - begin)
    return [statistics.median(one) for one in times]


def measure(network, program, options, versions):
    print(f"{network.title}: writing the networks", file=sys.stderr)
    network.write()
    answers = compare(network, program, options.threads)
    *peers_cold, tessera_cold = cold_start(network, program, options.threads)
    iterations = options.iterations or network.iterations
    peer_times = [[] for _ in PEERS]
    tessera_times = {variant: [] for variant in network.variants}
    for i in range(options.rounds):
        print(f"  round {i + 1} of {options.rounds}", file=sys.stderr)
        for peer, times in zip(PEERS, peer_times):
            times.append(bench_peer(network, peer, iterations, options.threads))
        for variant in network.variants:
            tessera_times[variant].append(
                program.bench(network, *variant, iterations, options.threads))

    def row(name, times, cold):
        speed = statistics.median(peer / own for peer, own in zip(peer_times[0], times))
        return {"name": name, "seconds": statistics.median(times), "rounds": times,
                "speed_against_peer": speed, "cold_start_seconds": cold}

    rows = [row(peer.title(versions), times, cold)
            for peer, times, cold in zip(PEERS, peer_times, peers_cold)]
    for (precision, technique), times in tessera_times.items():
        cold = tessera_cold if (precision, technique) == ("fp32", "auto") else None
        direct = ", direct" if technique == "direct" else ""
        rows.append(row(f"Tessera, {precision}{direct}", times, cold))
    return {"network": network.title, "warmup": network.warmup, "iterations": iterations,
            "rounds": options.rounds, "rows": rows, "answers": answers}


# ---- reporting ---------------------------------------------------------------------------------


def machine():
    text = pathlib.Path("/proc/cpuinfo").read_text()

    def field(*names):
        found = re.search(rf"^(?:{'|'.join(names)})\s*: (.*)$", text, re.MULTILINE)
        return found[1].strip() if found else ""

    interesting = re.compile(r"avx|amx|fma$|f16c$|asimd|sve|bf16")
    return {"cpu": field("model name") or platform.machine(),
            "family_model_stepping": [field(f) for f in ("cpu family", "model", "stepping")],
            "processors": len(os.sched_getaffinity(0)),
            "isa": [f for f in field("flags", "Features").split() if interesting.search(f)],
            "system": platform.platform(), "load_average_before": os.getloadavg()[0]}


def slug(name):
    """`name` as a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def commit():
    def git(*arguments):
        return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True,
                              text=True).stdout.strip()

    head = git("rev-parse", "HEAD") if shutil.which("git") else ""
    return head + ("+changes" if git("status", "--porcelain") else "") if head else "unknown"


def markdown(report):
    host = report["machine"]
    lines = [f"{host['cpu']}, threads: {report['threads']}; "
             + ", ".join(f"{name} {version}" for name, version in report["versions"].items()), ""]
    for result in report["results"]:
        lines += [f"| {result['network']} | median | rounds | speed | cold start |",
                  "|---|---:|---:|---:|---:|"]
        for row in result["rows"]:
            cold = row["cold_start_seconds"]
            lines.append(f"| {row['name']} | {1e3 * row['seconds']:.1f} ms "
                         f"| {1e3 * min(row['rounds']):.1f} to {1e3 * max(row['rounds']):.1f} ms "
                         f"| {row['speed_against_peer']:.2f} x "
                         f"| {f'{1e3 * cold:.0f} ms' if cold else ''} |")
        differences = ", ".join(
            f"{precision} {one['largest_difference']:.2g} "
            f"({one['labels_changed']} of {one['labels']} labels differ)"
            for precision, one in result["answers"].items())
        lines += ["", f"Largest difference of a probability from ONNX Runtime's: {differences}.", ""]
    return "\n".join(lines)


NETWORKS = {"unet": UNet, "resnet34-unet": ResNetUNet, "nnunet": NnUNet, "han": Han}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NAME",
                        help=f"{', '.join(NETWORKS)}; default: all")
    parser.add_argument("--threads", type=int, default=2, help="of all programs (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--iterations", type=int, help="of a round; default: UNet 3, HAN 20, others 5")
    parser.add_argument("--tessera", default=ROOT / "build" / "tessera", metavar="PROGRAM")
    parser.add_argument("-o", "--output", type=pathlib.Path, metavar="FILE",
                        help="default: tools/bench/results/<date>-<cpu>.json")
    parser.add_argument("--upgrade", action="store_true", help="install the peers' newest releases")
    options = parser.parse_args()
    for name in options.networks:
        if name not in NETWORKS:
            parser.error(f"expected {', '.join(NETWORKS)}, found '{name}'")
    for name in ("threads", "rounds", "iterations"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name}: expected at least 1, found {value}")
    return options


def main(options):
    program = Program(options.tessera)
    versions = {"Tessera": program.version().removeprefix("tessera "),
                **{name: importlib.metadata.version(name) for name in PACKAGES},
                "Python": platform.python_version()}
    host = machine()
    if host["load_average_before"] > 0.5:
        print(f"warning: the machine is busy (load {host['load_average_before']:.1f}); figures of "
              "a quiet one differ", file=sys.stderr)
    WORK.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.timezone.utc)
    report = {"date": now.isoformat(timespec="seconds"), "commit": commit(),
              "command": shlex.join(["tools/bench/peers.py", *sys.argv[1:]]),
              "machine": host, "versions": versions, "threads": options.threads,
              "results": [measure(NETWORKS[name](), program, options, versions)
                          for name in options.networks or NETWORKS]}
    cpu = slug(host["cpu"])
    path = options.output or RESULTS / f"{now:%Y-%m-%d}-{cpu}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(markdown(report))
    print(f"written to {path}", file=sys.stderr)


if __name__ == "__main__":
    arguments = parse_arguments()
    enter_environment(arguments.upgrade)
    import importlib.metadata

    import numpy as np
    import onnx
    import onnx.numpy_helper

    main(arguments)
