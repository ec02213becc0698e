#!/usr/bin/env python3
"""Makes tests/golden/training/<network>.safetensors: ten optimiser steps of small networks, each on
another batch, taken by PyTorch on the CPU.

    apt-get install --no-install-recommends python3-torch python3-numpy
    /usr/bin/python3 tools/golden/make_training_goldens.py

The networks are torch.nn modules and the steps those of torch.optim, in f32. A file holds, under
the engine's names and in its layouts, "initial/<weight>" and "final/<weight>", the weights before
the first step and after the tenth; "batch<i>/input<j>", "batch<i>/labels" and for images
"batch<i>/weights"; and "losses" (10), each before its step. "losses_in_double" are those of the
same steps in f64, which say how much of a difference is PyTorch's own rounding. Of the metadata,
"tessera" is the configuration as in a model file, and "training" the optimiser's.

Each network is also run wrongly, once for each of its `mistakes`; a golden that one of them leaves
almost as it is would notice nothing, and is refused."""

import copy
import json
import pathlib

import torch
import torch.nn.functional as F
from torch import nn

from oracle import Values, nchw, nhwc, save

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "training"
STEPS = 10
# Of a loss, against PyTorch's own f64 run and against a run with a mistake.
MOST_ROUNDING, LEAST_MISTAKE = 1e-5, 1e-3


class Network(nn.Module):
    """Layers by their names in the engine: a parameter is "<layer>/<parameter>"."""

    def __init__(self):
        super().__init__()
        self.layers = {}

    def add(self, name, layer):
        self.layers[name] = layer
        self.add_module(name.replace("/", "_"), layer)

    def tensors(self):
        """name -> tensor, running statistics too; PyTorch numbers the layers of a recurrence."""
        return {f"{name}/{key.replace('_l0', '')}": tensor
                for name, layer in self.layers.items()
                for key, tensor in layer.state_dict(keep_vars=True).items()
                if key != "num_batches_tracked"}


