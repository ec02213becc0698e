#!/usr/bin/env python3
"""Golden files of Keras' hierarchical attention networks: tests/golden/import/keras_han_*.

    pip install tensorflow-cpu tf-keras keras h5py safetensors
    python3 tools/golden/make_keras_han_goldens.py

The networks of Hsankesara/DeepResearch (LSTM, dense layer, AttentionWithContext, a frozen embedding),
of richliao/textClassifier (GRU, AttLayer, mask_zero) and GRUs with reset_after, saved by tf-keras and
by Keras 3; one file in the layout of CuDNNGRU, written by hand; and Keras' tokenizers, as JSON and
pickled with protocols 2, 4 and 5. <name>.safetensors has word ids and what Keras makes of them.
"""

import os

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import json
import pickle
from pathlib import Path

import h5py
import numpy as np
import tensorflow as tf
import keras as keras3
import tf_keras as keras2
from safetensors.numpy import save_file

OUT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "import"
WORDS, FEATURES, SENTENCES, LENGTH, CLASSES = 20, 5, 4, 6, 3


def attention_layers(k):
    eps = 1e-7

    class AttentionWithContext(k.layers.Layer):
        """Of DeepResearch: as many hidden units as features; names end in _W, _b, _u."""

        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.supports_masking = True

        def build(self, shape):
            d = shape[-1]
            add = lambda suffix, s: self.add_weight(name=f"{self.name}_{suffix}", shape=s, initializer="glorot_uniform" if len(s) > 1 else "zeros")
            self.W, self.b, self.u = add("W", (d, d)), add("b", (d,)), add("u", (d,))
            super().build(shape)

        def compute_mask(self, inputs, mask=None):
            return None

        def call(self, x, mask=None):
            a = tf.exp(tf.tensordot(tf.tanh(tf.tensordot(x, self.W, 1) + self.b), self.u, 1))
            if mask is not None:
                a *= tf.cast(mask, a.dtype)
            a /= tf.reduce_sum(a, axis=1, keepdims=True) + eps
            return tf.reduce_sum(x * a[..., None], axis=1)

        def compute_output_shape(self, shape):
            return (shape[0], shape[-1])

    class AttLayer(AttentionWithContext):
        """Of richliao: W, b and u (A, 1)."""

        def __init__(self, attention_dim=7, **kwargs):
            super().__init__(**kwargs)
            self.attention_dim = attention_dim

        def build(self, shape):
            add = lambda name, s: self.add_weight(name=name, shape=s, initializer="glorot_uniform")
            a = self.attention_dim
            self.W, self.b, self.u = add("W", (shape[-1], a)), add("b", (a,)), add("u", (a, 1))
            self.built = True

        def call(self, x, mask=None):
            a = tf.exp(tf.squeeze(tf.tensordot(tf.tanh(tf.tensordot(x, self.W, 1) + self.b), self.u, 1), -1))
            if mask is not None:
                a *= tf.cast(mask, a.dtype)
            a /= tf.reduce_sum(a, axis=1, keepdims=True) + eps
            return tf.reduce_sum(x * a[..., None], axis=1)

    return AttentionWithContext, AttLayer


def build(k, cell, dense, layer, masked, frozen, last, **options):
    L = k.layers
    rnn = lambda: L.Bidirectional(getattr(L, cell)(4, return_sequences=True, **options))
    words = L.Input((LENGTH,), dtype="int32")
    x = L.Embedding(WORDS, FEATURES, mask_zero=masked, trainable=not frozen)(words)
    x = rnn()(x)
    if dense:
        x = L.TimeDistributed(L.Dense(6))(x)
    encoder = k.Model(words, layer()(x))
    document = L.Input((SENTENCES, LENGTH), dtype="int32")
    x = rnn()(L.TimeDistributed(encoder)(document))
    if dense:
        x = L.TimeDistributed(L.Dense(6))(x)
    x = L.Dropout(0.5)(layer()(x))
    return k.Model(document, L.Dense(*last[:1], activation=last[1])(x))


def documents(rng):
    ids = rng.integers(1, WORDS, (5, SENTENCES, LENGTH)).astype(np.int32)
    for i, (sentences, words) in enumerate([(4, 6), (4, 3), (2, 5), (1, 1), (3, 2)]):
        ids[i, sentences:] = 0
        ids[i, :, words:] = 0
    return ids


