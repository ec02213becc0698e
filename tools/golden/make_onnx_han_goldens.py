#!/usr/bin/env python3
"""Makes tests/golden/import/onnx_han/: small HANs as PyTorch's two exporters and tf2onnx write them,
and what ONNX Runtime computes with them: NAME.onnx, word ids (NAME.ids.npy, and numbers of words and
sentences where the file reads them) and probabilities (NAME.expected.npy).

    python3 -m pip install torch onnx onnxscript onnxruntime tensorflow tf-keras tf2onnx numpy
    tools/golden/make_onnx_han_goldens.py
"""

import os
import pathlib
import warnings

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "import" / "onnx_han"
WORDS, CLASSES, SENTENCES, LENGTH = 30, 3, 4, 6


class Attention(nn.Module):
    """cedias' and sgrvinod's: a layer, a context without bias, a softmax or exp / (sum + eps)."""

    def __init__(self, width, units, eps):
        super().__init__()
        self.layer, self.context = nn.Linear(width, units), nn.Linear(units, 1, bias=False)
        self.eps = eps
        nn.init.normal_(self.context.weight)

    def forward(self, h, mask=None):
        e = self.context(torch.tanh(self.layer(h)))[..., 0]
        if mask is None and self.eps == 0:
            a = torch.softmax(e, 1)
        else:
            a = torch.exp(e)
            a = a if mask is None else a * mask
            a = a / (a.sum(1, keepdim=True) + self.eps)
        return (h * a.unsqueeze(2)).sum(1)


class Han(nn.Module):
    def __init__(self, cell=nn.GRU, features=6, units=5, attention=7, eps=0.0):
        super().__init__()
        self.embed = nn.Embedding(WORDS, features)
        self.word = cell(features, units, batch_first=True, bidirectional=True)
        self.word_attention = Attention(2 * units, attention, eps)
        self.sent = cell(2 * units, units, batch_first=True, bidirectional=True)
        self.sent_attention = Attention(2 * units, attention, eps)
        self.fc = nn.Linear(2 * units, CLASSES)

    def forward(self, ids):
        documents, sentences, words = ids.shape
        x = self.embed(ids.reshape(documents * sentences, words))
        x = self.word_attention(self.word(x)[0]).reshape(documents, sentences, -1)
        return self.fc(self.sent_attention(self.sent(x)[0]))


class Packed(Han):
    """Padding takes no part: sequences are packed by their lengths, and attention is masked."""

    @staticmethod
    def run(layer, x, lengths, total):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=total)[0]

    def forward(self, ids, words, sentences):
        n, s, w = ids.shape
        x = self.embed(ids.reshape(n * s, w))
        lengths = words.reshape(-1)
        h = self.run(self.word, x, lengths, w)
        x = self.word_attention(h, (torch.arange(w)[None] < lengths[:, None]).float())
        x = x.reshape(n, s, -1)
        h = self.run(self.sent, x, sentences, s)
        return self.fc(self.sent_attention(h, (torch.arange(s)[None] < sentences[:, None]).float()))


class Carried(nn.Module):
    """uvipen's: the state goes from sentence to sentence, and the score has a tanh."""

    def __init__(self, features=6, units=5):
        super().__init__()
        width = 2 * units
        self.units = units
        self.lookup = nn.Embedding(WORDS, features)
        self.word, self.sent = nn.GRU(features, units, bidirectional=True), nn.GRU(
            width, units, bidirectional=True)
        self.fc = nn.Linear(width, CLASSES)
        self.weights = nn.ParameterList(
            [nn.Parameter(torch.randn(*shape) * 0.5)
             for shape in [(width, width), (1, width), (width, 1)] * 2])

    @staticmethod
    def attend(x, weight, bias, context):
        e = torch.tanh(torch.matmul(torch.tanh(torch.matmul(x, weight) + bias), context))[..., 0]
        return (x * torch.softmax(e.t(), 1).t().unsqueeze(2)).sum(0)

    def forward(self, ids):
        state, sentences = torch.zeros(2, ids.shape[0], self.units), []
        for sentence in ids.permute(1, 0, 2):
            y, state = self.word(self.lookup(sentence.permute(1, 0)), state)
            sentences.append(self.attend(y, *self.weights[:3]))
        y, _ = self.sent(torch.stack(sentences))
        return torch.softmax(self.fc(self.attend(y, *self.weights[3:])), 1)


class Pooled(Han):
    """No HAN: the largest of the steps in place of attention."""

    def forward(self, ids):
        documents, sentences, words = ids.shape
        x = self.embed(ids.reshape(documents * sentences, words))
        x = self.word(x)[0].max(1)[0].reshape(documents, sentences, -1)
        return self.fc(self.sent(x)[0].max(1)[0])


def strip(path):
    """Leaves out where in which source each node was written."""
    model = onnx.load(path)
    for part in [*model.graph.node, *model.graph.value_info, *model.graph.input,
                 *model.graph.output, *model.graph.initializer, model.graph]:
        del part.metadata_props[:]
        part.ClearField("doc_string")
    onnx.save(model, path)


