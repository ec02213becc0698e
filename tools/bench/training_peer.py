#!/usr/bin/env python3
"""The PyTorch half of tools/bench/training.py, which runs it in an environment with torch.

    training_peer.py write DIR NETWORK... [--device cuda]   # Tessera model files, untrained
    training_peer.py measure NETWORK VARIANT... [--device cuda --precision bf16,tf32]

Both make the same weights. `write` prints what it runs on, as JSON. `measure` trains on the batch
that `tessera bench --train` draws, and prints a line of JSON for each variant in each precision:
seconds and losses of each step and the highest memory, or an error. A step is zero_grad, forward,
cross-entropy, backward and the step of Adam, which is PyTorch's fused one. On a GPU the batch comes
from the host's memory, as Tessera's does, though pinned; the memory is that of PyTorch's tensors on
the GPU, else the process's.
"""

import argparse
import gc
import json
import pathlib
import resource
import sys
import time
import traceback

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from gpu_peers import write_safetensors

RATE = 1e-3
FIRST_WORD = 2  # 0 is padding, 1 an unknown word


class Draws:
    """The numbers of C++'s std::mt19937(1)."""

    def __init__(self):
        self.random = np.random.RandomState(1)

    def __call__(self, *shape):
        return self.random.randint(0, 2**32, shape, np.uint32)

    def below(self, n, *shape):
        return torch.from_numpy((self(*shape) % np.uint32(n)).astype(np.int64))


class Network(nn.Module):
    """Layers by their names in the engine."""

    def __init__(self):
        super().__init__()
        self.layers = {}

    def add(self, name, layer):
        self.layers[name] = layer
        self.add_module(name.replace("/", "_"), layer)

    def tensors(self):
        return {f"{name}/{key.replace('_l0', '')}": tensor.numpy()
                for name, layer in self.layers.items()
                for key, tensor in layer.state_dict().items() if key != "num_batches_tracked"}