def to_cudnn_gru(source, target):
    """The same weights in CuDNNGRU's layout (the inverse of Keras' own conversion)."""
    with h5py.File(source) as f, h5py.File(target, "w") as g:
        config = json.loads(f.attrs["model_config"])

        def rename(value):
            if isinstance(value, dict):
                if value.get("class_name") == "GRU":
                    value["class_name"] = "CuDNNGRU"
                    for key in ("recurrent_activation", "reset_after", "activation", "use_bias"):
                        value["config"].pop(key)
                for item in value.values():
                    rename(item)
            elif isinstance(value, list):
                for item in value:
                    rename(item)

        rename(config)
        for key, value in f.attrs.items():
            g.attrs[key] = json.dumps(config) if key == "model_config" else value
        f.copy("model_weights", g)

        def convert(name, item):
            if isinstance(item, h5py.Dataset) and "gru" in name:
                v = item[()]
                if name.endswith("recurrent_kernel:0"):
                    item[...] = np.hstack([b.T for b in np.split(v, 3, axis=1)])
                elif name.endswith("kernel:0"):
                    item[...] = np.hstack([b.T.reshape(b.shape) for b in np.split(v, 3, axis=1)])

        g["model_weights"].visititems(convert)
        flat = [n for n in _datasets(g["model_weights"]) if "gru" in n and n.endswith("bias:0")]
        for name in flat:
            v = g["model_weights"][name][()].reshape(-1)
            del g["model_weights"][name]
            g["model_weights"][name] = v


def _datasets(group):
    names = []
    group.visititems(lambda n, o: names.append(n) if isinstance(o, h5py.Dataset) else None)
    return names


def main():
    soft = (CLASSES, "softmax")
    cases = {
        # name: (keras, formats, arguments)
        "deepresearch": (keras2, ["h5", "keras"], dict(cell="LSTM", dense=True, att=0, masked=False, frozen=True, last=soft)),
        "deepresearch_k3": (keras3, ["h5", "keras"], dict(cell="LSTM", dense=True, att=0, masked=False, frozen=True, last=(CLASSES, None))),
        "richliao": (keras2, ["h5"], dict(cell="GRU", dense=False, att=1, masked=True, frozen=False, last=soft, reset_after=False, recurrent_activation="hard_sigmoid")),
        "gru": (keras2, ["h5"], dict(cell="GRU", dense=False, att=1, masked=False, frozen=False, last=(1, "sigmoid"))),
        "gru_k3": (keras3, ["keras"], dict(cell="GRU", dense=False, att=1, masked=True, frozen=True, last=soft)),
    }
    for name, (k, formats, options) in cases.items():
        k.backend.clear_session()
        rng = np.random.default_rng(5)
        options = dict(options)
        layer = attention_layers(k)[options.pop("att")]
        model = build(k, layer=layer, **options)
        model.set_weights([rng.normal(0, 0.5, w.shape).astype(np.float32) for w in model.get_weights()])
        ids = documents(rng)
        answer = np.asarray(model(ids))
        if options["last"][1] is None:
            answer = tf.nn.softmax(answer).numpy()
        if answer.shape[1] == 1:
            answer = np.hstack([1 - answer, answer])
        print(name, answer.round(3).tolist())
        for ending in formats:
            model.save(str(OUT / f"keras_han_{name}.{ending}"), **({"include_optimizer": False} if k is keras2 and ending == "h5" else {}))
        save_file({"ids": ids, "probabilities": answer.astype(np.float32)}, str(OUT / f"keras_han_{name}.safetensors"))
        if name == "gru":
            to_cudnn_gru(OUT / "keras_han_gru.h5", OUT / "keras_han_cudnn.h5")

    from tf_keras.preprocessing.text import Tokenizer

    texts = ["The cat sat on the mat.", "A true story: the cat, the dog and a caf\u00e9!", "True or not"]
    plain = Tokenizer(num_words=12)
    plain.fit_on_texts(texts)
    oov = Tokenizer(oov_token=True, lower=True)  # as HAN.py of DeepResearch has it
    oov.fit_on_texts(texts)
    (OUT / "keras_tokenizer.json").write_text(plain.to_json())
    (OUT / "keras_tokenizer_twice.json").write_text(json.dumps(plain.to_json()))
    (OUT / "keras_tokenizer_true.json").write_text(oov.to_json())
    for protocol in (2, 4, 5):
        (OUT / f"keras_tokenizer_{protocol}.pickle").write_bytes(pickle.dumps(plain, protocol))


if __name__ == "__main__":
    main()
