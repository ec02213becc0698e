#!/usr/bin/env python3
"""Makes tests/golden/models/<model>.safetensors: a small network with random weights as a complete
model file (configuration in metadata "tessera"), plus inputs and the outputs expected of it,
computed with PyTorch in float64 and rounded to f32 once.

    apt-get install --no-install-recommends python3-torch python3-numpy
    /usr/bin/python3 tools/golden/make_model_goldens.py

UNet: "golden/input" (n, h, w, channels) -> "golden/output" (n, ho, wo, classes), probabilities; a
second pair of another size is "golden/input2", "golden/output2".
HAN: "golden/input" (documents, sentences, words), word ids; with masking "golden/sentence_lengths"
(documents, sentences), words in each sentence, and "golden/document_lengths" (documents), sentences
in each -> "golden/output" (documents, classes), "golden/word_attention" (documents, sentences,
words), "golden/sentence_attention" (documents, sentences)."""

import json
import pathlib

import torch
import torch.nn.functional as F

from oracle import Values, attention, bi_rnn, exact, nchw, nhwc, rnn_weights, save

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "models"

UNET = {"depth": 4, "base": 4, "channels": 1, "classes": 2, "padding": "valid", "norm": "none",
        "norm_eps": 1e-5, "conv_bias": True, "up": "transposed2", "align_corners": True,
        "up_relu": False, "concat": "skip_up", "head": "conv1", "head_relu": False,
        "output": "softmax"}
HAN = {"words": 23, "features": 10, "cell": "lstm", "units": 6, "gate": "sigmoid",
       "reset_after": True, "dense": 8, "attention": 8, "masked": False, "eps": 1e-7, "classes": 5,
       "max_sentences": 4, "max_words": 7}


def report(logits):
    """For whoever changes a network: logits without spread would make a weak golden."""
    print(f"  logits {tuple(logits.shape)}: {logits.mean():.2f} +- {logits.std():.2f}")