class UNet(Network):
    def __init__(self, batch, size, depth, base, padding, norm):
        super().__init__()
        self.batch, self.size, self.depth, self.same = batch, size, depth, padding == "same"
        self.config = {"architecture": "unet",
                       "unet": {"depth": depth, "base": base, "channels": 1, "classes": 2,
                                "padding": padding, "norm": norm},
                       "preprocessing": {"channels": 1, "scale": "unit"}}

        def pair(name, c_in, c_out):
            for conv, c in (("conv1", c_in), ("conv2", c_out)):
                self.add(f"{name}/{conv}", nn.Conv2d(c, c_out, 3, padding=int(self.same)))
                if norm == "before_relu":
                    self.add(f"{name}/{conv}/norm", nn.BatchNorm2d(c_out))

        for i in range(depth + 1):
            pair(f"down{i}" if i < depth else "bottom", base << (i - 1) if i > 0 else 1, base << i)
        for i in reversed(range(depth)):
            self.add(f"up{i}/upsample", nn.ConvTranspose2d(base << (i + 1), base << i, 2, 2))
            pair(f"up{i}", base << (i + 1), base << i)
        self.add("head/conv", nn.Conv2d(base, 2, 1))
        for layer in self.layers.values():  # He et al. 2015; a transposed one sums over c_in
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=(2 / layer.weight[0].numel())**0.5)
            elif isinstance(layer, nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=(2 / layer.in_channels)**0.5)

    def pair(self, name, x):
        for conv in ("conv1", "conv2"):
            x = self.layers[f"{name}/{conv}"](x)
            norm = self.layers.get(f"{name}/{conv}/norm")
            x = F.relu(x if norm is None else norm(x))
        return x

    def forward(self, x):
        skips = []
        for i in range(self.depth):
            skips.append(self.pair(f"down{i}", x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.pair("bottom", x)
        for i in reversed(range(self.depth)):
            x, skip = self.layers[f"up{i}/upsample"](x), skips[i]
            if not self.same:
                cut = (skip.shape[2] - x.shape[2]) // 2
                skip = skip[:, :, cut:cut + x.shape[2], cut:cut + x.shape[3]]
            x = self.pair(f"up{i}", torch.cat((skip, x), 1))
        return self.layers["head/conv"](x)

    def prepare(self, variant, device):
        """Inputs and labels, on the host, and optimisers."""
        draws = Draws()
        image = draws(self.batch, 1, self.size, self.size).astype(np.float32)
        image = torch.from_numpy(image / np.float32(2**32 - 1))
        with torch.no_grad():
            shape = self.eval()(image[:1]).shape
        self.train().to(device)
        if "channels_last" in variant:
            self.to(memory_format=torch.channels_last)
            image = image.contiguous(memory_format=torch.channels_last)
        return [image], draws.below(2, self.batch, *shape[2:]), [adam(self.parameters(), variant)]


def adam(parameters, variant):
    return torch.optim.Adam(parameters, RATE, fused=True, capturable="CUDA graph" in variant)


class Attention(nn.Linear):
    def __init__(self, features, units):
        super().__init__(features, units)
        self.context = nn.Parameter(torch.randn(units) * 0.3)

    def forward(self, x, lengths):
        score = torch.tanh(super().forward(x)) @ self.context
        padding = torch.arange(x.shape[1], device=x.device) >= lengths[:, None]
        share = torch.softmax(score.masked_fill(padding, -1e9), 1)
        return torch.bmm(share[:, None], x)[:, 0]


class Han(Network):
    """Packed, the recurrence runs over words alone, which are embedded once packed; masked, it runs
    over the padding too and the attention alone leaves it out, which is not the same answer.
    Sparse, the embedding's gradient is, and SparseAdam updates its rows."""

    def __init__(self, batch, sentences, words, ragged, units=50, features=100, attention=100,
                 vocabulary=30_000):
        super().__init__()
        self.batch, self.size, self.ragged = batch, (sentences, words), ragged
        self.vocabulary, self.packed = vocabulary, True
        self.config = {"architecture": "han",
                       "han": {"words": vocabulary, "features": features, "cell": "gru",
                               "units": units, "attention": attention, "masked": True,
                               "classes": 2, "max_sentences": sentences, "max_words": words},
                       "text": {"splitter": {"newlines": "every"}}}
        self.add("embedding", nn.Embedding(vocabulary, features))
        for level in ("word", "sentence"):
            self.add(f"{level}/rnn", nn.GRU(features, units, batch_first=True, bidirectional=True))
            features = 2 * units
            self.add(f"{level}/attention", Attention(features, attention))
        self.add("output", nn.Linear(features, 2))

    def tensors(self):
        known = "\n".join(f"w{i}" for i in range(FIRST_WORD, self.vocabulary))
        return {**super().tensors(), "vocabulary": np.frombuffer(known.encode(), np.uint8)}

    def level(self, name, x, lengths, embed):
        """x (rows, t, ...) -> (rows, features); with `packed` of rows that are not empty."""
        rnn, attention = self.layers[f"{name}/rnn"], self.layers[f"{name}/attention"]
        if not self.packed:
            return attention(rnn(embed(x))[0], lengths)
        on_host = self.on_host[name]  # packing reads lengths there
        filled = on_host > 0
        filled = slice(None) if filled.all() else filled  # a view, no gather
        pack = nn.utils.rnn.pack_padded_sequence(x[filled], on_host[filled], batch_first=True,
                                                 enforce_sorted=False)
        y = nn.utils.rnn.pad_packed_sequence(rnn(pack._replace(data=embed(pack.data)))[0],
                                             batch_first=True, total_length=x.shape[1])[0]
        y = attention(y, lengths[filled])
        result = y.new_zeros(len(x), y.shape[-1])
        result[filled] = y
        return result

    def forward(self, ids, words, sentences):
        x = self.level("word", ids.flatten(0, 1), words.flatten(), self.layers["embedding"])
        x = self.level("sentence", x.unflatten(0, words.shape), sentences, lambda x: x)
        return self.layers["output"](x)

    def prepare(self, variant, device):
        draws, batch, (sentences, words) = Draws(), self.batch, self.size

        def lengths(most, count):
            drawn = 1 + draws.below(most, count)
            drawn[0 if self.ragged else slice(None)] = most
            return drawn

        in_document = lengths(sentences, batch)
        in_sentence = lengths(words, batch * sentences).reshape(batch, sentences)
        in_sentence *= torch.arange(sentences) < in_document[:, None]
        ids = FIRST_WORD + draws.below(self.vocabulary - FIRST_WORD, batch, sentences, words)
        ids *= torch.arange(words) < in_sentence[..., None]
        labels = draws.below(2, batch)
        self.packed = "packed" in variant
        self.on_host = {"word": in_sentence.flatten(), "sentence": in_document}
        self.to(device)
        embedding = self.layers["embedding"]
        embedding.sparse = "sparse" in variant
        others = [p for p in self.parameters() if p is not embedding.weight or not embedding.sparse]
        optimisers = [adam(others, variant)]
        if embedding.sparse:
            optimisers.append(torch.optim.SparseAdam([embedding.weight], RATE))
        return [ids, in_sentence, in_document], labels, optimisers


NETWORKS = {
    # The recipe's of ISBI 2012, and the paper's.
    "unet": lambda: UNet(batch=4, size=256, depth=4, base=16, padding="same", norm="before_relu"),
    "unet-paper": lambda: UNet(batch=1, size=572, depth=4, base=64, padding="valid", norm="none"),
    # The recipe's of IMDB; documents as long as they may be, and of every length up to that.
    "han": lambda: Han(batch=64, sentences=20, words=40, ragged=False),
    "han-ragged": lambda: Han(batch=64, sentences=20, words=40, ragged=True),
}


def make(name):
    torch.manual_seed(1)
    return NETWORKS[name]()


# ---- measuring ---------------------------------------------------------------------------------


class Step:
    """A step of training, which returns its loss."""

    def __init__(self, network, variant, device, precision):
        self.device, self.mixed = device, precision == "bf16"
        inputs, labels, self.optimisers = network.prepare(variant, device)
        self.network = torch.compile(network) if "torch.compile" in variant else network
        self.batch = [*inputs, labels]
        if device == "cuda":  # labels are bytes on the way, as Tessera's are
            self.batch = [one.pin_memory() for one in (*inputs, labels.to(torch.uint8))]

    def update(self, batch):
        *inputs, labels = batch
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.mixed):
            loss = F.cross_entropy(self.network(*inputs), labels.long())
        loss.backward()
        for optimiser in self.optimisers:
            optimiser.step()
        return loss.detach()

    def run(self):
        return self.update([one.to(self.device, non_blocking=True) for one in self.batch])

    def __call__(self):
        loss = self.run().item()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return loss


class GraphStep(Step):
    """The whole step is one CUDA graph, captured at the third, whose loss is still compared. The
    two before it run on another stream, as PyTorch asks: they make the state of the optimiser and
    let cuDNN choose."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.on_device = [one.to(self.device) for one in self.batch]
        self.stream, self.eager_steps, self.graph = torch.cuda.Stream(), 2, None

    def run(self):
        for own, given in zip(self.on_device, self.batch):
            own.copy_(given, non_blocking=True)
        if self.eager_steps > 0:
            self.eager_steps -= 1
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                loss = self.update(self.on_device)
            torch.cuda.current_stream().wait_stream(self.stream)
            return loss
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.loss = self.update(self.on_device)
        self.graph.replay()
        return self.loss


def measure(name, variant, precision, options):
    """`variant`: words such as "channels_last"."""
    on_gpu = options.device == "cuda"
    if on_gpu:
        # fp32 is PyTorch's own arithmetic alone, which for cuDNN is not the default.
        tf32 = precision != "fp32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        gc.collect()  # of the measurement before
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    make_step = GraphStep if "CUDA graph" in variant else Step
    step = make_step(make(name), variant, options.device, precision)
    seconds, losses = [], []
    for _ in range(options.warmup + options.iterations):
        start = time.perf_counter()
        losses.append(step())
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if on_gpu else \
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds[options.warmup:], "losses": losses, "peak_bytes": peak}


def describe(device):
    facts = {"versions": {"PyTorch": torch.__version__, "numpy": np.__version__,
                          "Python": sys.version.split()[0]}}
    if device == "cuda":
        if not torch.cuda.is_available():
            sys.exit("training_peer: PyTorch sees no GPU")
        facts["versions"].update({"CUDA": torch.version.cuda,
                                  "cuDNN": torch.backends.cudnn.version()})
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def measure_all(options):
    if options.threads > 0:
        torch.set_num_threads(options.threads)
        torch.set_num_interop_threads(1)
    for variant in options.variants:
        for precision in options.precision.split(","):
            result = {"variant": variant, "precision": precision}
            try:
                result.update(measure(options.network, variant.split(", "), precision, options))
            except Exception as error:  # of one variant: its line says so, the others go on
                traceback.print_exc()
                first = (str(error).strip().splitlines() or [""])[0]
                result["error"] = f"{type(error).__name__}: {first[:200]}"
            print(json.dumps(result), flush=True)


def write(options):
    print(json.dumps(describe(options.device)))
    for name in options.networks:
        network = make(name)
        write_safetensors(options.folder / f"{name}.safetensors", network.tensors(),
                          {"format": 1, **network.config})


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("write")
    command.set_defaults(run=write)
    command.add_argument("folder", type=pathlib.Path)
    command.add_argument("networks", nargs="+", choices=NETWORKS)
    command.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    command = commands.add_parser("measure")
    command.set_defaults(run=measure_all)
    command.add_argument("network", choices=NETWORKS)
    command.add_argument("variants", nargs="+")
    command.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    command.add_argument("--precision", default="fp32", help="several with commas between")
    command.add_argument("--threads", type=int, default=0, help="0: PyTorch's own choice")
    command.add_argument("--warmup", type=int, default=3)
    command.add_argument("--iterations", type=int, default=10)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
