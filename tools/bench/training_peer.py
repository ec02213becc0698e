#!/usr/bin/env python3
"""The PyTorch half of tools/bench/training.py, which runs it in an environment with torch.

    training_peer.py write NETWORK FILE                 # a Tessera model file, untrained
    training_peer.py measure NETWORK VARIANT THREADS WARMUP STEPS

Both make the same weights. `measure` trains on the batch that `tessera bench --train` draws, and
prints seconds and losses of each step and the process's highest memory, as JSON. A step is
zero_grad, forward, cross-entropy, backward and the step of Adam, which is PyTorch's fused one.
"""

import json
import pathlib
import resource
import sys
import time

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
    variants = ["contiguous", "channels_last"]

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

    def prepare(self, variant):
        """Inputs, labels, optimisers."""
        draws = Draws()
        image = draws(self.batch, 1, self.size, self.size).astype(np.float32)
        image = torch.from_numpy(image / np.float32(2**32 - 1))
        with torch.no_grad():
            shape = self.eval()(image[:1]).shape
        self.train()
        if variant == "channels_last":
            self.to(memory_format=torch.channels_last)
            image = image.contiguous(memory_format=torch.channels_last)
        adam = torch.optim.Adam(self.parameters(), RATE, fused=True)
        return [image], draws.below(2, self.batch, *shape[2:]), [adam]


class Attention(nn.Linear):
    def __init__(self, features, units):
        super().__init__(features, units)
        self.context = nn.Parameter(torch.randn(units) * 0.3)

    def forward(self, x, lengths):
        score = torch.tanh(super().forward(x)) @ self.context
        padding = torch.arange(x.shape[1]) >= lengths[:, None]
        share = torch.softmax(score.masked_fill(padding, -1e9), 1)
        return torch.bmm(share[:, None], x)[:, 0]


class Han(Network):
    """Packed, the recurrence runs over words alone, which are embedded once packed; masked, it runs
    over the padding too and the attention alone leaves it out, which is not the same answer.
    Sparse, the embedding's gradient is, and SparseAdam updates its rows."""

    variants = ["packed", "packed, sparse", "masked", "masked, sparse"]

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
        filled = lengths > 0
        pack = nn.utils.rnn.pack_padded_sequence(x[filled], lengths[filled], batch_first=True,
                                                 enforce_sorted=False)
        y = nn.utils.rnn.pad_packed_sequence(rnn(pack._replace(data=embed(pack.data)))[0],
                                             batch_first=True, total_length=x.shape[1])[0]
        result = torch.zeros(len(x), y.shape[-1])
        result[filled] = attention(y, lengths[filled])
        return result

    def forward(self, ids, words, sentences):
        x = self.level("word", ids.flatten(0, 1), words.flatten(), self.layers["embedding"])
        x = self.level("sentence", x.unflatten(0, words.shape), sentences, lambda x: x)
        return self.layers["output"](x)

    def prepare(self, variant):
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
        self.packed = variant.startswith("packed")
        embedding = self.layers["embedding"]
        embedding.sparse = variant.endswith("sparse")
        others = [p for p in self.parameters() if p is not embedding.weight or not embedding.sparse]
        optimisers = [torch.optim.Adam(others, RATE, fused=True)]
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


def measure(name, variant, threads, warmup, steps):
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    network = make(name)
    inputs, labels, optimisers = network.prepare(variant)
    seconds, losses = [], []
    for _ in range(warmup + steps):
        start = time.perf_counter()
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss = F.cross_entropy(network(*inputs), labels)
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds[warmup:], "losses": losses, "peak_bytes": peak,
            "versions": {"PyTorch": torch.__version__, "numpy": np.__version__,
                         "Python": sys.version.split()[0]}}


def main(command, name, *rest):
    if command == "write":
        network = make(name)
        write_safetensors(pathlib.Path(rest[0]), network.tensors(), {"format": 1, **network.config})
    else:
        json.dump(measure(name, rest[0], *map(int, rest[1:])), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