class UNet(Network):
    def __init__(self, depth, base, channels, classes, padding, norm, **_):
        super().__init__()
        self.depth, self.same = depth, padding == "same"
        width = [base * 2**i for i in range(depth + 1)]

        def block(name, c_in, c_out):
            for conv, c in (("conv1", c_in), ("conv2", c_out)):
                self.add(f"{name}/{conv}", nn.Conv2d(c, c_out, 3, padding=int(self.same)))
                if norm == "before_relu":
                    self.add(f"{name}/{conv}/norm", nn.BatchNorm2d(c_out))

        for i in range(depth):
            block(f"down{i}", channels if i == 0 else width[i - 1], width[i])
        block("bottom", width[depth - 1], width[depth])
        for i in reversed(range(depth)):
            self.add(f"up{i}/upsample", nn.ConvTranspose2d(width[i + 1], width[i], 2, stride=2))
            block(f"up{i}", 2 * width[i], width[i])
        self.add("head/conv", nn.Conv2d(base, classes, 1))

    def block(self, name, x):
        for conv in ("conv1", "conv2"):
            x = self.layers[f"{name}/{conv}"](x)
            norm = self.layers.get(f"{name}/{conv}/norm")
            x = F.relu(x if norm is None else norm(x))
        return x

    def forward(self, image):
        x, skips = nchw(image), []
        for i in range(self.depth):
            skips.append(self.block(f"down{i}", x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.block("bottom", x)
        for i in reversed(range(self.depth)):
            x, skip = self.layers[f"up{i}/upsample"](x), skips[i]
            top, left = ((s - u) // 2 for s, u in zip(skip.shape[2:], x.shape[2:]))
            skip = skip[:, :, top:top + x.shape[2], left:left + x.shape[3]]
            x = self.block(f"up{i}", torch.cat((skip, x), 1))
        return nhwc(self.layers["head/conv"](x))


class General(Network):
    """A network whose nodes are written down one by one, for PyTorch and as a graph for the
    engine."""

    def __init__(self, channels):
        super().__init__()
        self.channels, self.nodes, self.steps = channels, [], []

    def node(self, name, op, inputs, run, **attributes):
        """`run` maps NCHW tensors to one; a module is a layer with weights of its own."""
        if isinstance(run, nn.Module):
            self.add(name, run)
        self.nodes.append({"name": name, "op": op, "in": inputs, **attributes})
        self.steps.append((name, inputs, run))
        return name

    def conv(self, name, x, c_in, c_out, k, stride=1, groups=1, bias=False, pad=None):
        pad = (k - 1) // 2 if pad is None else pad
        return self.node(name, "conv", [x],
                         nn.Conv2d(c_in, c_out, k, stride, pad, groups=groups, bias=bias),
                         c_out=c_out, kernel=[k, k], stride=[stride, stride], pads=[pad] * 4,
                         groups=groups, bias=bias)

    def graph(self):
        return {"version": 1, "inputs": [{"name": "image", "channels": self.channels}],
                "nodes": self.nodes,
                "outputs": [{"name": "classes", "value": self.nodes[-1]["name"], "kind": "logits",
                             "activation": "softmax"}]}

    def forward(self, image):
        values = {"image": nchw(image)}
        for name, inputs, run in self.steps:
            values[name] = run(*(values[x] for x in inputs))
        return nhwc(values[name])


class Constant(nn.Module):
    """A factor of each channel that nothing teaches."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("value", torch.empty(channels))

    def forward(self, x):
        return x * self.value[:, None, None]


def resnet_unet():
    """As ResNet-UNets have it: a mirrored border and a constant before any weight, a strided stem, an overlapping pool, a block with a short cut, a
    grouped convolution, nearest up-sampling."""
    net = General(3)

    def unit(name, x, c_in, c_out, k, stride=1, groups=1, relu=True, pad=None):
        x = net.conv(name, x, c_in, c_out, k, stride, groups, pad=pad)
        x = net.node(f"{name}/norm", "batch_norm", [x], nn.BatchNorm2d(c_out))
        return net.node(f"{name}/relu", "activation", [x], F.relu, kind="relu") if relu else x

    def up(name, x):
        return net.node(name, "resize", [x], lambda x: F.interpolate(x, scale_factor=2),
                        mode="nearest", coordinates="asymmetric", nearest="floor", scale_h=2,
                        scale_w=2)

    x = net.node("scale", "binary", ["image"], Constant(3), kind="mul", constant=[3])
    x = net.node("border", "pad", [x], lambda x: F.pad(x, (3, 3, 3, 3), mode="reflect"),
                 mode="reflect", pads=[0, 3, 3, 0, 0, 3, 3, 0])
    stem = unit("stem", x, 3, 6, 7, 2, pad=0)
    x = net.node("pool", "max_pool", [stem], nn.MaxPool2d(3, 2, 1), kernel=[3, 3], stride=[2, 2],
                 pads=[1] * 4)
    deep = unit("block/conv1", x, 6, 8, 3, 2)
    deep = unit("block/conv2", deep, 8, 8, 3, groups=2, relu=False)
    short = unit("block/short", x, 6, 8, 1, 2, relu=False)
    x = net.node("block/sum", "binary", [deep, short], torch.add, kind="add")
    x = net.node("block/relu", "activation", [x], F.relu, kind="relu")
    x = up("up2", up("up1", x))
    x = net.node("skip", "concat", [x, stem], lambda *x: torch.cat(x, 1), axis=-1)
    x = unit("decoder", x, 14, 6, 3)
    net.conv("head", up("up0", x), 6, 2, 3, bias=True)
    return net


def instance_unet():
    """As nnU-Nets and MONAI's UNets have it: norms of each image, leaky and parametric ReLU, strided
    and transposed convolutions of any window."""
    net = General(1)

    def unit(name, x, c_in, c_out, stride=1):
        # A bias before such a norm has no gradient but rounding, which Adam would blow up.
        x = net.conv(name, x, c_in, c_out, 3, stride)
        x = net.node(f"{name}/norm", "group_norm", [x],
                     nn.GroupNorm(c_out, c_out), groups=0, eps=1e-5, affine=True)
        return net.node(f"{name}/bent", "activation", [x], lambda x: F.leaky_relu(x, 0.01),
                        kind="leaky_relu", slope=0.01)

    def up(name, x, c_in, c_out, k, stride, padding, extra):
        return net.node(name, "conv_transpose", [x],
                        nn.ConvTranspose2d(c_in, c_out, k, stride, padding, extra),
                        c_out=c_out, kernel=0, bias=True, window=[k, k], stride=[stride, stride],
                        crop=[padding, padding - extra] * 2)

    first = unit("first", "image", 1, 4)
    second = unit("second", first, 4, 8, 2)
    x = unit("third", second, 8, 12, 2)
    x = up("up1/upsample", x, 12, 8, 2, 2, 0, 0)
    x = net.node("up1/join", "concat", [x, second], lambda *x: torch.cat(x, 1), axis=-1)
    x = unit("up1/conv", x, 16, 8)
    x = up("up0/upsample", x, 8, 4, 3, 2, 1, 1)
    x = net.node("up0/bent", "activation", [x], nn.PReLU(4), kind="prelu", per_channel=True)
    x = net.node("up0/join", "concat", [x, first], lambda *x: torch.cat(x, 1), axis=-1)
    net.conv("head", x, 8, 2, 1, bias=True)
    return net


class Attention(nn.Linear):
    def __init__(self, features, units, eps):
        super().__init__(features, units)
        self.context, self.eps = nn.Parameter(torch.empty(units)), eps

    def forward(self, x, lengths):
        a = torch.exp(torch.tanh(super().forward(x)) @ self.context)
        a = a * (torch.arange(x.shape[1]) < lengths[:, None])
        total = a.sum(-1, keepdim=True) + self.eps
        a = a / torch.where(total > 0, total, torch.ones_like(total))  # of no steps: zeros
        return (a[..., None] * x).sum(1)


class Han(Network):
    def __init__(self, words, features, cell, units, dense, attention, eps, classes, **_):
        super().__init__()
        self.add("embedding", nn.Embedding(words, features))
        for level in ("word", "sentence"):
            rnn = nn.LSTM if cell == "lstm" else nn.GRU
            self.add(f"{level}/rnn", rnn(features, units, batch_first=True, bidirectional=True))
            features = 2 * units
            if dense:
                self.add(f"{level}/dense", nn.Linear(features, dense))
                features = dense
            self.add(f"{level}/attention", Attention(features, attention, eps))
        self.add("output", nn.Linear(features, classes))

    def level(self, name, x, lengths):
        """x (rows, t, features) -> (rows, features)"""
        rnn, filled = self.layers[f"{name}/rnn"], lengths > 0  # PyTorch packs no empty rows
        packed = nn.utils.rnn.pack_padded_sequence(x[filled], lengths[filled], batch_first=True,
                                                   enforce_sorted=False)
        y = torch.zeros(*x.shape[:2], 2 * rnn.hidden_size, dtype=x.dtype)
        y[filled] = nn.utils.rnn.pad_packed_sequence(rnn(packed)[0], batch_first=True,
                                                     total_length=x.shape[1])[0]
        if f"{name}/dense" in self.layers:
            y = self.layers[f"{name}/dense"](y)
        return self.layers[f"{name}/attention"](y, lengths)

    def forward(self, ids, words, sentences):
        x = self.layers["embedding"](ids)
        x = self.level("word", x.flatten(0, 1), words.flatten()).unflatten(0, words.shape)
        return self.layers["output"](self.level("sentence", x, sentences))


def draw(network, values):
    """Values as an untrained network has them, but none special: no zeros, no ones; a HAN ends
    steeply, for gradients that are worth clipping."""
    for name, tensor in network.tensors().items():
        if name.endswith(("running_var", "/value")):
            drawn = values.uniform(0.5, 1.5, *tensor.shape)
        elif name.endswith("norm/weight"):
            drawn = values.normal(*tensor.shape, mean=1, scale=0.2)
        elif name in ("embedding/weight", "word/attention/context", "sentence/attention/context"):
            drawn = values.normal(*tensor.shape)
        elif tensor.dim() == 1:
            drawn = values.normal(*tensor.shape, scale=0.1)
        else:
            fan_in = tensor.shape[0] if name.endswith("upsample/weight") else tensor[0].numel()
            steep = 5 if name == "output/weight" else 1
            drawn = values.normal(*tensor.shape, scale=steep * (2 / fan_in)**0.5)
        tensor.data.copy_(drawn)


def image_batches(values, config, n, h, w, border):
    """Labels that follow from the image, so that there is something to learn: bright or dark after
    smoothing. With `border` pixels near the other class weigh more, a few nothing."""
    batches = []
    for _ in range(STEPS):
        image = values.normal(n, h, w, config["channels"])
        smooth = F.avg_pool2d(nchw(image), 5, stride=1, padding=2)[:, 0]
        labels = (smooth > 0).long()
        if config["padding"] == "valid":
            lost = [(extent - unet_output(extent, config["depth"])) // 2 for extent in (h, w)]
            labels = labels[:, lost[0]:h - lost[0], lost[1]:w - lost[1]]
        weights = values.uniform(0.5, 1.5, *labels.shape)
        if border:
            near = F.avg_pool2d(labels[:, None].double(), 3, stride=1, padding=1)[:, 0]
            weights = (1 + 10 * torch.exp(-(8 * (near - 0.5))**2 / 2)).float().double()
        weights[:, 0, :2] = 0
        batches.append({"inputs": [image], "labels": labels, "weights": weights})
    return batches


def unet_output(size, depth):
    for _ in range(depth):
        assert (size - 4) % 2 == 0
        size = (size - 4) // 2
    for _ in range(depth):
        size = 2 * (size - 4)
    return size - 4


def document_batches(values, config, documents):
    """Ragged documents, each with a word of its class in every sentence."""
    batches = []
    shape = (documents, config["max_sentences"])
    for step in range(STEPS):
        sentences = 1 + values.ids(config["max_sentences"], documents)
        sentences[step % documents] = config["max_sentences"]
        words = 1 + values.ids(config["max_words"], *shape)
        words *= torch.arange(shape[1]) < sentences[:, None]
        words[step % documents, 1] = 0  # an empty sentence between others
        labels = values.ids(config["classes"], documents)
        ids = 2 + values.ids(config["words"] - 2, *shape, config["max_words"])
        ids[..., 0] = 2 + labels[:, None]
        ids *= torch.arange(config["max_words"]) < words[..., None]
        batches.append({"inputs": [ids, words, sentences], "labels": labels, "weights": None})
    return batches


def loss_of(logits, labels, weights):
    losses = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
    if weights is None:
        return losses.mean()
    return (losses * weights.flatten()).sum() / weights.sum()


def decays(name):
    """All but biases, norms and context vectors, as is usual."""
    return not ("bias" in name or "norm/" in name or name.endswith("context"))


def optimiser_of(network, training):
    groups = [{"params": [p for name, p in network.tensors().items()
                          if isinstance(p, nn.Parameter) and decays(name) == decayed],
               "weight_decay": training.get("weight_decay", 0) if decayed else 0}
              for decayed in (True, False)]
    rate = training["rate"]
    if training["kind"] == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=training.get("momentum", 0))
    return (torch.optim.Adam if training["kind"] == "adam" else torch.optim.AdamW)(groups, lr=rate)


def run(network, batches, training, dtype):
    """Ten steps on a copy of the network: it, losses, norms of the gradients."""
    network = copy.deepcopy(network).to(dtype)
    optimiser, losses, norms = optimiser_of(network, training), [], []
    for batch in batches:
        inputs = [x.to(dtype) if x.is_floating_point() else x for x in batch["inputs"]]
        weights = None if batch["weights"] is None else batch["weights"].to(dtype)
        optimiser.zero_grad()
        loss = loss_of(network(*inputs), batch["labels"], weights)
        loss.backward()
        limit = training.get("clip_norm", 0) or float("inf")
        norms.append(float(nn.utils.clip_grad_norm_(network.parameters(), limit)))
        optimiser.step()
        losses.append(loss.detach())
    return network, torch.stack(losses), norms


def furthest(losses, others):
    return float(((losses.double() - others.double()) / others.double()).abs().max())


def make(name, network, values, batches, config, training, mistakes):
    draw(network, values)
    trained, losses, norms = run(network, batches, training, torch.float32)
    in_double, exact, _ = run(network, batches, training, torch.float64)
    print(f"{name}: losses", " ".join(f"{loss:.4f}" for loss in losses))
    print("  norms", " ".join(f"{norm:.3g}" for norm in norms))
    rounding = furthest(losses, exact)
    moved = max(float((w - in_double.tensors()[key]).abs().max())
                for key, w in trained.tensors().items())
    print(f"  rounding: losses {rounding:.2g}, weights {moved:.2g}")
    assert rounding < MOST_ROUNDING, "rounding decides: take a lower rate or another seed"
    for change in mistakes:
        wrong = furthest(run(network, batches, {**training, **change}, torch.float32)[1], exact)
        print(f"  with {change}: {wrong:.2g}")
        assert wrong > LEAST_MISTAKE, "a mistake would go unnoticed"
    tensors = {"losses": losses, "losses_in_double": exact}
    for key, w in network.tensors().items():
        tensors[f"initial/{key}"] = w.detach()
    for key, w in trained.tensors().items():
        tensors[f"final/{key}"] = w.detach()
    for i, batch in enumerate(batches):
        for j, x in enumerate(batch["inputs"]):
            tensors[f"batch{i}/input{j}"] = x
        labels = batch["labels"]
        tensors[f"batch{i}/labels"] = labels.to(torch.uint8) if labels.dim() > 1 else labels
        if batch["weights"] is not None:
            tensors[f"batch{i}/weights"] = batch["weights"]
    save(FOLDER / f"{name}.safetensors", tensors,
         {"tessera": json.dumps(config), "training": json.dumps(training)})


def make_unet(name, seed, config, n, h, w, border, training, mistakes):
    config = {"depth": 2, "base": 4, "channels": 1, "classes": 2, "up": "transposed2", **config}
    values = Values(seed)
    batches = image_batches(values, config, n, h, w, border)
    make(name, UNet(**config), values, batches,
         {"format": 1, "architecture": "unet", "unet": config}, training, mistakes)


def make_general(name, seed, network, n, h, w, training, mistakes):
    values = Values(seed)
    batches = image_batches(values, {"channels": network.channels, "padding": "same"}, n, h, w,
                            False)
    make(name, network, values, batches,
         {"format": 1, "architecture": "graph", "graph": network.graph(),
          "sizes": {"multiple": 8}, "preprocessing": {"channels": network.channels},
          "classes": [{"name": "dark"}, {"name": "bright"}]}, training, mistakes)


def make_han(name, seed, config, documents, training, mistakes):
    config = {"words": 40, "features": 10, "units": 7, "dense": 0, "attention": 9, "masked": True,
              "classes": 3, "max_sentences": 4, "max_words": 6, **config}
    values = Values(seed)
    batches = document_batches(values, config, documents)
    make(name, Han(**config), values, batches,
         {"format": 1, "architecture": "han", "han": config}, training, mistakes)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    make_unet("unet_same_norm", 1, {"padding": "same", "norm": "before_relu"}, 2, 24, 32, False,
              {"kind": "sgd", "rate": 0.05, "momentum": 0.9, "weight_decay": 0.02},
              [{"momentum": 0.8}, {"weight_decay": 0}])
    make_unet("unet_valid", 2, {"padding": "valid", "norm": "none"}, 1, 52, 60, True,
              {"kind": "sgd", "rate": 0.002, "momentum": 0.99}, [{"momentum": 0.9}])
    make_han("han_gru", 3, {"cell": "gru", "reset_after": True, "eps": 1e-7}, 5,
             {"kind": "adam", "rate": 0.005, "clip_norm": 5}, [{"clip_norm": 0}])
    make_han("han_lstm", 4, {"cell": "lstm", "dense": 8, "eps": 0.0}, 5,
             {"kind": "adamw", "rate": 0.01, "weight_decay": 0.1},
             [{"weight_decay": 0}, {"kind": "adam"}])
    make_general("residual_batch", 5, resnet_unet(), 2, 24, 32,
                 {"kind": "sgd", "rate": 0.05, "momentum": 0.9}, [{"momentum": 0.8}])
    make_general("residual_instance", 6, instance_unet(), 2, 16, 24,
                 {"kind": "adam", "rate": 0.005}, [{"kind": "sgd"}, {"rate": 0.004}])


if __name__ == "__main__":
    main()