class UNet:
    """Owns the weights, which it draws when a layer first runs, and runs the network."""

    def __init__(self, config, seed):
        self.config, self.values, self.weights = config, Values(seed), {}

    def weight(self, name, draw):
        if name not in self.weights:
            self.weights[name] = draw()
        return self.weights[name]

    def conv(self, x, name, c_out, kernel=3, padding=None, relu=True, block=True):
        """`block`: with the norm and bias that the configuration gives to all but a 1x1 head."""
        c_in, values = x.shape[1], self.values
        # He et al. 2015; more at the head, for answers that differ between pixels.
        gain = (2 if relu else 1) * (10 if name == "head/conv" else 1) / (c_in * kernel**2)
        weight = self.weight(f"{name}/weight",
                             lambda: values.normal(c_out, c_in, kernel, kernel, scale=gain**0.5))
        bias = None
        if self.config["conv_bias"] or not block:
            bias = self.weight(f"{name}/bias", lambda: values.normal(c_out, scale=0.1))
        if padding is None:
            padding = kernel // 2 if self.config["padding"] == "same" else 0
        x = F.conv2d(x, weight, bias, padding=padding)
        norm = self.config["norm"] if block else "none"
        if norm == "before_relu":
            x = self.norm(x, name)
        if relu:
            x = F.relu(x)
        if norm == "after_relu":
            x = self.norm(x, name)
        return x

    def norm(self, x, name):
        c, values = x.shape[1], self.values
        # Near what training would have gathered, so that signals stay of order one.
        mean = self.weight(f"{name}/norm/running_mean",
                           lambda: exact(x.mean((0, 2, 3)) + values.normal(c, scale=0.2)))
        var = self.weight(f"{name}/norm/running_var",
                          lambda: exact(x.var((0, 2, 3)) * values.uniform(0.5, 1.5, c) + 0.05))
        gamma = self.weight(f"{name}/norm/weight", lambda: values.normal(c, mean=1, scale=0.2))
        beta = self.weight(f"{name}/norm/bias", lambda: values.normal(c, scale=0.2))
        return F.batch_norm(x, mean, var, gamma, beta, False, 0, self.config["norm_eps"])

    def upsample(self, x, name, c_out):
        """`c_out` is what a transposed convolution makes of x; bilinear keeps x's channels."""
        if self.config["up"] == "bilinear":
            return F.interpolate(x, scale_factor=2, mode="bilinear",
                                 align_corners=self.config["align_corners"])
        kernel = 2 if self.config["up"] == "transposed2" else 3
        padding = 0 if kernel == 2 else 1
        c_in, values = x.shape[1], self.values
        # Of the kernel's taps, kernel^2 / 4 reach an output pixel on average.
        weight = self.weight(
            f"{name}/weight",
            lambda: values.normal(c_in, c_out, kernel, kernel, scale=(kernel**2 / 4 * c_in)**-0.5))
        bias = self.weight(f"{name}/bias", lambda: values.normal(c_out, scale=0.1))
        x = F.conv_transpose2d(x, weight, bias, stride=2, padding=padding, output_padding=padding)
        return F.relu(x) if self.config["up_relu"] else x

    def join(self, skip, up):
        dy, dx = skip.shape[2] - up.shape[2], skip.shape[3] - up.shape[3]
        if self.config["padding"] == "same":
            up = F.pad(up, (dx // 2, dx - dx // 2, dy // 2, dy - dy // 2))
        else:
            skip = skip[:, :, dy // 2:dy // 2 + up.shape[2], dx // 2:dx // 2 + up.shape[3]]
        return torch.cat((skip, up) if self.config["concat"] == "skip_up" else (up, skip), 1)

    def __call__(self, image):
        config, x, skips = self.config, nchw(image), []
        depth, classes = config["depth"], config["classes"]
        width = [config["base"] * 2**i for i in range(depth + 1)]
        # Bilinear up-sampling has no weights to halve the channels: the convolutions below do it.
        halved = 2 if config["up"] == "bilinear" else 1
        for i in range(depth):
            x = self.conv(x, f"down{i}/conv1", width[i])
            x = self.conv(x, f"down{i}/conv2", width[i])
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.conv(x, "bottom/conv1", width[depth] // halved)
        x = self.conv(x, "bottom/conv2", width[depth] // halved)
        for i in reversed(range(depth)):
            x = self.join(skips[i], self.upsample(x, f"up{i}/upsample", width[i]))
            x = self.conv(x, f"up{i}/conv1", width[i])
            x = self.conv(x, f"up{i}/conv2", width[i] // (halved if i > 0 else 1))
        if config["head"] == "conv3":
            logits = self.conv(x, "head/conv", classes, padding=1)
        else:
            logits = self.conv(x, "head/conv", classes, kernel=1, relu=config["head_relu"],
                               block=False)
        report(logits)
        logits = nhwc(logits)
        return torch.softmax(logits, -1) if config["output"] == "softmax" else torch.sigmoid(logits)


def make_unet(name, seed, sizes, **changes):
    config = {**UNET, **changes}
    network, tensors = UNet(config, seed), {}
    for suffix, (n, h, w) in zip(("", "2"), sizes):
        image = network.values.normal(n, h, w, config["channels"])
        tensors["golden/input" + suffix] = image
        tensors["golden/output" + suffix] = network(image)
    save(FOLDER / f"{name}.safetensors", {**network.weights, **tensors},
         {"tessera": json.dumps({"format": 1, "architecture": "unet", "unet": config})})


def han_weights(values, config):
    weights = {"embedding/weight": values.normal(config["words"], config["features"])}
    features = config["features"]
    for level in ("word", "sentence"):
        rnn = rnn_weights(values, config["cell"], features, config["units"], scale=0.4)
        weights.update({f"{level}/rnn/{name}": tensor for name, tensor in rnn.items()})
        features = 2 * config["units"]
        if config["dense"]:
            weights[f"{level}/dense/weight"] = values.normal(config["dense"], features, scale=0.5)
            weights[f"{level}/dense/bias"] = values.normal(config["dense"], scale=0.2)
            features = config["dense"]
        weights[f"{level}/attention/weight"] = values.normal(config["attention"], features)
        weights[f"{level}/attention/bias"] = values.normal(config["attention"], scale=0.2)
        weights[f"{level}/attention/context"] = values.normal(config["attention"])
    weights["output/weight"] = values.normal(config["classes"], features)
    weights["output/bias"] = values.normal(config["classes"], scale=0.2)
    return weights


def han(config, weights, ids, words_in_sentence, sentences_in_document):
    """-> probabilities (documents, classes), attention of words and of sentences."""

    def level(x, lengths, name):
        rnn = {key.rsplit("/", 1)[1]: tensor for key, tensor in weights.items()
               if key.startswith(f"{name}/rnn/")}
        x = bi_rnn(x, lengths, rnn, config["cell"], config["gate"], config["reset_after"])
        if config["dense"]:
            x = F.linear(x, weights[f"{name}/dense/weight"], weights[f"{name}/dense/bias"])
        scorer = {key: weights[f"{name}/attention/{key}"] for key in ("weight", "bias", "context")}
        return attention(x, lengths, scorer, config["eps"])

    words = F.embedding(ids, weights["embedding/weight"])
    sentences, word_attention = level(words, words_in_sentence, "word")
    documents, sentence_attention = level(sentences, sentences_in_document, "sentence")
    logits = F.linear(documents, weights["output/weight"], weights["output/bias"])
    report(logits)
    return torch.softmax(logits, -1), word_attention, sentence_attention


def make_han(name, seed, documents, **changes):
    """`documents`: the words in each sentence of each document; the rest is padding, id 0."""
    config, values = {**HAN, **changes}, Values(seed)
    weights = han_weights(values, config)
    lengths = torch.zeros(len(documents), config["max_sentences"], dtype=torch.int64)
    for row, sentences in enumerate(documents):
        lengths[row, :len(sentences)] = torch.tensor(sentences)
    ids = 1 + values.ids(config["words"] - 1, *lengths.shape, config["max_words"])
    ids = ids * (torch.arange(config["max_words"]) < lengths[..., None])
    tensors = {"golden/input": ids}
    masks = (None, None)
    if config["masked"]:
        masks = (lengths, (lengths > 0).sum(-1))
        tensors["golden/sentence_lengths"], tensors["golden/document_lengths"] = masks
    (tensors["golden/output"], tensors["golden/word_attention"],
     tensors["golden/sentence_attention"]) = han(config, weights, ids, *masks)
    save(FOLDER / f"{name}.safetensors", {**weights, **tensors},
         {"tessera": json.dumps({"format": 1, "architecture": "han", "han": config})})


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    # 188 is the smallest size that the paper's network takes.
    make_unet("unet_paper", 1, [(1, 188, 188), (1, 188, 204)])
    make_unet("unet_tutorial", 2, [(1, 92, 92), (1, 100, 92)], depth=3, norm="after_relu",
              up="transposed3", concat="up_skip", head="conv3")
    make_unet("unet_tf", 3, [(2, 48, 52)], depth=2, channels=3, classes=3, up_relu=True,
              head_relu=True)
    make_unet("unet_same", 4, [(1, 37, 45), (2, 16, 8)], depth=3, channels=3, classes=3,
              padding="same", norm="before_relu", conv_bias=False)
    make_unet("unet_bilinear", 5, [(1, 37, 45)], depth=3, classes=1, padding="same",
              norm="before_relu", conv_bias=False, up="bilinear", output="sigmoid")
    # Shorter than the padded size, as the tutorial feeds them: the padding takes part.
    ragged = [[7, 3, 1, 5], [2], [4, 7]]
    make_han("han_tutorial", 6, ragged)
    make_han("han_tutorial_hard_sigmoid", 7, ragged, gate="hard_sigmoid")
    make_han("han_paper", 8, [[7, 1, 5, 2], [1], [3, 6], [1, 1, 7]], cell="gru", dense=0,
             attention=12, masked=True, eps=0.0)
    make_han("han_keras_gru", 9, ragged, cell="gru", gate="hard_sigmoid", reset_after=False)