def save(name, inputs):
    """What ONNX Runtime gives; logits become probabilities."""
    session = onnxruntime.InferenceSession(str(FOLDER / f"{name}.onnx"))
    names = [i.name for i in session.get_inputs()]
    answer = session.run(None, dict(zip(names, inputs)))[0].astype(np.float64)
    if np.abs(answer.sum(1) - 1).max() > 1e-5:
        answer = np.exp(answer - answer.max(1, keepdims=True))
        answer /= answer.sum(1, keepdims=True)
    for part, array in zip(["ids", "words", "sentences"], inputs):
        np.save(FOLDER / f"{name}.{part}.npy", array)
    np.save(FOLDER / f"{name}.expected.npy", answer.astype(np.float32))


def torch_han(name, net, dynamo, dynamic=False, packed=False):
    torch.manual_seed(sum(map(ord, name)))
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5)
    ids = torch.randint(1, WORDS, (1, SENTENCES, LENGTH))
    args = [ids]
    if packed:
        words, sentences = torch.tensor([[6, 2, 5, 1]]), torch.tensor([3])
        args += [words, sentences]
    names = ["ids", "words", "sentences"][:len(args)]
    axes = {}
    if dynamic and dynamo:
        axes["dynamic_shapes"] = ({0: torch.export.Dim("n"), 1: torch.export.Dim("s"),
                                   2: torch.export.Dim("w")},)
        args[0] = ids.repeat(2, 1, 1)
    elif dynamic:
        axes["dynamic_axes"] = {"ids": {0: "n", 1: "s", 2: "w"}, "words": {0: "n", 1: "s"},
                                "sentences": {0: "n"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net.eval(), tuple(args), str(FOLDER / f"{name}.onnx"), input_names=names,
                          dynamo=dynamo, external_data=False, **axes)
    strip(FOLDER / f"{name}.onnx")
    save(name, [arg[:1].numpy() for arg in args])


def keras_hans():
    import tensorflow as tf
    import tf2onnx
    import tf_keras as keras
    layers = keras.layers

    class AttLayer(layers.Layer):
        """richliao's."""

        def __init__(self, units):
            super().__init__()
            self.units = units

        def build(self, shape):
            weight = lambda n, s: self.add_weight(name=n, shape=s, initializer="random_normal")
            self.w, self.b = weight("W", (shape[-1], self.units)), weight("b", (self.units,))
            self.u = weight("u", (self.units, 1))

        def call(self, x):
            e = tf.exp(tf.squeeze(tf.tensordot(tf.tanh(tf.tensordot(x, self.w, 1) + self.b),
                                               self.u, 1), -1))
            e = e / (tf.reduce_sum(e, 1, keepdims=True) + 1e-7)
            return tf.reduce_sum(x * tf.expand_dims(e, -1), 1)

    def build(cell, masked, dense):
        def level(x):
            x = layers.Bidirectional(cell(4, return_sequences=True))(x)
            x = layers.TimeDistributed(layers.Dense(6))(x) if dense else x
            return AttLayer(7)(x)
        words = layers.Input((LENGTH,), dtype="int32")
        encoder = keras.Model(words, level(layers.Embedding(WORDS, 5, mask_zero=masked)(words)))
        document = layers.Input((SENTENCES, LENGTH), dtype="int32")
        x = level(layers.TimeDistributed(encoder)(document))
        net = keras.Model(document, layers.Dense(CLASSES, activation="softmax")(x))
        random = np.random.default_rng(len(net.weights))
        net.set_weights([random.normal(0, 0.5, w.shape).astype(np.float32)
                         for w in net.get_weights()])
        return net

    ids = np.random.default_rng(1).integers(0, WORDS, (1, SENTENCES, LENGTH)).astype(np.int32)
    for name, cell, masked, dense in [("keras_gru", layers.GRU, False, False),
                                      ("keras_lstm_dense", layers.LSTM, False, True),
                                      ("keras_loops", layers.GRU, True, False)]:
        signature = [tf.TensorSpec((None, SENTENCES, LENGTH), tf.int32, name="docs")]
        tf2onnx.convert.from_keras(build(cell, masked, dense), input_signature=signature,
                                   opset=15, output_path=str(FOLDER / f"{name}.onnx"))
        if not masked:
            save(name, [ids])


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch_han("torch_gru", Han(), dynamo=False)
    torch_han("torch_gru_open", Han(eps=1e-4), dynamo=False, dynamic=True)
    torch_han("torch_packed", Packed(), dynamo=False, packed=True)
    torch_han("torch_packed_open", Packed(nn.LSTM), dynamo=False, dynamic=True, packed=True)
    torch_han("torch_carried", Carried(), dynamo=False)
    torch_han("dynamo_lstm", Han(nn.LSTM, eps=1e-4), dynamo=True)
    torch_han("dynamo_gru_open", Han(), dynamo=True, dynamic=True)
    torch_han("dynamo_carried", Carried(), dynamo=True)
    torch_han("torch_pooled", Pooled(), dynamo=False)
    keras_hans()


if __name__ == "__main__":
    main()
